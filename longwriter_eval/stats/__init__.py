"""Confidence intervals, tests and agreement between judges."""
