"""Resumable runs over many instructions."""
