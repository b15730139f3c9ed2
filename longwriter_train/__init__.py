"""What `axolotl train` needs to train as LongWriter's paper says.

`LossPlugin` is one line in a recipe:

    plugins:
      - longwriter_train.LossPlugin
    loss_average: token  # or sequence, or upstream

Importing this package loads neither torch nor axolotl.
"""

from typing import Any

__all__ = ["LossPlugin", "preference"]


def __getattr__(name: str) -> Any:
    """`LossPlugin`, imported when axolotl asks for it."""
    if name != "LossPlugin":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from longwriter_train.loss.plugin import LossPlugin

    return LossPlugin


def preference(cfg: Any, **named: Any) -> Any:
    """`type: longwriter_train.preference`: axolotl looks for it at the top of a package.

    See `longwriter_train.chat.preference`.
    """
    from longwriter_train import chat

    return chat.preference(cfg, **named)
