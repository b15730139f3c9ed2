"""A cross-entropy with a weight for each token that never holds the logits.

The fused kernels (Liger, cut-cross-entropy) sum a whole pack under one weight, so an average over
sequences needs this one. 32,768 tokens by a vocabulary of 151,552 are 20 GB in float32; here
`CHUNK` tokens' logits exist at a time, and the gradients are taken while they do: a backward pass
that computed them again would need the head's weights after a sharded trainer has let them go.
"""

from typing import Any

import torch
from torch import Tensor

from longwriter_train.loss.averages import IGNORED

CHUNK = 1024  # tokens; 0.6 GB of float32 logits with GLM-4's vocabulary


def weighted_cross_entropy(
    hidden: Tensor, head: Tensor, labels: Tensor, divisors: Tensor
) -> Tensor:
    """The sum over all labels of cross-entropy / divisor, a float32 scalar.

    `hidden` is (rows, tokens, width), `head` (vocabulary, width), `labels` and `divisors` (rows,
    tokens), not shifted: the hidden state of a token predicts the label of the next.
    """
    kept = labels[:, 1:] != IGNORED
    loss: Tensor = _Fused.apply(
        hidden[:, :-1][kept], head, labels[:, 1:][kept], 1 / divisors[:, 1:][kept].float()
    )
    return loss


class _Fused(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False):
            return _forward(ctx, hidden, head, labels, weights, dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, head = ctx.saved_tensors
        return (
            *(None if g is None else g * gradients[0].to(g.dtype) for g in (hidden, head)),
            None,
            None,
        )


def _forward(
    ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, weights: Tensor, dtype: torch.dtype
) -> Tensor:
    matrix = head.to(dtype)
    to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
    to_head = torch.zeros_like(head, dtype=torch.float32) if ctx.needs_input_grad[1] else None
    loss = torch.zeros((), device=hidden.device)
    for start in range(0, len(labels), CHUNK):
        part = slice(start, start + CHUNK)
        states, weight = hidden[part].to(dtype), weights[part, None]
        logits = (states @ matrix.T).float()
        log_probabilities = logits.log_softmax(-1, dtype=torch.float32)
        del logits
        loss -= (log_probabilities.gather(1, labels[part, None]) * weight).sum()
        gradient = log_probabilities.exp_().mul_(weight)
        gradient.scatter_add_(1, labels[part, None], -weight)
        gradient = gradient.to(dtype)
        if to_hidden is not None:
            to_hidden[part] = (gradient @ matrix).to(hidden.dtype)
        if to_head is not None:
            to_head += gradient.T @ states
    ctx.save_for_backward(to_hidden, None if to_head is None else to_head.to(head.dtype))
    return loss
