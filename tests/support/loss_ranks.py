"""Run one training step on several gloo processes with axolotl's own trainer builder.

`axolotl train` cannot start on several CPU processes, because transformers fails to load the
weights there. This file therefore loads the model, and axolotl does the rest. accelerate shards on
accelerators only, so for a recipe with `SHARD` this file shards the model with `fully_shard`.

    torchrun --nproc-per-node 2 tests/loss_ranks.py RECIPE.yaml…
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml


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
    from torch.distributed.tensor import DTensor
    from transformers import AutoModelForCausalLM

    plugins = PluginManager.get_instance()
    plugins.plugins.clear()
    cfg = load_cfg(file)
    tokenizer = load_tokenizer(cfg)
    data = load_datasets(cfg=cfg, cli_args=TrainerCliArgs())
    model = AutoModelForCausalLM.from_pretrained(
        cfg.base_model, dtype=torch.float32, attn_implementation="sdpa"
    )
    PatchManager(cfg, model.config).apply_pre_model_load_patches()
    builder = HFCausalTrainerBuilder(cfg, model, tokenizer)
    builder.train_dataset, builder.eval_dataset = data.train_dataset, data.eval_dataset
    trainer = builder.build(data.total_num_steps)
    plugins.post_trainer_create(cfg, trainer)
    if yaml.safe_load(Path(file).read_text()).get("SHARD"):
        _shard(model)
        trainer.accelerator.prepare_model = lambda sharded, **_: sharded  # and not DDP
    trainer.train()

    weights = {
        name: (whole.full_tensor() if isinstance(whole, DTensor) else whole).contiguous()
        for name, whole in model.state_dict().items()
    }
    if trainer.is_world_process_zero():
        output = Path(cfg.output_dir)
        output.mkdir(parents=True, exist_ok=True)
        save_file(weights, output / "model.safetensors")
        trainer.state.save_to_json(str(output / "trainer_state.json"))
    trainer.accelerator.wait_for_everyone()


def _shard(model: Any) -> None:
    """Shard each layer, and the rest with the root, as accelerate does for FSDP2."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (int(os.environ["WORLD_SIZE"]),))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def main(files: Sequence[str]) -> None:
    """Train each recipe for its one step."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    for file in files:
        _step(file)


if __name__ == "__main__":
    main(sys.argv[1:])
