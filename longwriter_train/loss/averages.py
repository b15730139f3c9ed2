"""Who weighs how much: the three averages of a step's loss, as divisors of its tokens' losses.

A step's loss is a sum over the global batch, all packs of all micro-batches of all ranks, of
each label token's cross-entropy times its weight:

| average  | weight of a token                                 | total                    |
|----------|---------------------------------------------------|--------------------------|
| token    | 1 / total                                         | label tokens             |
| sequence | 1 / (label tokens of its sequence · total)        | sequences with a label   |
| upstream | sequences of its micro-batch / 30                 |                          |
|          |   / (label tokens of its micro-batch · total)     | micro-batches            |

`token` is the paper's (section 4.1). `upstream` is what the released code does (train/main.py and
train/patch/modeling_llama.py at 3fcfdff): the token mean of a pack, times its sequences over 30,
averaged over packs; a pack with many sequences weighs more, and so does each of its tokens than one
of a long text that fills its pack alone.

A first token is never predicted, in a pack as in a row of its own; its label does not count.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

IGNORED = -100
UPSTREAM_SEQUENCES = 30

Average = Literal["token", "sequence", "upstream"]
AVERAGES: tuple[Average, ...] = get_args(Average)


def sequence_starts(batch: Mapping[str, Tensor]) -> Tensor:
    """Where a sequence begins: True at position 0 and in each row's first column, (rows, tokens).

    A collator that packs restarts `position_ids` at each sequence, and at the padding.
    """
    labels = batch["labels"]
    starts = torch.zeros_like(labels, dtype=torch.bool)
    if (positions := batch.get("position_ids")) is not None:
        starts = (positions == 0).expand_as(labels).clone()
    starts[:, 0] = True
    return starts


def targets(batch: Mapping[str, Tensor]) -> Tensor:
    """The labels that are predicted: those given, without each sequence's first."""
    return batch["labels"].masked_fill(sequence_starts(batch), IGNORED)


def labels_per_sequence(batch: Mapping[str, Tensor]) -> Tensor:
    """For each sequence in the batch, padding included, the number of its predicted labels."""
    return _counts(_sequence_of(batch), targets(batch))


def share_of_total(average: Average, batch: Mapping[str, Tensor]) -> Tensor:
    """What one micro-batch adds to the average's total, a whole number."""
    if average == "token":
        return (targets(batch) != IGNORED).sum()
    if average == "sequence":
        return (labels_per_sequence(batch) > 0).sum()
    return torch.ones((), dtype=torch.long, device=batch["labels"].device)


def divisors(average: Average, batch: Mapping[str, Tensor], total: Tensor) -> tuple[Tensor, Tensor]:
    """How to weigh one micro-batch: each token's loss is divided by the first, the sum times the
    second.

    The first is whole numbers, because mixed precision rounds what goes through a model: one for
    all tokens, or with `sequence` one for each (rows, tokens), beside its label. The second is one
    number. An empty total counts as 1: nothing is divided by it.
    """
    total = total.clamp(min=1)
    if average == "token":
        return total, torch.ones((), device=total.device)
    counts = labels_per_sequence(batch)
    if average == "sequence":
        return counts.clamp(min=1)[_sequence_of(batch)], 1 / total
    sequences = (counts > 0).sum()
    return counts.sum().clamp(min=1), sequences / (UPSTREAM_SEQUENCES * total)


def _sequence_of(batch: Mapping[str, Tensor]) -> Tensor:
    """The number of the sequence that each token is in, counted through the whole micro-batch."""
    starts = sequence_starts(batch)
    return (starts.flatten().cumsum(0) - 1).view_as(starts)


def _counts(sequence_of: Tensor, labels: Tensor) -> Tensor:
    labelled = sequence_of[labels != IGNORED]
    return torch.bincount(labelled, minlength=int(sequence_of.max()) + 1)
