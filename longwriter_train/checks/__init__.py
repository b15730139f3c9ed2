"""Checks of the recipe and its data before training starts.

    plugins:
      - longwriter_train.checks.ChecksPlugin

The plugin refuses keys that axolotl would silently drop. It also refuses JSONL files with rows that
cannot be trained on or whose prompts contain benchmark prompts. In a data set from the hub, such
rows are skipped and listed. axolotl does not notice when a file or chat template has changed since
it prepared the data. This plugin makes axolotl prepare the data again after such a change.

Importing this package does not import axolotl.
"""

from typing import Any

__all__ = ["ChecksArgs", "ChecksPlugin"]


def __getattr__(name: str) -> Any:
    """Import `ChecksPlugin` and `ChecksArgs` on first access, because they need axolotl."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from longwriter_train.checks import plugin

    return getattr(plugin, name)
