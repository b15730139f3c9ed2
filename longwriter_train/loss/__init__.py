"""An optimiser step's loss as one average over its global batch.

averages      each average as divisors of the tokens' losses; a fused, weighted cross-entropy
requirements  the recipe's setting, and what it takes for the average to be right
trainer       the trainer that applies it, and its sampler, which packs every sequence
plugin        the axolotl plugin

All but `plugin` can be imported where there is torch and transformers, but no axolotl.
"""
