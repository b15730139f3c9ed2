"""GRPO whose advantage is the mean of rewards that are each normalised within their group.

TRL's `multi_objective_aggregation: normalize_then_sum` normalises each reward within the group of a
prompt's completions and adds them, as LongWriter-Zero does. But it then divides the sum by its
standard deviation over the whole batch, so a batch whose rewards contradict each other moves the
model as far as one whose rewards agree. Here the advantage is the mean itself.
"""

import sys
from functools import cache
from typing import Any

import torch
from transformers import Trainer

from longwriter_core.errors import InputError
from longwriter_train.rewards import judging

_EPSILON = 1e-4  # added to a standard deviation, as in TRL


def average_advantages(
    rewards: torch.Tensor, group_size: int, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the advantage of each completion: the weighted mean of its normalised rewards.

    `rewards` is completions × rewards, with the completions of a prompt next to each other. Each
    reward is normalised by its mean and standard deviation in the group. A missing reward is NaN:
    it counts neither in its group nor in the completion's mean. Without any reward the advantage
    is 0.
    """
    grouped = rewards.view(-1, group_size, rewards.shape[1])
    is_known = ~grouped.isnan()
    count = is_known.sum(dim=1, keepdim=True)
    known = grouped.nan_to_num(0.0)
    mean = known.sum(dim=1, keepdim=True) / count.clamp(min=1)
    deviation = torch.where(is_known, known - mean, 0.0)
    std = (deviation.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    normalised = deviation / (std + _EPSILON)
    if weights is None:
        weights = torch.ones(rewards.shape[1], device=rewards.device)
    used = weights.to(rewards.device) * is_known
    return ((normalised * used).sum(dim=2) / used.sum(dim=2).clamp(min=1e-12)).view(-1)


class AveragedRewards(Trainer):  # type: ignore[misc]
    """The mixin that `RewardTrainer` puts before axolotl's GRPO trainer.

    If the judge of `rewards.quality` cannot be reached, it saves a checkpoint and exits with 1.
    Raises InputError for settings that it does not compute.
    """

    def __init__(self, *positional: Any, args: Any, **named: Any) -> None:
        if args.multi_objective_aggregation != "normalize_then_sum":
            raise InputError(
                "RewardTrainer normalises each reward on its own: set "
                "trl.multi_objective_aggregation: normalize_then_sum"
            )
        super().__init__(*positional, args=args, **named)
        if bool((self.reward_weights < 0).any()) or not self.reward_weights.sum() > 0:
            raise InputError("trl.reward_weights must be 0 or more, and not all 0")

    def _calculate_rewards(self, *positional: Any, **named: Any) -> torch.Tensor:
        """Return the rewards of all ranks' completions, each judged or without a reward."""
        self._rewards = super()._calculate_rewards(*positional, **named)
        self._exit_without_judge()
        return self._rewards

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        size = self.num_generations if self.model.training else self.num_generations_eval
        advantages = average_advantages(self._rewards, size, self.reward_weights)
        local = len(output["advantages"])
        start = self.accelerator.process_index * local
        output["advantages"] = advantages[start : start + local]
        return output

    def _exit_without_judge(self) -> None:
        """Save a checkpoint and exit with 1 if any rank's judge cannot be reached."""
        outage = judging.outage()
        is_down = torch.tensor([outage is not None], device=self.accelerator.device)
        if not self.accelerator.gather(is_down).any():
            return
        if outage:
            print(f"longwriter: error: {outage}", file=sys.stderr, flush=True)
        self._save_checkpoint(self.model, trial=None)
        if self.accelerator.is_main_process:
            print(
                f"longwriter: saved step {self.state.global_step} in {self.args.output_dir}: "
                "correct the judge, and resume with --auto-resume-from-checkpoints",
                file=sys.stderr,
                flush=True,
            )
        self.accelerator.wait_for_everyone()  # a launcher ends all ranks when the first one exits
        raise SystemExit(1)


@cache
def trainer_class() -> type[Any]:
    """Return `RewardTrainer`: axolotl's GRPO trainer with averaged rewards."""
    from axolotl.core.trainers.grpo.trainer import AxolotlGRPOTrainer

    documentation = "axolotl's GRPO trainer; the advantage is the mean of normalised rewards."
    return type(
        "RewardTrainer",
        (AveragedRewards, AxolotlGRPOTrainer),
        {"__doc__": documentation, "__module__": __name__},
    )
