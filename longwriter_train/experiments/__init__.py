"""The paper's own analyses, and what they need: `longwriter experiment`.

output_length  output length follows the longest SFT output (section 2)
loss_average   token, sequence and upstream averages of the loss (section 4.1)
nll            the parts of a long output depend on each other: NLL by position (section 3)
training       fine-tuning on one device, and generation
synthetic      a model and data so small that a CPU runs an experiment in about a minute
results        the table, the figure and the JSON file of an experiment

All modules but `results` import torch inside functions.
"""
