"""Reference losses and gradients, computed one sequence at a time with transformers only."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Row = Mapping[str, Any]
AssertExact = Callable[[str, float], None]  # a strategy and its relative error
EXACT = 1e-5  # the relative error allowed in float32


def sequence(tokens: int, labels: int, seed: int, vocabulary: int = 400) -> dict[str, list[int]]:
    """A tokenized sample of random `tokens`, the last `labels` of which carry loss."""
    drawn = random.Random(seed)
    ids = [drawn.randrange(20, vocabulary) for _ in range(tokens)]
    return {
        "input_ids": ids,
        "attention_mask": [1] * tokens,
        "labels": [-100] * (tokens - labels) + ids[tokens - labels :],
    }


def weights_by_hand(average: str, packs: Sequence[Sequence[Row]]) -> list[float]:
    """The factor for each sequence's summed loss, in the order of `packs`.

    Written from the averages' definitions, not from the code under test.
    """
    counts = [[sum(label != -100 for label in row["labels"]) for row in pack] for pack in packs]
    sequences = sum(map(len, counts))
    if average == "token":
        return [1 / sum(map(sum, counts))] * sequences
    if average == "sequence":
        return [1 / count / sequences for pack in counts for count in pack]
    if average == "upstream":
        return [len(pack) / 30 / sum(pack) / len(packs) for pack in counts for _ in pack]
    assert average == "micro-batch", average  # axolotl's default
    return [1 / sum(pack) / len(packs) for pack in counts for _ in pack]


def step_by_hand(
    model: Path,
    weighted: Iterable[tuple[Row, float]],
    after: Mapping[str, Tensor] | None = None,
) -> tuple[float, dict[str, Tensor]]:
    """The weighted sum of the sequences' losses under `model`, and its gradient by parameter.

    `after` is an optional gradient. With it, both are computed after a step at rate 1 along it.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM

    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            parameter -= (after or {}).get(name, 0)
    total = torch.zeros((), dtype=torch.float64)
    for row, weight in weighted:
        logits = lm(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        labels = torch.tensor(row["labels"][1:])
        loss = cross_entropy(logits, labels, ignore_index=-100, reduction="sum") * weight
        loss.backward()
        total += loss.detach()
    return total.item(), {name: p.grad for name, p in lm.named_parameters() if p.grad is not None}


def dpo_by_hand(
    model: Path, pairs: Sequence[Mapping[str, list[int]]], beta: float, steps: int
) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of `steps` steps at rate 1 over all `pairs`, and the sum of their gradients.

    A pair holds the tokens `prompt_ids`, `chosen_ids` and `rejected_ids`.
    """
    import torch
    from torch.nn.functional import logsigmoid
    from transformers import AutoModelForCausalLM

    lm = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    start = {name: parameter.detach().clone() for name, parameter in lm.named_parameters()}

    def log_probability(prompt: list[int], answer: list[int]) -> Tensor:
        logits = lm(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        log_probs: Tensor = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
        return log_probs

    def margins() -> Tensor:
        return torch.stack(
            [
                log_probability(pair["prompt_ids"], pair["chosen_ids"])
                - log_probability(pair["prompt_ids"], pair["rejected_ids"])
                for pair in pairs
            ]
        )

    reference = margins().detach()
    losses = []
    for _ in range(steps):
        loss = -logsigmoid(beta * (margins() - reference)).mean()
        losses.append(loss.item())
        lm.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in lm.parameters():
                parameter -= parameter.grad if parameter.grad is not None else 0
    return losses, {name: start[name] - p.detach() for name, p in lm.named_parameters()}


def lora_by_hand(adapter: Path, gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The matrices B of an adapter after one step at rate 1, from the full weights' gradient.

    B starts at 0, so A has no gradient in the first step, and that of B is scale · gradient · Aᵀ.
    """
    from safetensors.torch import load_file

    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    wanted = {}
    for name, matrix in load_file(adapter / "adapter_model.safetensors").items():
        module, is_a, _ = name.removeprefix("base_model.model.").partition(".lora_A.weight")
        if is_a:
            wanted[name.replace("lora_A", "lora_B")] = (
                -scale * gradient[f"{module}.weight"].double() @ matrix.double().T
            )
    return wanted


def clipped(gradient: Mapping[str, Tensor], norm: float) -> dict[str, Tensor]:
    """The gradient scaled down to `norm`, its length over all parameters."""
    length = sum((part.double() ** 2).sum().item() for part in gradient.values()) ** 0.5
    assert length > norm
    return {name: part * (norm / length) for name, part in gradient.items()}


def update(before: Path, after: Path) -> dict[str, Tensor]:
    """How much the weights shrank between two checkpoints: the gradient, after a step at rate 1."""
    from safetensors.torch import load_file

    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    return {name: old[name].double() - new[name].double() for name in new}


def distance(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """The distance of `found` from `wanted` over all parameters, relative to `wanted`."""
    off = sum(((found[n].double() - wanted[n].double()) ** 2).sum().item() for n in wanted)
    size = sum((wanted[n].double() ** 2).sum().item() for n in wanted)
    return float((off / size) ** 0.5)
