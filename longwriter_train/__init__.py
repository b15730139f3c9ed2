"""What the training recipes need inside axolotl. Importing this loads nothing heavy."""

from typing import Any


def preference(cfg: Any, **named: Any) -> Any:
    """`type: longwriter_train.preference`: axolotl looks for DPO's strategies in top-level modules.

    See `longwriter_train.chat.preference`.
    """
    from longwriter_train import chat

    return chat.preference(cfg, **named)
