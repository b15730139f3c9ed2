"""The version that results and submissions record."""

__version__ = "0.1.0"
