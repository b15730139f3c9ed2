"""The loss on two gloo ranks with DDP, FSDP2 and ZeRO-3, compared with gradients computed by hand.

One process imports axolotl and forks the ranks of every training run (support.train_ranks).
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import train_ranks
from support.axolotl_runs import ONE_STEP, PLUGIN, log, run_script, write_recipe, write_rows
from support.reference_loss import (
    EXACT,
    AssertExact,
    clipped,
    distance,
    dpo_by_hand,
    lora_by_hand,
    sequence,
    step_by_hand,
    update,
    weights_by_hand,
)  # fmt: skip
from support.tiny_models import make_tiny_llama

from longwriter_train.recipes import folder as recipes_folder

pytest.importorskip("axolotl")

# the first test waits for all training runs
pytestmark = [pytest.mark.axolotl, pytest.mark.slow, pytest.mark.timeout(1200)]
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs the deepspeed extra"
)

BETA = 0.5
CLIP = 0.1
# Only one packing is possible: four packs, two for each rank, with very unequal label counts.
PACKS = [
    [sequence(250, 201, seed=1)],
    [sequence(200, 4, seed=2), sequence(50, 2, seed=3)],
    [sequence(245, 90, seed=4)],
    [sequence(246, 3, seed=5)],
]
# Two more packs: with accumulation 2, the second window of an epoch has one pack for each rank.
SIX_PACKS = [*PACKS, [sequence(248, 40, seed=6)], [sequence(249, 7, seed=7)]]
ROWS = [row for pack in PACKS for row in pack]
PAIRS = [
    {"prompt": "Write about the sea.", "chosen": "The storm is near.", "rejected": "No."},
    {"prompt": "请写一篇文章。", "chosen": "第一章。", "rejected": "The book is closed."},
]


def make_recipes(folder: Path) -> dict[str, dict[str, Any]]:
    """The recipe of each run, with its data and models in `folder`."""

    def data(name: str, packs: Sequence[Sequence[Any]]) -> dict[str, Any]:
        path = write_rows(folder / f"{name}.jsonl", [row for pack in packs for row in pack])
        return {"path": str(path), "ds_type": "json", "type": None, "split": "train"}

    plain = {
        **ONE_STEP, "base_model": str(make_tiny_llama(folder / "llama")),
        "datasets": [data("four", PACKS)],
    }  # fmt: skip
    recipes: dict[str, dict[str, Any]] = {"ddp-none": plain}
    for average in ("token", "sequence", "upstream"):
        recipes[f"ddp-{average}"] = {**plain, **PLUGIN, "loss_average": average}
    for average in ("token", "sequence"):
        recipes[f"fsdp2-{average}"] = {**recipes[f"ddp-{average}"], "SHARD": True}
    # Three packs for two ranks.
    recipes["ddp-token"] |= {
        "test_datasets": [data("three", PACKS[:3])], "eval_strategy": "steps", "eval_steps": 1,
        "eval_sample_packing": True,
    }  # fmt: skip
    # Five rows for two ranks: accelerate repeats a row to fill the last round.
    recipes["ddp-unpacked"] = {
        **plain, **PLUGIN, "sample_packing": False, "gradient_accumulation_steps": 3,
        "dataloader_drop_last": False, "pad_to_sequence_len": False,
        "test_datasets": plain["datasets"], "eval_strategy": "steps", "eval_steps": 1,
    }  # fmt: skip
    if importlib.util.find_spec("deepspeed") is None:
        return recipes

    # The recipes' own settings, but in float32.
    settings = json.loads((recipes_folder() / "deepspeed" / "zero3.json").read_text())
    del settings["bf16"]
    (folder / "zero3.json").write_text(json.dumps(settings))
    zero3 = {**plain, **PLUGIN, "deepspeed": str(folder / "zero3.json")}
    epochs = {
        **zero3, "max_steps": 4, "num_epochs": 4, "learning_rate": 0.01,
        "optimizer": "adamw_torch", "save_strategy": "steps", "save_steps": 2,
    }  # fmt: skip
    pairs = {
        "path": str(write_rows(folder / "pairs.jsonl", PAIRS)), "ds_type": "json",
        "split": "train",
        "type": {
            "field_prompt": "prompt", "field_chosen": "chosen", "field_rejected": "rejected",
            "prompt_format": "{prompt}", "chosen_format": "{chosen}",
            "rejected_format": "{rejected}",
        },
    }  # fmt: skip
    return recipes | {
        "zero3-token": zero3,
        "zero3-sequence": {**zero3, "loss_average": "sequence"},
        "zero3-upstream": {**zero3, "loss_average": "upstream"},
        "zero3-checkpointing": {
            **zero3, "gradient_checkpointing": True,
            "gradient_checkpointing_kwargs": {"use_reentrant": True},
        },
        "zero3-liger": {
            **zero3, "liger_fused_linear_cross_entropy": True,
            "plugins": [*PLUGIN["plugins"], "axolotl.integrations.liger.LigerPlugin"],
        },
        "zero3-clipping": {**zero3, "max_grad_norm": CLIP},
        "zero3-lora": {
            **zero3, "adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0,
            "lora_target_linear": True,
            # axolotl's kernels for LoRA need a GPU, and it switches them on by itself.
            "lora_mlp_kernel": False, "lora_qkv_kernel": False, "lora_o_kernel": False,
        },
        "zero3-window": {
            **zero3, "datasets": [data("six", SIX_PACKS)], "max_steps": None,
            "curriculum_sampling": True, "shuffle_merged_datasets": False,
        },
        "zero3-whole": epochs,
        "zero3-killed": {**epochs, "KILL_AT_STEP": 2},
        "zero3-resumed": {
            **epochs, "output_dir": str(folder / "zero3-killed"),
            "auto_resume_from_checkpoints": True,
        },
        "zero3-dpo": {
            **zero3, "plugins": [], "rl": "dpo", "rl_beta": BETA, "sample_packing": False,
            "trainer_cls": "longwriter_train.dpo.ChunkedDPOTrainer", "max_steps": 2,
            "num_epochs": 2, "gradient_accumulation_steps": 1, "datasets": [pairs],
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of all training runs of this file."""
    folder = tmp_path_factory.mktemp("ranks")
    recipes = make_recipes(folder)
    files = [str(write_recipe(folder, name, recipe)) for name, recipe in recipes.items()]
    # Triton's interpreter runs Liger's kernels on a CPU.
    printed = run_script(Path(train_ranks.__file__), *files, TRITON_INTERPRET="1")
    (folder / "printed.txt").write_text(printed)
    for name in recipes:
        error = folder / name / "error.txt"
        assert not error.exists(), f"{name}: {error.read_text()}"
    return folder


def token_mean(runs: Path, packs: Sequence[Sequence[Any]], after: Any = None) -> Any:
    """The loss over `packs` averaged by token, and its gradient."""
    weights = weights_by_hand("token", packs)
    rows = [row for pack in packs for row in pack]
    return step_by_hand(runs / "llama", zip(rows, weights, strict=True), after=after)


STRATEGIES = {"ddp": "DDP, 2 ranks", "fsdp2": "FSDP2, 2 ranks", "zero3": "ZeRO-3, 2 ranks"}


@pytest.mark.parametrize("average", ["token", "sequence", "upstream"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2", pytest.param("zero3", marks=needs_deepspeed)])
def test_two_ranks_make_the_same_step_as_one(
    runs: Path, strategy: str, average: str, assert_exact: AssertExact
) -> None:
    if (strategy, average) == ("fsdp2", "upstream"):
        pytest.skip("differs from DDP in nothing that the average uses")
    weights = weights_by_hand(average, PACKS)
    loss, gradient = step_by_hand(runs / "llama", zip(ROWS, weights, strict=True))
    run = runs / f"{strategy}-{average}"
    assert log(run) == pytest.approx([loss], rel=EXACT)
    name = STRATEGIES[strategy] + (f", loss_average: {average}" if average != "token" else "")
    assert_exact(name, distance(update(runs / "llama", run), gradient))


def test_without_the_plugin_two_ranks_average_micro_batches(runs: Path) -> None:
    _, gradient = token_mean(runs, PACKS)
    assert distance(update(runs / "llama", runs / "ddp-none"), gradient) > 0.5


def test_filler_rows_of_the_last_round_are_not_evaluated_twice(runs: Path) -> None:
    loss, _ = token_mean(runs, PACKS)
    assert log(runs / "ddp-unpacked", "eval_loss")[0] == pytest.approx(loss, rel=EXACT)


def test_every_pack_is_evaluated_once(runs: Path) -> None:
    loss, _ = token_mean(runs, PACKS[:3])
    assert log(runs / "ddp-token", "eval_loss")[0] == pytest.approx(loss, rel=EXACT)


@needs_deepspeed
@pytest.mark.parametrize(
    ("run", "feature"),
    [("checkpointing", "reentrant gradient checkpointing"), ("liger", "Liger's fused loss")],
)
def test_zero3_makes_the_same_step_with(
    runs: Path, run: str, feature: str, assert_exact: AssertExact
) -> None:
    _, gradient = token_mean(runs, PACKS)
    found = update(runs / "llama", runs / f"zero3-{run}")
    assert_exact(f"{STRATEGIES['zero3']}, {feature}", distance(found, gradient))


@needs_deepspeed
def test_zero3_clips_the_gradient_of_all_ranks(runs: Path, assert_exact: AssertExact) -> None:
    _, gradient = token_mean(runs, PACKS)
    found = update(runs / "llama", runs / "zero3-clipping")
    assert_exact(
        f"{STRATEGIES['zero3']}, gradient clipping", distance(found, clipped(gradient, CLIP))
    )


@needs_deepspeed
def test_zero3_trains_an_adapter_by_the_same_gradient(
    runs: Path, assert_exact: AssertExact
) -> None:
    from safetensors.torch import load_file

    _, gradient = token_mean(runs, PACKS)
    wanted = lora_by_hand(runs / "zero3-lora", gradient)
    assert wanted
    found = load_file(runs / "zero3-lora" / "adapter_model.safetensors")
    assert_exact(f"{STRATEGIES['zero3']}, LoRA", distance(found, wanted))


@needs_deepspeed
def test_zero3_averages_a_short_last_window_over_its_own_packs(
    runs: Path, assert_exact: AssertExact
) -> None:
    first_loss, first = token_mean(runs, SIX_PACKS[:4])
    second_loss, second = token_mean(runs, SIX_PACKS[4:], after=first)
    run = runs / "zero3-window"
    assert log(run) == pytest.approx([first_loss, second_loss], rel=EXACT)
    both = {name: first[name] + second[name] for name in first}
    assert_exact(
        f"{STRATEGIES['zero3']}, a short last window", distance(update(runs / "llama", run), both)
    )


@needs_deepspeed
def test_a_killed_zero3_run_resumes_with_the_same_losses(
    runs: Path, assert_exact: AssertExact
) -> None:
    whole = log(runs / "zero3-whole")
    assert len(whole) == 4
    assert log(runs / "zero3-killed") == pytest.approx(whole, rel=1e-6)
    found, wanted = (update(runs / "llama", runs / f"zero3-{run}") for run in ("killed", "whole"))
    assert_exact(f"{STRATEGIES['zero3']}, resumed after kill -9", distance(found, wanted))


@needs_deepspeed
def test_chunked_dpo_under_zero3_is_dpo(runs: Path, assert_exact: AssertExact) -> None:
    lines = (runs / "zero3-dpo" / "pairs.jsonl").read_text().splitlines()
    pairs = [json.loads(line) for line in lines]
    assert len(pairs) == 2
    losses, gradient = dpo_by_hand(runs / "llama", pairs, BETA, steps=2)
    assert log(runs / "zero3-dpo") == pytest.approx(losses, rel=1e-4)
    found = update(runs / "llama", runs / "zero3-dpo")
    assert_exact(f"{STRATEGIES['zero3']}, chunked DPO", distance(found, gradient))


@needs_deepspeed
def test_zero3_really_shards(runs: Path) -> None:
    printed = (runs / "printed.txt").read_text()
    assert re.search(r"zero3-token: [\d.]+ s", printed)
    assert '"stage": 3' in printed
