"""The recipe's setting, and the settings beside it under which the average could not be right."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, Field, model_validator

from longwriter_train.loss.averages import Average

# Setting, why not, and what to do. A value of 1 is as good as none for a number of ranks.
REFUSED: dict[str, str] = {
    "rl": "has a loss of its own, averaged over pairs; leave LossPlugin out of this recipe",
    "reward_model": "has a loss of its own; leave LossPlugin out of this recipe",
    "process_reward_model": "has a loss of its own; leave LossPlugin out of this recipe",
    "pretraining_dataset": "streams packs that LossPlugin has not been tested with; use datasets",
    "trainer_cls": "would be replaced by LossPlugin's trainer; remove one of the two",
    "use_eaft": "replaces the cross-entropy; remove one of the two",
    "orpo_alpha": "replaces the cross-entropy; remove one of the two",
    "liger_use_token_scaling": "weighs tokens by their probability; remove it",
    "context_parallel_size": (
        "splits a pack over ranks, where axolotl 0.19.0 counts labels per micro-batch and loses "
        "those at the seams; shard with FSDP2 or ZeRO-3 instead"
    ),
    "sequence_parallel_degree": "is context_parallel_size by its old name; see there",
    "tensor_parallel_size": "is not tested with LossPlugin; shard with FSDP2 or ZeRO-3 instead",
    "expert_parallel_size": "is not tested with LossPlugin; shard with FSDP2 or ZeRO-3 instead",
}
# Fused kernels sum a pack under one weight.
REFUSED_WITH_SEQUENCE = dict.fromkeys(
    (
        "liger_fused_linear_cross_entropy",
        "liger_cross_entropy",
        "cut_cross_entropy",
        "chunked_cross_entropy",
    ),
    "cannot weigh sequences; loss_average: sequence brings a fused cross-entropy; remove it",
)


def refusals(cfg: Mapping[str, Any]) -> list[str]:
    """Why this recipe's loss could not be the average that it asks for: one line per setting."""
    refused = REFUSED | (REFUSED_WITH_SEQUENCE if cfg.get("loss_average") == "sequence" else {})
    return [
        f"{name}: {value} {why}"
        for name, why in refused.items()
        if (value := cfg.get(name)) not in (None, False, 0, 1, "", []) or value is True
    ]


class LossArgs(BaseModel):
    """LossPlugin's keys in a recipe."""

    loss_average: Average = Field(
        default="token",
        json_schema_extra={
            "description": "How the losses of a global batch's label tokens are averaged: token "
            "(each token weighs the same), sequence (each sequence does), or upstream (as the "
            "released LongWriter code: a pack's token mean times its sequences / 30)."
        },
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and (lines := refusals(data)):
            raise ValueError("LossPlugin: " + "; ".join(lines))
        return data


def plain_head(model: Any) -> str | None:
    """Why this model's loss is not a linear head's cross-entropy and nothing else, if it is not."""
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
        return f"{kind}.forward is not transformers' own"
    head = getattr(model, "lm_head", None)
    if head is None or type(head).__name__ != "Linear" or head.bias is not None:
        return f"{kind}.lm_head is not a plain linear layer"
    return None


STOCK_FORWARD = (
    "hidden_states = outputs.last_hidden_state",
    "logits = self.lm_head(hidden_states[:, slice_indices, :])\n",
    "self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)",
)
