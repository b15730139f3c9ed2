"""Rewards for `rl: grpo`, as in LongWriter-Zero (arXiv 2506.18841).

A recipe refers to them by name:

    trainer_cls: longwriter_train.rewards.RewardTrainer   # averages the normalised rewards
    datasets:
      - type: longwriter_train.prompts                    # instructions with ranges of length
    trl:
      reward_funcs:
        - longwriter_train.rewards.length
        - longwriter_train.rewards.form
        - longwriter_train.rewards.quality                # a judge; or the path of a reward model

Importing this package imports neither torch nor axolotl.
"""

from typing import Any

from longwriter_train.rewards.judging import quality
from longwriter_train.rewards.rules import form, length

__all__ = ["RewardTrainer", "form", "length", "quality"]


def __getattr__(name: str) -> Any:
    """Create `RewardTrainer` on first access, because it needs axolotl."""
    if name != "RewardTrainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from longwriter_train.rewards.trainer import trainer_class

    return trainer_class()
