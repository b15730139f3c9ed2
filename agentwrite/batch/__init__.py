"""Many texts, resumable."""
