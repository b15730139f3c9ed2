"""Select instructions that need long texts."""
