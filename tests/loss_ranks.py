"""One training step on several gloo processes, by axolotl's own trainer builder.

`axolotl train` itself cannot start on several CPU processes: transformers fails to load the weights
there. So the model is loaded here, and all that comes after it is axolotl's.

    torchrun --nproc-per-node 2 tests/loss_ranks.py RECIPE.yaml…
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def _step(file: str) -> None:
    import torch
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets
    from axolotl.core.builders import HFCausalTrainerBuilder
    from axolotl.integrations.base import PluginManager
    from axolotl.loaders import load_tokenizer
    from axolotl.loaders.patch_manager import PatchManager
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    plugins = PluginManager.get_instance()
    plugins.plugins.clear()
    for name in [name for name in os.environ if name.startswith(("FSDP_", "ACCELERATE_USE"))]:
        del os.environ[name]
    os.environ["ACCELERATE_USE_CPU"] = "true"
    cfg = load_cfg(file)
    tokenizer = load_tokenizer(cfg)
    data = load_datasets(cfg=cfg, cli_args=TrainerCliArgs())
    model = AutoModelForCausalLM.from_pretrained(
        cfg.base_model, dtype=torch.float32, attn_implementation="sdpa"
    )
    patches = PatchManager(cfg, model.config)
    patches.apply_pre_model_load_patches()
    builder = HFCausalTrainerBuilder(cfg, model, tokenizer)
    builder.train_dataset, builder.eval_dataset = data.train_dataset, data.eval_dataset
    trainer = builder.build(data.total_num_steps)
    plugins.post_trainer_create(cfg, trainer)
    trainer.train()
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if trainer.is_world_process_zero():
        output = Path(cfg.output_dir)
        output.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: w.contiguous() for name, w in weights.items()}, output / "model.safetensors"
        )
        trainer.state.save_to_json(str(output / "trainer_state.json"))
    trainer.accelerator.wait_for_everyone()


def main(files: Sequence[str]) -> None:
    """Train each recipe for its one step."""
    for file in files:
        _step(file)


if __name__ == "__main__":
    main(sys.argv[1:])
