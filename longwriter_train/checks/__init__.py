"""Checks of recipe and data before anything is loaded or paid for.

    plugins:
      - longwriter_train.checks.ChecksPlugin

The plugin refuses keys that axolotl would drop without a word, and JSONL files with rows that
cannot be trained on, or whose prompts hold benchmark prompts. Such rows of a data set from the hub
are skipped, and listed. axolotl does not notice when a file or chat template has changed since it
prepared the data; with this plugin it prepares them again.

Importing this package does not import axolotl.
"""

from typing import Any

__all__ = ["ChecksArgs", "ChecksPlugin"]


def __getattr__(name: str) -> Any:
    """`ChecksPlugin` and `ChecksArgs`, for which axolotl is imported."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from longwriter_train.checks import plugin

    return getattr(plugin, name)
