"""The `lm_eval` command with a model of several gloo ranks, `--model ranks`.

    torchrun --nproc-per-node 3 tests/support/lm_eval_ranks.py run --model ranks …

The ranks share the prompts, as those of a data-parallel model. With `--model_args copies=true` they
all answer every prompt, as those of a tensor-parallel model do.
"""

import runpy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model


@register_model("ranks")
class Ranks(LM):  # type: ignore[misc]
    """Writes a text of its own to each prompt."""

    def __init__(self, copies: bool = False, **_: Any) -> None:
        super().__init__()
        dist.init_process_group("gloo")
        if not copies:
            self._rank, self._world_size = dist.get_rank(), dist.get_world_size()
        self.accelerator = self  # 0.4.11 calls its methods

    @property
    def device(self) -> torch.device:
        """Where lm-eval puts the tensors that it exchanges."""
        return torch.device("cpu")

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """All ranks' tensors, one after the other."""
        parts = [torch.zeros_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor)
        return torch.stack(parts).flatten()

    gather = all_gather

    def gather_object(self, value: Any, dst: int = 0) -> list[Any] | None:
        """All ranks' values, on the rank `dst`."""
        values = [None] * self.world_size if self.rank == dst else None
        dist.gather_object(value, values, dst)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier()

    wait_for_everyone = barrier

    def generate_until(self, requests: Any, **_: Any) -> list[str]:
        """A short text for each prompt."""
        return [f"Text for {request.args[0][:40]}." for request in requests]

    def loglikelihood(self, requests: Any, **_: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("quick_lm_eval.py")), run_name="__main__")
