"""What the plugin stands on inside transformers and axolotl, and whether it still is what we read.

The average is right only because these functions do what they do. A release that changes one may
keep every name and train on another loss, so each is recognised by its source text, in the versions
that axolotl itself pins.
"""

import hashlib
import importlib
import inspect
from importlib.metadata import PackageNotFoundError, version

from longwriter_core.errors import InputError

AXOLOTL = "0.19.0"
VERSIONS = {"axolotl": AXOLOTL, "transformers": "5.16.1", "accelerate": "1.13.0"}

# Why each matters: `_run_epoch` fetches a window of micro-batches and hands their total on;
# `get_batch_samples` asks for it; `training_step` must not divide once more; `compute_loss` passes
# it to the model and multiplies by the ranks; `prediction_step` does so in evaluation. axolotl's
# overrides must pass it through, and its hooks for plugins must be asked.
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


def check_pinned_internals() -> None:
    """Raise one `InputError` that names everything here which is not as we read it."""
    wrong = [
        f"{package} is {found or 'missing'}, not {wanted}"
        for package, wanted in VERSIONS.items()
        if (found := _version(package)) != wanted
    ]
    wrong += [f"{place} has changed" for place, sha in SOURCES.items() if fingerprint(place) != sha]
    if wrong:
        raise InputError(
            f"LossPlugin does not know this trainer, so it cannot vouch for the loss: "
            f"{'; '.join(wrong)}. Install axolotl=={AXOLOTL} as it is released, or a "
            f"longwriter made for yours; without the plugin, axolotl averages by micro-batch"
        )


def fingerprint(place: str) -> str:
    """The start of the SHA-256 of a function's source, `module:Class.function`; else why not."""
    module, _, path = place.partition(":")
    try:
        found = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        source = inspect.getsource(found)
    except (ImportError, AttributeError, OSError, TypeError) as error:
        return f"unreadable: {error}"
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
