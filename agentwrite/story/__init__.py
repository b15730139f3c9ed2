"""Consistency of long texts: a state of the story, and a critic. Both are off by default."""
