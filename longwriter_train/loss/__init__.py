"""An optimiser step's loss as one average over its global batch.

averages      each average as divisors of the tokens' losses; a fused, weighted cross-entropy
requirements  the setting `loss_average`, and the conditions under which the average is correct
trainer       the trainer that applies the average, and a sampler that packs every sequence
plugin        the axolotl plugin

Only `plugin` needs axolotl on import. The other modules need torch and transformers.
"""
