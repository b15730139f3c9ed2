"""Trains recipes on two processes without a GPU: with DDP, FSDP2 or DeepSpeed ZeRO-3.

    python tests/support/train_ranks.py RECIPE.yaml…

One process imports axolotl, which takes most of the time, and forks the ranks of every recipe. They
call the functions of `axolotl train`, with these exceptions:

- axolotl assigns a GPU to each rank of DDP, so the recipe's device is set to the CPU;
- accelerate has no backend for DeepSpeed without a GPU, so `_prepare_backend` is patched to gloo;
- accelerate shards on accelerators only, so a recipe with `SHARD` uses axolotl's trainer builder
  instead, and the model is sharded with `fully_shard`.

`KILL_AT_STEP` in a recipe ends the training with SIGKILL when that many steps are done. All ranks
have saved their checkpoints by then, because a step begins by counting the labels of all ranks.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from support import axolotl_runs

RANKS = 2


def main(files: Sequence[str]) -> None:
    """Train each recipe. Raises RuntimeError if a rank fails."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["ACCELERATE_USE_CPU"] = "true"
    import axolotl.cli.config
    import axolotl.core.builders
    import axolotl.train  # noqa: F401

    for file in files:
        recipe = yaml.safe_load(Path(file).read_text())
        if recipe.get("SHARD"):
            train = _train_sharded
        elif recipe.get("deepspeed"):
            train = _train_zero3
        else:
            train = _train_ddp
        started = time.perf_counter()
        _fork(train, file, recipe.get("KILL_AT_STEP"))
        print(f"{Path(file).stem}: {time.perf_counter() - started:.1f} s", flush=True)


def _fork(train: Callable[[str], None], file: str, kill_at_step: int | None) -> None:
    """Call `train` in each rank and wait for them. If one dies, the others are killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = {_start(train, file, rank, port, kill_at_step) for rank in range(RANKS)}
    statuses = []
    while running:
        child, status = os.wait()
        running.discard(child)
        statuses.append(status)
        if status:
            for other in running:
                os.kill(other, signal.SIGKILL)
    if any(statuses) and (kill_at_step is None or statuses[0] != signal.SIGKILL):
        raise RuntimeError(f"{file}: a rank failed")


def _start(
    train: Callable[[str], None], file: str, rank: int, port: int, kill_at_step: int | None
) -> int:
    if child := os.fork():
        return child
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS),
        "LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    try:
        if kill_at_step is not None:
            _kill_at(kill_at_step)
        train(file)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _kill_at(step: int) -> None:
    from transformers.trainer_callback import DefaultFlowCallback

    def on_step_begin(_: Any, args: Any, state: Any, control: Any, **__: Any) -> None:
        del args, control
        if state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    DefaultFlowCallback.on_step_begin = on_step_begin


def _train_ddp(file: str) -> None:
    from accelerate import PartialState

    PartialState(cpu=True)
    axolotl_runs.train_recipe(file, device_map={"": "cpu"})


def _train_zero3(file: str) -> None:
    from accelerate import PartialState
    from accelerate.state import DistributedType

    os.environ.pop("ACCELERATE_USE_CPU")  # which would switch DeepSpeed off
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_CPU)
    axolotl_runs.train_recipe(file)


def _train_sharded(file: str) -> None:
    import torch
    from accelerate import PartialState
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

    PartialState(cpu=True)
    cfg = load_cfg(file)
    data = load_datasets(cfg=cfg, cli_args=TrainerCliArgs())
    model = AutoModelForCausalLM.from_pretrained(
        cfg.base_model, dtype=torch.float32, attn_implementation="sdpa"
    )
    PatchManager(cfg, model.config).apply_pre_model_load_patches()
    builder = HFCausalTrainerBuilder(cfg, model, load_tokenizer(cfg))
    builder.train_dataset, builder.eval_dataset = data.train_dataset, data.eval_dataset
    trainer = builder.build(data.total_num_steps)
    PluginManager.get_instance().post_trainer_create(cfg, trainer)
    _shard(model)
    trainer.accelerator.prepare_model = lambda sharded, **_: sharded  # instead of DDP
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

    mesh = init_device_mesh("cpu", (RANKS,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


if __name__ == "__main__":
    main(sys.argv[1:])
