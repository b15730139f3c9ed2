"""The setting `loss_average`, and the conditions under which the average is correct.

There is no fallback to axolotl's own average. If the recipe or the installation would lead to a
different loss than `loss_average` names, it is refused before training.
"""

import hashlib
import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel, Field, model_validator

from longwriter_core.errors import InputError
from longwriter_train.loss.averages import Average

# Recipe settings that are refused, with the reason and the remedy.
REFUSED: dict[str, str] = {
    "rl": "has its own loss, averaged over pairs; remove LossPlugin from this recipe",
    "reward_model": "has its own loss; remove LossPlugin from this recipe",
    "process_reward_model": "has its own loss; remove LossPlugin from this recipe",
    "pretraining_dataset": "streams packs, which is untested with LossPlugin; use datasets",
    "trainer_cls": "would be replaced by LossPlugin's trainer; remove one of the two",
    "use_eaft": "replaces the cross-entropy; remove one of the two",
    "orpo_alpha": "replaces the cross-entropy; remove one of the two",
    "liger_use_token_scaling": "weights tokens by their probability; remove it",
    "context_parallel_size": (
        "splits a pack over ranks, where axolotl 0.19.0 counts labels per micro-batch and loses "
        "those at the boundaries; shard with FSDP2 or ZeRO-3 instead"
    ),
    "sequence_parallel_degree": "is the old name of context_parallel_size; see there",
    "tensor_parallel_size": "is untested with LossPlugin; shard with FSDP2 or ZeRO-3 instead",
    "expert_parallel_size": "is untested with LossPlugin; shard with FSDP2 or ZeRO-3 instead",
}
# Fused kernels give all tokens of a pack the same weight.
REFUSED_WITH_SEQUENCE = dict.fromkeys(
    (
        "liger_fused_linear_cross_entropy",
        "liger_cross_entropy",
        "cut_cross_entropy",
        "chunked_cross_entropy",
    ),
    "cannot weight sequences; loss_average: sequence has its own fused cross-entropy; remove it",
)

# The average is correct only with these implementations of the functions below. A release that
# changes one of them may keep its name and signature and still train on a different loss. So their
# sources are checked by hash, in the versions that axolotl itself pins:
# - `_run_epoch` fetches a window of micro-batches and passes their total on;
#   `get_batch_samples` computes that total; `training_step` must not divide by it again;
#   `compute_loss` passes it to the model and multiplies by the number of ranks;
#   `prediction_step` does the same in evaluation.
# - axolotl's overrides must pass the total through, and ask plugins for their trainer.
AXOLOTL = "0.19.0"
VERSIONS = {"axolotl": AXOLOTL, "transformers": "5.16.1", "accelerate": "1.13.0"}
SOURCES = {
    "transformers.trainer:Trainer._run_epoch": "c704c082dae4b742",
    "transformers.trainer:Trainer.get_batch_samples": "0b3727386f73f670",
    "transformers.trainer:Trainer.training_step": "a95f8c94253a5148",
    "transformers.trainer:Trainer.compute_loss": "784a390428b9dabb",
    "transformers.trainer:Trainer.prediction_step": "d12d7a1d2f995f02",
    "axolotl.core.trainers.base:AxolotlTrainer.__init__": "4c18e9d9f4f426cd",
    "axolotl.core.trainers.base:AxolotlTrainer.compute_loss": "e723474b497e0724",
    "axolotl.core.trainers.base:AxolotlTrainer.prediction_step": "143a1cf9b412e737",
    "axolotl.core.builders.causal:HFCausalTrainerBuilder._get_trainer_cls": "9c1c53a702341373",
    "axolotl.core.builders.causal:HFCausalTrainerBuilder.build": "362b13bb0ba44cd1",
}


class LossArgs(BaseModel):
    """LossPlugin's keys in a recipe."""

    loss_average: Average = Field(
        default="token",
        json_schema_extra={
            "description": "How the losses of a global batch's label tokens are averaged: token "
            "(each token has the same weight), sequence (each sequence does), or upstream (as in "
            "the released LongWriter code: a pack's token mean times its sequences / 30)."
        },
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and (reasons := refused_settings(data)):
            raise ValueError("LossPlugin: " + "; ".join(reasons))
        return data


def refused_settings(cfg: Mapping[str, Any]) -> list[str]:
    """Return one line for each setting that would make this recipe's loss wrong.

    A degree of parallelism of 1 means no parallelism, and is accepted.
    """
    refused = REFUSED | (REFUSED_WITH_SEQUENCE if cfg.get("loss_average") == "sequence" else {})
    return [
        f"{name}: {value} {why}"
        for name, why in refused.items()
        if (value := cfg.get(name)) not in (None, False, 0, 1, "", []) or value is True
    ]


def check_pinned_internals() -> None:
    """Raise `InputError` that names every pinned version and function that differs, if any does."""
    wrong = [
        f"{package} is {installed or 'missing'}, not {pinned}"
        for package, pinned in VERSIONS.items()
        if (installed := _version(package)) != pinned
    ]
    wrong += [f"{place} has changed" for place, sha in SOURCES.items() if fingerprint(place) != sha]
    if wrong:
        raise InputError(
            f"LossPlugin was not written for this trainer, so the loss might be wrong: "
            f"{'; '.join(wrong)}. Install axolotl=={AXOLOTL} unmodified, or a release of "
            f"longwriter made for your version; without the plugin, axolotl averages by micro-batch"
        )


def fingerprint(place: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a function's source.

    `place` has the form `module:Class.function`. If the source cannot be read, the reason is
    returned instead.
    """
    module, _, path = place.partition(":")
    try:
        function = importlib.import_module(module)
        for name in path.split("."):
            function = getattr(function, name)
        source = inspect.getsource(function)
    except (ImportError, AttributeError, OSError, TypeError) as error:
        return f"unreadable: {error}"
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
