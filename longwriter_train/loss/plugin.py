"""The axolotl plugin that averages each step's loss as the recipe's `loss_average` says."""

from typing import Any

from axolotl.integrations.base import BasePlugin, PluginManager
from axolotl.utils.logging import get_logger

from longwriter_core.errors import InputError
from longwriter_train.loss.requirements import check_pinned_internals

LOG = get_logger("axolotl.longwriter_train")  # axolotl shows INFO only for loggers below its own


class LossPlugin(BasePlugin):  # type: ignore[misc]
    """Averages each optimiser step's loss over the global batch, as `loss_average` says."""

    def get_input_args(self) -> str:
        """Name the class that adds `loss_average` to axolotl's schema."""
        return "longwriter_train.loss.requirements.LossArgs"

    def register(self, cfg: dict[str, Any]) -> None:  # noqa: ARG002
        """Refuse versions of axolotl and transformers that this plugin was not written for."""
        check_pinned_internals()

    def get_training_args(self, cfg: Any) -> dict[str, Any]:  # noqa: ARG002
        """Multiply the loss by the number of ranks, since gradients are averaged over them."""
        return {"average_tokens_across_devices": True}

    def get_trainer_cls(self, cfg: Any) -> type[Any]:
        """Return the trainer with the recipe's average."""
        from longwriter_train.loss.trainer import trainer_class

        return trainer_class(cfg.loss_average)

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        """Check the trainer that axolotl created for the recipe, and log the average.

        Raises InputError if another trainer or setting would make the average wrong.
        """
        from transformers.trainer import unwrap_peft_model

        from longwriter_train.loss.averages import (
            use_weighted_cross_entropy,
            why_loss_cannot_be_replaced,
        )
        from longwriter_train.loss.trainer import GlobalAverageTrainer

        others = [
            name
            for name, plugin in PluginManager.get_instance().plugins.items()
            if not isinstance(plugin, LossPlugin) and plugin.get_trainer_cls(cfg) is not None
        ]
        if others or not isinstance(trainer, GlobalAverageTrainer):
            raise InputError(
                f"LossPlugin: {', '.join(others) or type(trainer).__name__} brings its own "
                f"trainer, and there can be only one; remove one of the two"
            )
        args, parallelism = trainer.args, trainer.accelerator.parallelism_config
        splits_packs = parallelism is not None and parallelism.non_data_parallel_size > 1
        problems = {
            "several GPUs in one process; start one process per GPU": args.n_gpu > 1,
            "label_smoothing_factor": args.label_smoothing_factor != 0,
            "a loss function of another plugin": trainer.compute_loss_func is not None,
            "average_tokens_across_devices: false": not args.average_tokens_across_devices,
            "a pack split over ranks": splits_packs,
        }
        wrong = [problem for problem, applies in problems.items() if applies]
        if trainer.average == "sequence":
            model = unwrap_peft_model(trainer.model)
            if why := why_loss_cannot_be_replaced(model):
                wrong.append(f"loss_average: sequence, because {why}")
            else:
                use_weighted_cross_entropy(model)
        if wrong:
            raise InputError(f"LossPlugin cannot average the loss with {'; '.join(wrong)}")
        if args.sample_packing and not cfg.max_steps:
            args.max_steps = (
                -1
            )  # axolotl's count rounds down; the trainer's own count covers all packs
        LOG.info(f"LossPlugin: loss_average: {trainer.average}, over the global batch of each step")
