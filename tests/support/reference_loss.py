"""Reference losses and gradients, computed one sequence at a time with transformers only."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Row = Mapping[str, Any]


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
