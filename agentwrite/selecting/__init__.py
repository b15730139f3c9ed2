"""Choosing instructions that need long texts."""
