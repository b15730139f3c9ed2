"""Ray Train on two CPU workers makes the same training as one process without Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import axolotl_cli, ray_cli
from support.axolotl_runs import write_recipe
from support.commands import environment
from support.reference_loss import AssertExact, distance, update

from longwriter_eval.cli.main import main
from longwriter_train import recipes

pytest.importorskip("axolotl")
pytest.importorskip("ray")

pytestmark = [
    pytest.mark.axolotl, pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200),
]  # fmt: skip


def train(script: Any, *arguments: str) -> str:
    """Run a script in the working directory, which its recipe's paths are relative to."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script.__file__, *arguments],
        env=environment(
            CUDA_VISIBLE_DEVICES="",
            OMP_NUM_THREADS="1",
            AXOLOTL_DO_NOT_TRACK="1",
            AXOLOTL_LOG_LEVEL="INFO",
            RAY_USAGE_STATS_ENABLED="0",
            TRL_EXPERIMENTAL_SILENCE="1",
            PYTHONPATH=str(Path(__file__).parents[2]),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def losses(folder: Path) -> list[float]:
    (state,) = folder.glob("checkpoint-*/trainer_state.json")
    return [row["loss"] for row in json.loads(state.read_text())["log_history"] if "loss" in row]


def test_two_workers_train_as_one_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assert_exact: AssertExact
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "cp", "tiny/llama_sft"]) == 0
    assert main(["recipes", "tiny"]) == 0
    recipe = recipes.load(Path("recipes/tiny/llama_sft.yaml")) | {
        "num_epochs": 1, "dataset_num_proc": 1, "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
    }  # fmt: skip
    assert recipe["saves_per_epoch"]  # which the workers must not read as a second setting
    accumulation = recipe["gradient_accumulation_steps"]
    for name, steps in {"alone": 2 * accumulation, "ray": accumulation}.items():
        folders = {"output_dir": f"runs/{name}", "dataset_prepared_path": f"runs/{name}/prepared"}
        write_recipe(Path(), name, {**recipe, **folders, "gradient_accumulation_steps": steps})
    train(axolotl_cli, "alone.yaml")
    said = train(ray_cli, "ray.yaml", "2")
    assert "RayTrainWorker" in said
    assert losses(Path("runs/ray")) == pytest.approx(losses(Path("runs/alone")), rel=1e-6)
    base = tmp_path / "runs/tiny-llama"
    alone, ray = (update(base, tmp_path / "runs" / name) for name in ("alone", "ray"))
    assert_exact("Ray Train, 2 workers, from the same run without", distance(ray, alone))
