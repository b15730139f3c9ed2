"""The three averages of a step's loss, and a weighted cross-entropy that computes them.

A step's loss is a sum over the global batch (all packs of all micro-batches of all ranks) of
each label token's cross-entropy times its weight:

| average  | weight of a token                                 | total                    |
|----------|---------------------------------------------------|--------------------------|
| token    | 1 / total                                         | label tokens             |
| sequence | 1 / (label tokens of its sequence · total)        | sequences with a label   |
| upstream | sequences of its micro-batch / 30                 |                          |
|          |   / (label tokens of its micro-batch · total)     | micro-batches with one   |

`token` is the paper's average (section 4.1). `upstream` is what the released code computes
(train/main.py and train/patch/modeling_llama.py at 3fcfdff): the token mean of a pack, times its
number of sequences over 30, averaged over packs. With `upstream`, a pack of many short sequences
weighs more than a long text that fills a pack alone.

The first token of a sequence is never predicted, packed or not, so its label does not count.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutputWithPast

IGNORED = -100  # the label of a token that carries no loss
UPSTREAM_SEQUENCES = 30
CHUNK = 1024  # tokens whose logits are in memory at once; 0.6 GB in float32 for GLM-4

Average = Literal["token", "sequence", "upstream"]
AVERAGES: tuple[Average, ...] = get_args(Average)


def sequence_starts(batch: Mapping[str, Tensor]) -> Tensor:
    """Return for each token whether a sequence begins there, (rows, tokens).

    A sequence begins at every position 0 and in the first column of each row. A packing collator
    restarts `position_ids` at each sequence and at the padding.
    """
    labels = batch["labels"]
    starts = torch.zeros_like(labels, dtype=torch.bool)
    if (positions := batch.get("position_ids")) is not None:
        starts = (positions == 0).expand_as(labels).clone()
    starts[:, 0] = True
    return starts


def targets(batch: Mapping[str, Tensor]) -> Tensor:
    """Return the labels, with the first label of each sequence replaced by `IGNORED`."""
    return batch["labels"].masked_fill(sequence_starts(batch), IGNORED)


def labels_per_sequence(batch: Mapping[str, Tensor]) -> Tensor:
    """Return the number of predicted labels of each sequence. Padding counts as a sequence."""
    sequence_ids = _sequence_ids(batch)
    labelled = sequence_ids[targets(batch) != IGNORED]
    return torch.bincount(labelled, minlength=int(sequence_ids.max()) + 1)


def share_of_total(average: Average, batch: Mapping[str, Tensor]) -> Tensor:
    """Return what one micro-batch adds to the average's total, an integer."""
    if average == "token":
        return (targets(batch) != IGNORED).sum()
    if average == "sequence":
        return (labels_per_sequence(batch) > 0).sum()
    return (targets(batch) != IGNORED).any().long()


def divisors(average: Average, batch: Mapping[str, Tensor], total: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of one micro-batch: (divisor of each token's loss, factor of their sum).

    The divisors are integers, because mixed precision rounds floats that pass through a model.
    There is one divisor for all tokens, or with `sequence` one for each token (rows, tokens). The
    factor is a scalar. A total of 0 counts as 1 to avoid dividing by zero.
    """
    total = total.clamp(min=1)
    if average == "token":
        return total, torch.ones((), device=total.device)
    counts = labels_per_sequence(batch)
    if average == "sequence":
        return counts.clamp(min=1)[_sequence_ids(batch)], 1 / total
    sequences = (counts > 0).sum()
    return counts.sum().clamp(min=1), sequences / (UPSTREAM_SEQUENCES * total)


def _sequence_ids(batch: Mapping[str, Tensor]) -> Tensor:
    """Return the index of each token's sequence within the whole micro-batch, (rows, tokens)."""
    starts = sequence_starts(batch)
    return (starts.flatten().cumsum(0) - 1).view_as(starts)


def weighted_cross_entropy(
    hidden: Tensor, head: Tensor, labels: Tensor, divisors: Tensor
) -> Tensor:
    """Return the sum over all labels of cross-entropy / divisor, a float32 scalar.

    `hidden` is (rows, tokens, width), `head` (vocabulary, width), `labels` and `divisors` (rows,
    tokens). They are not shifted: each hidden state predicts the label of the next token.

    Fused kernels (Liger, cut-cross-entropy) sum a whole pack under one weight, so the average over
    sequences needs this function. It never holds all logits, which take 20 GB in float32 for 32,768
    tokens and a vocabulary of 151,552. The forward pass also computes the gradients, chunk by
    chunk. Recomputing the logits in the backward pass would need the head's weights after a
    sharded trainer has released them.
    """
    kept = labels[:, 1:] != IGNORED
    loss: Tensor = _WeightedCrossEntropy.apply(
        hidden[:, :-1][kept], head, labels[:, 1:][kept], 1 / divisors[:, 1:][kept].float()
    )
    return loss


class _WeightedCrossEntropy(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        device = hidden.device.type
        dtype = hidden.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return _loss_and_gradients(ctx, hidden, head, labels, weights, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, head = (
            None if saved is None else saved * gradients[0].to(saved.dtype)
            for saved in ctx.saved_tensors
        )
        return hidden, head, None, None


def _loss_and_gradients(
    ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor, dtype: torch.dtype
) -> Tensor:
    matrix = head.to(dtype)
    hidden_gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
    head_gradient = torch.zeros_like(head, dtype=torch.float32) if ctx.needs_input_grad[1] else None
    loss = torch.zeros((), device=hidden.device)
    for start in range(0, len(labels), CHUNK):
        part = slice(start, start + CHUNK)
        states, weight = hidden[part].to(dtype), weights[part, None]
        log_probs = (states @ matrix.T).float().log_softmax(-1, dtype=torch.float32)
        loss -= (log_probs.gather(1, labels[part, None]) * weight).sum()
        logits_gradient = log_probs.exp_().mul_(weight)
        logits_gradient.scatter_add_(1, labels[part, None], -weight)
        logits_gradient = logits_gradient.to(dtype)
        if hidden_gradient is not None:
            hidden_gradient[part] = (logits_gradient @ matrix).to(hidden.dtype)
        if head_gradient is not None:
            head_gradient += logits_gradient.T @ states
    ctx.save_for_backward(
        hidden_gradient, None if head_gradient is None else head_gradient.to(head.dtype)
    )
    return loss


# The lines of a causal model's forward pass that `use_weighted_cross_entropy` replaces.
STOCK_FORWARD = (
    "hidden_states = outputs.last_hidden_state",
    "logits = self.lm_head(hidden_states[:, slice_indices, :])\n",
    "self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)",
)


def why_loss_cannot_be_replaced(model: Any) -> str | None:
    """Return why this model's loss is not the cross-entropy of a linear head, or None if it is."""
    kind = type(model).__name__
    stock: Callable[..., Any] = type(model).forward
    try:
        source = inspect.getsource(stock)
    except (OSError, TypeError):
        source = ""
    if (
        not all(line in source for line in STOCK_FORWARD)
        or stock.__module__ != type(model).__module__
    ):
        return f"{kind}.forward is not the one of transformers"
    head = getattr(model, "lm_head", None)
    if head is None or type(head).__name__ != "Linear" or head.bias is not None:
        return f"{kind}.lm_head is not a plain linear layer"
    return None


def use_weighted_cross_entropy(model: Any) -> None:
    """Replace a causal model's forward pass by one that takes a divisor for each token.

    The new forward pass returns the loss without logits. Call this only if
    `why_loss_cannot_be_replaced` returns None. Without labels or divisors, the original forward
    pass runs.
    """
    original_forward = model.forward

    @wraps(original_forward)  # the trainer reads the accepted columns from the signature
    def forward(
        *args: Any,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if labels is None or num_items_in_batch is None:
            return original_forward(*args, labels=labels, **kwargs)
        hidden = model.model(*args, **kwargs).last_hidden_state
        loss = weighted_cross_entropy(hidden, model.lm_head.weight, labels, num_items_in_batch)
        return CausalLMOutputWithPast(loss=loss)

    model.forward = forward
