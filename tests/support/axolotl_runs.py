"""Runs several axolotl trainings in one process, because most of `axolotl train` is start-up.

`train` writes the recipes and runs this file in a subprocess. For each recipe, this file does what
the `axolotl train` command does in the process that it launches.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

# One full-precision step of plain gradient descent at rate 1, which subtracts exactly the gradient.
ONE_STEP: dict[str, Any] = {
    "attn_implementation": "sdpa",
    "sequence_len": 256,
    "sample_packing": True,
    "eval_sample_packing": False,
    "pad_to_sequence_len": True,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 2,
    "num_epochs": 1,
    "max_steps": 1,
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "lr_scheduler": "constant",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
    "bf16": False,
    "fp16": False,
    "tf32": False,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "seed": 7,
    "save_strategy": "no",
    "dataset_num_proc": 1,
    "dataloader_num_workers": 0,
    "dataloader_pin_memory": False,
}
PLUGIN = {"plugins": ["longwriter_train.LossPlugin"]}


def train(folder: Path, recipes: Mapping[str, Mapping[str, Any]], **environment: str) -> str:
    """Train `recipes`, whose keys name their files and output folders; return the printed output.

    If a recipe fails, its error is written to OUTPUT/error.txt, and the other recipes still run.
    Two recipe keys are specific to the tests: `KILL_AT` ends the training with SIGKILL once that
    file exists in the output folder, and `DEAF` names a function that is replaced during this
    training by one that drops `num_items_in_batch`.
    """
    files = [write_recipe(folder, name, recipe) for name, recipe in recipes.items()]
    return _run(__file__, *map(str, files), **environment)


def write_recipe(folder: Path, name: str, recipe: Mapping[str, Any]) -> Path:
    """Write FOLDER/NAME.yaml, with FOLDER/NAME as its output folder."""
    own = {"output_dir": str(folder / name), "dataset_prepared_path": str(folder / "prepared")}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**own, **recipe}))
    return file


def run_script(script: Path, *arguments: str, **environment: str) -> str:
    """The stdout and stderr of one of this project's scripts; fails if the script fails."""
    return _run(str(script), *arguments, **environment)


def _run(*arguments: str, **environment: str) -> str:
    """Run in a separate Python process, because torch and axolotl print and warn on import."""
    quiet = {
        "AXOLOTL_DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    root = Path(__file__).parents[2]
    paths = os.pathsep.join(
        filter(None, (str(root), str(root / "tests"), os.environ.get("PYTHONPATH")))
    )
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **quiet, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def log(folder: Path, key: str = "loss") -> list[float]:
    """The values that a training logged under `key`, oldest first."""
    rows = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [row[key] for row in rows if key in row]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write one JSON object per line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train_recipe(file: str, **settings: Any) -> None:
    """Do what `axolotl train` does in the process that it launches, after adding `settings`."""
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets, load_preference_datasets
    from axolotl.integrations.base import PluginManager
    from axolotl.train import train

    # Plugins stay registered until the process ends, but each run needs its own.
    PluginManager.get_instance().plugins.clear()
    output = Path(yaml.safe_load(Path(file).read_text())["output_dir"])
    output.mkdir(parents=True, exist_ok=True)
    try:
        cfg = load_cfg(file)
        cfg.update(settings)
        load = load_preference_datasets if cfg.rl else load_datasets
        _, _, trainer = train(cfg, load(cfg=cfg, cli_args=TrainerCliArgs()))
    except Exception as error:
        traceback.print_exc()
        (output / "error.txt").write_text(f"{type(error).__name__}: {error}")
        return
    if not trainer.is_world_process_zero():
        return
    trainer.state.save_to_json(str(output / "trainer_state.json"))
    if cfg.rl:
        write_rows(output / "pairs.jsonl", trainer.train_dataset.to_list())


def _train_and_kill(file: str, at: str) -> None:
    """Train in a child process, and kill it as soon as `at` is in the output folder."""
    wanted = Path(yaml.safe_load(Path(file).read_text())["output_dir"]) / at
    child = os.fork()
    if child == 0:
        train_recipe(file)
        os._exit(0)
    while not wanted.is_file() and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextlib.contextmanager
def _deaf(place: str) -> Iterator[None]:
    """Replace `module:Class.function` by a function that drops `num_items_in_batch`."""
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, name)

    def deaf(*args: Any, num_items_in_batch: Any = None, **kwargs: Any) -> Any:
        del num_items_in_batch
        return function(*args, **kwargs)

    setattr(owner, name, deaf)
    try:
        yield
    finally:
        setattr(owner, name, function)


def main(files: Sequence[str]) -> None:
    """Train each recipe."""
    for file in files:
        recipe = yaml.safe_load(Path(file).read_text())
        if at := recipe.get("KILL_AT"):
            _train_and_kill(file, at)
        elif place := recipe.get("DEAF"):
            with _deaf(place):
                train_recipe(file)
        else:
            train_recipe(file)


if __name__ == "__main__":
    main(sys.argv[1:])
