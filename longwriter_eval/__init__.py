"""Measure very long writing: LongBench-Write and LongWrite-Ruler for lm-evaluation-harness.

Importing this package does no work: no network, no environment reads, no torch.
"""

__version__ = "0.1.0"
