"""The loss that `axolotl train` minimises with LossPlugin, against gradients computed by hand.

The training runs are small and use axolotl's own functions. Most take one step of plain gradient
descent at learning rate 1, so the change of the weights is the negative gradient of the loss.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.axolotl_runs import ONE_STEP, PLUGIN, log, train, write_rows
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
from support.tiny_models import make_tiny_glm, make_tiny_llama, make_tiny_qwen

pytest.importorskip("axolotl")

# The first test waits for all training runs, which take minutes.
pytestmark = [pytest.mark.axolotl, pytest.mark.slow, pytest.mark.timeout(1200)]

# Only one packing is possible: packs with 201 and 6 label tokens.
PACKS = [[sequence(250, 201, seed=1)], [sequence(200, 4, seed=2), sequence(50, 2, seed=3)]]
THREE_PACKS = [*PACKS, [sequence(245, 90, seed=4)]]
ROWS = [row for pack in PACKS for row in pack]
MANY = [sequence(130 + 7 * n, 5 + 17 * n, seed=20 + n) for n in range(6)]
BETA = 0.5
CLIP = 0.1
LLAMA_FORWARD = "transformers.models.llama.modeling_llama:LlamaForCausalLM.forward"


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of all training runs of this file, in one process."""
    folder = tmp_path_factory.mktemp("loss")
    makers = {"llama": make_tiny_llama, "glm": make_tiny_glm, "qwen": make_tiny_qwen}
    models = {name: make(folder / name) for name, make in makers.items()}

    def data(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        path = write_rows(folder / f"{name}.jsonl", rows)
        return {"path": str(path), "ds_type": "json", "type": None, "split": "train"}

    two = data("two", ROWS)
    three = data("three", [row for pack in THREE_PACKS for row in pack])
    many = data("many", MANY)
    evaluated = {"test_datasets": [two], "eval_strategy": "steps", "eval_steps": 1}
    plain = {**ONE_STEP, "base_model": str(models["llama"]), "datasets": [two]}
    plugin = {**plain, **PLUGIN}
    glm, qwen = ({"base_model": str(models[name])} for name in ("glm", "qwen"))
    checkpointed = {
        "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True},
    }  # fmt: skip
    epoch = {
        "datasets": [three], "max_steps": None, "include_tkps": True,
        "curriculum_sampling": True, "shuffle_merged_datasets": False,
    }  # fmt: skip
    epochs = {
        **plugin, "datasets": [many], "max_steps": 12, "num_epochs": 4, "learning_rate": 0.01,
        "optimizer": "adamw_torch", "save_strategy": "steps", "save_steps": 4,
    }  # fmt: skip
    pairs = write_rows(
        folder / "pairs.jsonl",
        [
            {"prompt": "Write about the sea.", "chosen": "The storm is near.", "rejected": "No."},
            {"prompt": "请写一篇文章。", "chosen": "第一章。", "rejected": "The book is closed."},
        ],
    )
    dpo = {
        **ONE_STEP, "base_model": str(models["llama"]), "rl": "dpo", "rl_beta": BETA,
        "sample_packing": False, "max_steps": 2, "datasets": [{
            "path": str(pairs), "ds_type": "json", "split": "train",
            "type": {"field_prompt": "prompt", "field_chosen": "chosen", "field_rejected":
                     "rejected", "prompt_format": "{prompt}", "chosen_format": "{chosen}",
                     "rejected_format": "{rejected}"},
        }],
    }  # fmt: skip
    recipes = {
        "killed": {**epochs, "KILL_AT": "checkpoint-4/trainer_state.json"},
        "whole": epochs,
        "resumed": {
            **epochs, "output_dir": str(folder / "killed"), "auto_resume_from_checkpoints": True,
        },
        "llama-none": plain,
        "llama-token": {**plugin, **evaluated},
        "llama-sequence": {**plugin, **evaluated, "loss_average": "sequence"},
        "llama-upstream": {**plugin, "loss_average": "upstream"},
        "llama-token-unpacked": {
            **plugin, "sample_packing": False, "micro_batch_size": 2, "pad_to_sequence_len": False,
        },
        "llama-token-checkpointed": {
            **plugin, **checkpointed, **evaluated, "eval_sample_packing": True,
        },
        "llama-sequence-checkpointed": {**plugin, **checkpointed, "loss_average": "sequence"},
        "llama-epoch": {**plugin, **epoch},
        "llama-epoch-none": {**plain, **epoch},
        # Three packs in micro-batches of two, so the last micro-batch has one filler pack.
        "llama-filler": {
            **plugin, "datasets": [three], "micro_batch_size": 2, "multipack_real_batches": True,
            "curriculum_sampling": True, "shuffle_merged_datasets": False,
        },
        # axolotl's kernels for LoRA need a GPU, and it switches them on by itself.
        "llama-lora": {
            **plugin, "adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0,
            "lora_target_linear": True, "lora_mlp_kernel": False, "lora_qkv_kernel": False,
            "lora_o_kernel": False,
        },
        "llama-clipping": {**plugin, "max_grad_norm": CLIP},
        "glm-none": {**plain, **glm},
        "glm-token": {**plugin, **glm},
        "glm-sequence": {**plugin, **glm, "loss_average": "sequence"},
        "glm-upstream": {**plugin, **glm, "loss_average": "upstream"},
        **{
            f"qwen-{average}": {**plugin, **qwen, "loss_average": average}
            for average in ("token", "sequence", "upstream")
        },
        "dpo": dpo,
        "refused-model": {**plugin, "DEAF": LLAMA_FORWARD},
        "refused-nan": {**plugin, "base_model": str(_with_nan(folder))},
        "refused-trainer": {**plugin, "DEAF": "transformers.trainer:Trainer.training_step"},
        "refused-dpo": {**dpo, **PLUGIN},
        "refused-context-parallel": {**plugin, "context_parallel_size": 2},
        "refused-setting": {**plugin, "loss_average": "tokens"},
        "refused-sequence-liger": {
            **plugin, "loss_average": "sequence", "liger_fused_linear_cross_entropy": True,
            "plugins": [*PLUGIN["plugins"], "axolotl.integrations.liger.LigerPlugin"],
        },
    }  # fmt: skip
    # Liger replaces the models' forward passes for the rest of the process.
    for name in models:
        recipes[f"{name}-token-liger"] = {
            **plugin, "base_model": str(models[name]), "liger_fused_linear_cross_entropy": True,
            "plugins": [*PLUGIN["plugins"], "axolotl.integrations.liger.LigerPlugin"],
        }  # fmt: skip
    if not any("qwen" in item.name for item in request.session.items):  # `make test`
        recipes = {name: recipe for name, recipe in recipes.items() if "qwen" not in name}
    # Triton's interpreter runs Liger's kernels on a CPU.
    (folder / "printed.txt").write_text(train(folder, recipes, TRITON_INTERPRET="1"))
    return folder


def _with_nan(folder: Path) -> Path:
    """Save a tiny Llama with one NaN weight, and return its folder."""
    import torch
    from safetensors.torch import load_file, save_file

    path = make_tiny_llama(folder / "nan")
    weights = load_file(path / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = torch.nan
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


def token_mean(runs: Path) -> tuple[float, Any]:
    """The loss over PACKS averaged by token under the tiny Llama, and its gradient."""
    weights = weights_by_hand("token", PACKS)
    return step_by_hand(runs / "llama", zip(ROWS, weights, strict=True))


def relative_error(runs: Path, run: str, average: str) -> float:
    """Return the relative error of the run's update against the gradient of the average."""
    model = runs / run.split("-")[0]
    weights = weights_by_hand(average, PACKS)
    _, gradient = step_by_hand(model, zip(ROWS, weights, strict=True))
    return distance(update(model, runs / run), gradient)


@pytest.mark.parametrize("average", ["token", "sequence", "upstream"])
@pytest.mark.parametrize("model", ["llama", "glm", pytest.param("qwen", marks=pytest.mark.slow)])
def test_a_step_is_the_gradient_of_the_average_that_the_recipe_names(
    runs: Path, model: str, average: str, assert_exact: AssertExact
) -> None:
    name = {"llama": "Llama", "glm": "GLM", "qwen": "Qwen3"}[
        model
    ] + ", packed, gradient accumulation"
    if average != "token":
        name += f", loss_average: {average}"
    assert_exact(name, relative_error(runs, f"{model}-{average}", average))


@pytest.mark.parametrize("model", ["llama", "glm"])
def test_without_the_plugin_axolotl_averages_micro_batches(runs: Path, model: str) -> None:
    measured = {
        f"{run}, from {average}": relative_error(runs, f"{model}-{run}", average)
        for run, average in (("none", "micro-batch"), ("none", "token"), ("token", "token"))
    }
    print(model, measured)  # pytest -s shows the numbers in recipes/LOSS.md
    assert measured["none, from micro-batch"] < EXACT
    assert measured["none, from token"] > 0.5


def test_packed_and_unpacked_rows_make_the_same_step(runs: Path, assert_exact: AssertExact) -> None:
    assert_exact("not packed", relative_error(runs, "llama-token-unpacked", "token"))


@pytest.mark.parametrize("average", ["token", "sequence"])
def test_gradient_checkpointing_changes_nothing(
    runs: Path, average: str, assert_exact: AssertExact
) -> None:
    error = relative_error(runs, f"llama-{average}-checkpointed", average)
    assert_exact("reentrant gradient checkpointing", error)


@pytest.mark.parametrize("model", ["llama", "glm", pytest.param("qwen", marks=pytest.mark.slow)])
def test_ligers_fused_cross_entropy_makes_the_same_step(
    runs: Path, model: str, assert_exact: AssertExact
) -> None:
    error = relative_error(runs, f"{model}-token-liger", "token")
    assert_exact("Liger's fused loss", error)


def test_lora_trains_by_the_same_gradient(runs: Path, assert_exact: AssertExact) -> None:
    from safetensors.torch import load_file

    _, gradient = token_mean(runs)
    wanted = lora_by_hand(runs / "llama-lora", gradient)
    assert wanted
    found = load_file(runs / "llama-lora" / "adapter_model.safetensors")
    assert_exact("LoRA", distance(found, wanted))


def test_the_whole_gradient_is_clipped(runs: Path, assert_exact: AssertExact) -> None:
    _, gradient = token_mean(runs)
    found = update(runs / "llama", runs / "llama-clipping")
    assert_exact("gradient clipping", distance(found, clipped(gradient, CLIP)))


def test_an_incomplete_window_at_the_end_of_an_epoch_is_averaged_over_its_batches(
    runs: Path, assert_exact: AssertExact
) -> None:
    losses, gradients = [], None
    for packs in (THREE_PACKS[:2], THREE_PACKS[2:]):
        rows = [row for pack in packs for row in pack]
        weights = weights_by_hand("token", packs)
        loss, gradient = step_by_hand(
            runs / "llama", zip(rows, weights, strict=True), after=gradients
        )
        losses.append(loss)
        gradients = (
            {name: gradients[name] + gradient[name] for name in gradient} if gradients else gradient
        )
    assert gradients is not None
    assert log(runs / "llama-epoch") == pytest.approx(losses, rel=EXACT)
    found = update(runs / "llama", runs / "llama-epoch")
    assert_exact("a short last window", distance(found, gradients))


def test_an_epoch_trains_every_sequence_while_axolotl_drops_the_last_window(
    runs: Path,
) -> None:
    assert log(runs / "llama-epoch", "tokens/trainable")[-1] == 201 + 6 + 90
    assert log(runs / "llama-epoch-none", "tokens/trainable")[-1] == 201 + 6


def test_filler_packs_carry_no_loss(runs: Path, assert_exact: AssertExact) -> None:
    rows = [row for pack in THREE_PACKS for row in pack]
    weights = weights_by_hand("token", THREE_PACKS)
    loss, gradient = step_by_hand(runs / "llama", zip(rows, weights, strict=True))
    assert log(runs / "llama-filler") == pytest.approx([loss], rel=EXACT)
    found = update(runs / "llama", runs / "llama-filler")
    assert_exact("filler packs", distance(found, gradient))


def test_tokens_in_a_pack_do_not_attend_to_other_sequences(runs: Path) -> None:
    joined = {key: ROWS[1][key] + ROWS[2][key] for key in ROWS[1]}
    _, mixed = step_by_hand(runs / "llama", [(ROWS[0], 1 / 207), (joined, 1 / 207)])
    # The tests above show that packed and separate sequences give the same step. This one measures
    # how much the step would differ if tokens attended to other sequences.
    assert distance(update(runs / "llama", runs / "llama-token"), mixed) > 1e-2


@pytest.mark.parametrize("average", ["token", "sequence"])
def test_the_logged_loss_is_the_average_in_training_and_in_evaluation(
    runs: Path, average: str
) -> None:
    weights = weights_by_hand(average, PACKS)
    loss, _ = step_by_hand(runs / "llama", zip(ROWS, weights, strict=True))
    run = runs / f"llama-{average}"
    assert log(run) == pytest.approx([loss], rel=EXACT)
    # Evaluation has three unpacked batches of one row. The mean of their means would differ.
    assert log(run, "eval_loss")[0] == pytest.approx(loss, rel=EXACT)


def test_packed_evaluation_gives_the_same_average(runs: Path) -> None:
    loss, _ = token_mean(runs)
    evaluated = log(runs / "llama-token-checkpointed", "eval_loss")
    assert evaluated[0] == pytest.approx(loss, rel=EXACT)


def test_a_killed_run_resumes_from_its_checkpoint_with_the_same_losses(
    runs: Path, assert_exact: AssertExact
) -> None:
    whole = log(runs / "whole")
    assert len(whole) == 12
    assert log(runs / "killed") == whole
    found, wanted = (update(runs / "llama", runs / run) for run in ("killed", "whole"))
    assert distance(found, wanted) == 0
    assert_exact("resumed after kill -9, from the same run without", distance(found, wanted))


def test_dpo_is_the_log_sigmoid_of_the_difference_in_log_ratios(runs: Path) -> None:
    pairs = [json.loads(line) for line in (runs / "dpo" / "pairs.jsonl").read_text().splitlines()]
    assert len(pairs) == 2
    losses, _ = dpo_by_hand(runs / "llama", pairs, BETA, steps=2)
    assert losses[0] == pytest.approx(math.log(2))
    assert log(runs / "dpo") == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("refused-model", "LlamaForCausalLM does not divide its loss"),
        ("refused-nan", "the loss of the first micro-batch is nan, because "),
        ("refused-nan", "model.layers.1.mlp.up_proj.weight holds NaN"),
        ("refused-trainer", "transformers.trainer:Trainer.training_step has changed"),
        ("refused-dpo", "rl: dpo has its own loss"),
        ("refused-context-parallel", "context_parallel_size: 2 splits a pack over ranks"),
        ("refused-setting", "loss_average"),
        ("refused-sequence-liger", "loss_average: sequence has its own fused cross-entropy"),
    ],
)
def test_a_setup_with_a_wrong_average_is_refused_before_the_first_step(
    runs: Path, run: str, words: str
) -> None:
    assert words in (runs / run / "error.txt").read_text()
    assert not (runs / run / "model.safetensors").exists()


def test_the_log_names_the_average(runs: Path) -> None:
    printed = (runs / "printed.txt").read_text()
    assert "LossPlugin: loss_average: upstream, over the global batch of each step" in printed


def test_gradient_checkpointing_causes_no_warning(runs: Path) -> None:
    assert "None of the inputs have requires_grad" not in (runs / "printed.txt").read_text()
