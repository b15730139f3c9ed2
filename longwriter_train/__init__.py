"""Extensions that let `axolotl train` reproduce the training of the LongWriter paper.

A recipe refers to them by name:

    plugins:
      - longwriter_train.checks.ChecksPlugin   # checks recipe and data before training
      - longwriter_train.LossPlugin            # averages a step's loss over its global batch
    loss_average: token                        # or sequence, or upstream
    trainer_cls: longwriter_train.dpo.ChunkedDPOTrainer   # DPO on responses of 32k tokens
    datasets:
      - type: longwriter_train.chat            # SFT rows
      - type: longwriter_train.preference      # DPO rows
      - type: longwriter_train.prompts         # prompts for GRPO: see longwriter_train.rewards

Importing this package imports neither torch nor axolotl.
"""

from typing import Any

__all__ = ["LossPlugin", "preference", "prompts"]


def __getattr__(name: str) -> Any:
    """Import `LossPlugin` on first access."""
    if name != "LossPlugin":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from longwriter_train.loss.plugin import LossPlugin

    return LossPlugin


def preference(cfg: Any, **options: Any) -> Any:
    """`type: longwriter_train.preference`. See `longwriter_train.chat.preference`.

    axolotl looks up DPO strategies in the top-level module of a package, so the function is
    defined here.
    """
    from longwriter_train import chat

    return chat.preference(cfg, **options)


def prompts(cfg: Any, **options: Any) -> Any:
    """`type: longwriter_train.prompts`. See `longwriter_train.rewards.prompts`."""
    from longwriter_train.rewards import prompts

    return prompts.load(cfg, **options)
