"""The axolotl plugin: one line in a recipe makes a step's loss the average that it should be."""

from typing import Any

from axolotl.integrations.base import BasePlugin, PluginManager
from axolotl.utils.logging import get_logger

from longwriter_core.errors import InputError
from longwriter_train.loss.pinned_internals import check_pinned_internals

LOG = get_logger("axolotl.longwriter_train")  # it shows no other name's INFO


class LossPlugin(BasePlugin):  # type: ignore[misc]
    """Averages each optimiser step's loss over the global batch, by `loss_average`.

    Nothing here falls back on axolotl's own average: what cannot be right raises before training.
    """

    def get_input_args(self) -> str:
        """The class that adds `loss_average` to axolotl's schema."""
        return "longwriter_train.loss.settings.LossArgs"

    def register(self, cfg: dict[str, Any]) -> None:  # noqa: ARG002
        """Refuse an axolotl or transformers that is not the one that this was written for."""
        check_pinned_internals()

    def get_training_args(self, cfg: Any) -> dict[str, Any]:  # noqa: ARG002
        """Let the trainer multiply by the ranks, which averages their gradients away."""
        return {"average_tokens_across_devices": True}

    def get_trainer_cls(self, cfg: Any) -> type[Any]:
        """The trainer that averages as the recipe says."""
        from longwriter_train.loss.trainer import LossTrainer

        return type("LossTrainer", (LossTrainer,), {"average": cfg.loss_average})

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        """Check what came of the recipe, and say what the loss will be."""
        from transformers.trainer import unwrap_peft_model

        from longwriter_train.loss.settings import plain_head
        from longwriter_train.loss.trainer import LossTrainer, weigh_each_token

        others = [
            name
            for name, plugin in PluginManager.get_instance().plugins.items()
            if not isinstance(plugin, LossPlugin) and plugin.get_trainer_cls(cfg) is not None
        ]
        if others or not isinstance(trainer, LossTrainer):
            raise InputError(
                f"LossPlugin: {', '.join(others) or type(trainer).__name__} brings a trainer of "
                f"its own, and only one can be; remove one of the two"
            )
        args, parallelism = trainer.args, trainer.accelerator.parallelism_config
        wrong = [
            why
            for why, is_so in {
                "several GPUs in one process; start one process per GPU": args.n_gpu > 1,
                "label_smoothing_factor": args.label_smoothing_factor != 0,
                "a loss function of another plugin": trainer.compute_loss_func is not None,
                "average_tokens_across_devices: false": not args.average_tokens_across_devices,
                "a pack split over ranks": parallelism is not None
                and parallelism.non_data_parallel_size > 1,
            }.items()
            if is_so
        ]
        if trainer.average == "sequence":
            model = unwrap_peft_model(trainer.model)
            if why := plain_head(model):
                wrong.append(f"loss_average: sequence, where {why}")
            else:
                weigh_each_token(model)
        if wrong:
            raise InputError(f"LossPlugin cannot average the loss with {'; '.join(wrong)}")
        if args.sample_packing and not cfg.max_steps:
            args.max_steps = -1  # axolotl's own count rounds down; the trainer's covers all packs
        LOG.info(f"LossPlugin: loss_average: {trainer.average}, over the global batch of each step")
