"""The loss on two gloo ranks: one step, compared with gradients computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import loss_ranks
from support.axolotl_runs import ONE_STEP, PLUGIN, log, run_module, write_recipe, write_rows
from support.reference_loss import distance, sequence, step_by_hand, update, weights_by_hand
from support.tiny_models import make_tiny_llama

pytest.importorskip("axolotl")

# the first test waits for all training runs
pytestmark = [pytest.mark.axolotl, pytest.mark.slow, pytest.mark.timeout(1200)]

EXACT = 1e-5
# Only one packing is possible: four packs, two for each rank, with very unequal label counts.
PACKS = [
    [sequence(250, 201, seed=1)],
    [sequence(200, 4, seed=2), sequence(50, 2, seed=3)],
    [sequence(245, 90, seed=4)],
    [sequence(246, 3, seed=5)],
]
ROWS = [row for pack in PACKS for row in pack]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of all training runs of this file, on two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    data = {
        "path": str(write_rows(folder / "rows.jsonl", ROWS)),
        "ds_type": "json", "type": None, "split": "train",
    }  # fmt: skip
    plain = {**ONE_STEP, "base_model": str(make_tiny_llama(folder / "llama")), "datasets": [data]}
    recipes: dict[str, dict[str, Any]] = {"ddp-none": plain}
    for average in ("token", "sequence", "upstream"):
        recipes[f"ddp-{average}"] = {**plain, **PLUGIN, "loss_average": average}
    for average in ("token", "sequence"):
        recipes[f"sharded-{average}"] = {**recipes[f"ddp-{average}"], "SHARD": True}
    # Three packs for two ranks.
    three = {**data, "path": str(write_rows(folder / "three.jsonl", ROWS[:4]))}
    recipes["ddp-token"] |= {
        "test_datasets": [three], "eval_strategy": "steps", "eval_steps": 1,
        "eval_sample_packing": True,
    }  # fmt: skip
    # Five rows for two ranks: accelerate repeats a row to fill the last round.
    recipes["ddp-unpacked"] = {
        **plain, **PLUGIN, "sample_packing": False, "gradient_accumulation_steps": 3,
        "dataloader_drop_last": False, "pad_to_sequence_len": False,
        "test_datasets": [data], "eval_strategy": "steps", "eval_steps": 1,
    }  # fmt: skip
    files = [str(write_recipe(folder, name, recipe)) for name, recipe in recipes.items()]
    script = str(Path(loss_ranks.__file__))
    run_module("torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, *files)
    return folder


def relative_error(runs: Path, run: str, average: str) -> float:
    """Return the relative error of the run's update against the gradient of the average."""
    weights = weights_by_hand(average, PACKS)
    _, gradient = step_by_hand(runs / "llama", zip(ROWS, weights, strict=True))
    return distance(update(runs / "llama", runs / run), gradient)


@pytest.mark.parametrize(
    "run", ["ddp-token", "ddp-sequence", "ddp-upstream", "sharded-token", "sharded-sequence"]
)
def test_two_ranks_make_the_same_step_as_one(runs: Path, run: str) -> None:
    average = run.partition("-")[2]
    assert relative_error(runs, run, average) < EXACT
    weights = weights_by_hand(average, PACKS)
    loss, _ = step_by_hand(runs / "llama", zip(ROWS, weights, strict=True))
    assert log(runs / run) == pytest.approx([loss], rel=EXACT)


def test_without_the_plugin_two_ranks_average_micro_batches(runs: Path) -> None:
    assert relative_error(runs, "ddp-none", "token") > 0.5


def test_filler_rows_of_the_last_round_are_not_evaluated_twice(runs: Path) -> None:
    weights = weights_by_hand("token", PACKS)
    loss, _ = step_by_hand(runs / "llama", zip(ROWS, weights, strict=True))
    assert log(runs / "ddp-unpacked", "eval_loss")[0] == pytest.approx(loss, rel=EXACT)


def test_every_pack_is_evaluated_once(runs: Path) -> None:
    weights = weights_by_hand("token", PACKS[:3])
    loss, _ = step_by_hand(runs / "llama", zip(ROWS[:4], weights, strict=True))
    assert log(runs / "ddp-token", "eval_loss")[0] == pytest.approx(loss, rel=EXACT)
