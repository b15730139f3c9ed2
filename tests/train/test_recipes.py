"""axolotl knows every key and accepts every recipe, and each recipe's header is correct."""

import importlib
import json
import re
import shlex
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from longwriter_eval.cli.main import main
from longwriter_train import recipes
from longwriter_train.checks.recipe import problems

pytestmark = pytest.mark.axolotl

ROOT = Path(__file__).parents[2]
NAMES = recipes.names()
RECIPES = {name: recipes.load(recipes.folder() / f"{name}.yaml") for name in NAMES}

MODELS = {"glm4-9b": "glm", "llama3.1-8b": "llama", "qwen3-8b": "qwen"}  # and their tiny siblings

# The settings in which two sibling recipes may differ, besides their output folders.
ONE_GPU = {"deepspeed", "gradient_accumulation_steps", "optimizer", "optim_args"}
LORA = {key for recipe in RECIPES.values() for key in recipe if key.startswith("lora_")} | {
    "adapter", "learning_rate", "gradient_checkpointing_kwargs", "merge_method",
}  # fmt: skip
FAMILY = {
    "base_model",
    "overrides_of_model_config",
    "chat_template",
    "chat_template_jinja",
    "eot_tokens",
    "special_tokens",
}
MAY_DIFFER = {
    ("sft", "sft_offload"): {"deepspeed"},
    ("sft", "sft_1gpu"): ONE_GPU,
    ("sft_1gpu", "sft_1gpu_lora"): LORA,
    ("dpo", "dpo_1gpu"): ONE_GPU,
    ("dpo_1gpu", "dpo_1gpu_lora"): LORA,
}
# The settings that a CPU, a tiny model and 16 rows require.
TINY = {
    "attn_implementation", "benchmark_check", "bf16", "datasets", "deepspeed",
    "gradient_accumulation_steps", "learning_rate", "liger_fused_linear_cross_entropy", "max_steps",
    "num_epochs", "plugins", "save_steps", "sequence_len", "tf32",
}  # fmt: skip


def differences(one: str, other: str) -> set[str]:
    first, second = RECIPES[one], RECIPES[other]
    differing = {key for key in first | second if first.get(key) != second.get(key)}
    return differing - {"output_dir", "dataset_prepared_path"}


def stages(model: str) -> set[str]:
    return {name.rpartition("/")[2] for name in NAMES if name.startswith(model)}


def test_every_model_has_all_recipes() -> None:
    assert {name.partition("/")[0] for name in NAMES} == {*MODELS, "tiny"}
    for model in MODELS:
        assert stages(f"{model}/") == stages("glm4-9b/")
    tiny = {f"{tiny}_{stage}" for tiny in MODELS.values() for stage in ("sft", "dpo")}
    assert stages("tiny/") == tiny | {"llama_grpo"}
    assert {stage for pair in MAY_DIFFER for stage in pair} | {"grpo"} == stages("glm4-9b/")
    assert len(list(recipes.folder().rglob("*.yaml"))) == len(NAMES)
    assert [path.name for path in recipes.folder().rglob("*.yml")] == ["sft.yml"]


@pytest.mark.parametrize("name", NAMES)
def test_axolotl_knows_every_key_and_accepts_the_recipe(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.chdir(ROOT)
    assert list(problems(recipes.folder() / f"{name}.yaml")) == []


def test_all_mistakes_in_a_recipe_are_reported_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.chdir(tmp_path)
    wrong = {
        **RECIPES["llama3.1-8b/sft"],
        "learning_rat": 1,
        "fsdp_config": {"ofload_params": True},
    }
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    message = " ".join(problems(tmp_path / "wrong.yaml"))
    assert "learning_rat (did you mean learning_rate?)" in message
    assert "fsdp_config.ofload_params (did you mean offload_params?)" in message
    assert "recipes/deepspeed/zero3.json does not exist" in message
    assert "recipes/chat_templates/llama3.jinja does not exist" in message


def test_a_setting_that_axolotl_refuses_is_reported(tmp_path: Path) -> None:

    wrong = {**RECIPES["tiny/llama_dpo"], "sample_packing": True}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    (said,) = problems(tmp_path / "wrong.yaml")
    assert "does not work with RLHF" in said
    assert "pydantic" not in said


def test_a_value_of_the_wrong_type_is_reported_with_its_key(tmp_path: Path) -> None:

    wrong = {**RECIPES["tiny/llama_sft"], "num_epochs": "many"}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    (said,) = problems(tmp_path / "wrong.yaml")
    assert said.startswith("num_epochs: Input should be")


@pytest.mark.parametrize(
    ("name", "alpha", "said"),
    [
        ("tiny/llama_dpo", 1.5, "dpo_ld_alpha: Input should be less than or equal to 1"),
        ("tiny/llama_sft", 0.5, "dpo_ld_alpha needs rl: dpo"),
    ],
)
def test_an_ld_alpha_out_of_place_is_reported(
    name: str, alpha: float, said: str, tmp_path: Path
) -> None:
    wrong = {**RECIPES[name], "dpo_ld_alpha": alpha}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    assert list(problems(tmp_path / "wrong.yaml")) == [said]


@pytest.mark.parametrize(("one", "other"), MAY_DIFFER, ids=" ".join)
@pytest.mark.parametrize("model", MODELS)
def test_siblings_differ_only_where_allowed(model: str, one: str, other: str) -> None:
    differing = differences(f"{model}/{one}", f"{model}/{other}")
    assert differing
    assert differing <= MAY_DIFFER[one, other]


@pytest.mark.parametrize("stage", sorted(stages("glm4-9b/")))
@pytest.mark.parametrize("model", ["llama3.1-8b", "qwen3-8b"])
def test_all_models_are_trained_alike(model: str, stage: str) -> None:
    assert differences(f"glm4-9b/{stage}", f"{model}/{stage}") <= FAMILY


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize("big", MODELS)
def test_the_tiny_recipes_differ_from_the_big_ones_only_in_size(big: str, stage: str) -> None:
    tiny = MODELS[big]
    differing = differences(f"tiny/{tiny}_{stage}", f"{big}/{stage}")
    assert differing <= TINY | {"base_model", "overrides_of_model_config"}
    plugins = [plugin for plugin in RECIPES[f"{big}/{stage}"]["plugins"] if "longwriter" in plugin]
    assert RECIPES[f"tiny/{tiny}_{stage}"]["plugins"] == plugins


def test_the_tiny_grpo_recipe_has_the_rewards_and_the_trainer_of_the_big_ones() -> None:
    tiny, big = RECIPES["tiny/llama_grpo"], RECIPES["llama3.1-8b/grpo"]
    may_differ = TINY | {"base_model", "trl", "vllm", "micro_batch_size", "reward_wait"}
    may_differ |= {"gradient_checkpointing", "gradient_checkpointing_kwargs"}
    assert differences("tiny/llama_grpo", "llama3.1-8b/grpo") <= may_differ
    assert set(tiny["trl"]["reward_funcs"]) < set(big["trl"]["reward_funcs"])
    for key in ("multi_objective_aggregation", "epsilon", "beta"):
        assert tiny["trl"][key] == big["trl"][key]


def test_grpo_has_the_published_values() -> None:
    for model in MODELS:
        recipe = RECIPES[f"{model}/grpo"]
        published = {
            "num_generations": 32, "max_completion_length": 14000, "temperature": 0.8,
            "epsilon": 0.2, "beta": 0.0, "multi_objective_aggregation": "normalize_then_sum",
        }  # fmt: skip
        assert {key: recipe["trl"][key] for key in published} == published
        assert recipe["max_steps"] == 150
        completions = 8 * recipe["micro_batch_size"] * recipe["gradient_accumulation_steps"]
        assert completions == recipe["trl"]["generation_batch_size"]
        assert "validated, not run" in recipes.read(f"{model}/grpo")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reward_wait": 1800}, "must be less than ddp_timeout, 1800"),
        ({"rl": "dpo", "reward_judge": "gpt-4o"}, "reward_judge needs rl: grpo"),
        ({"trl": {"num_generation": 8}}, "trl.num_generation (did you mean num_generations?)"),
        ({"trl": {"reward_funcs": ["longwriter_train.rewards.lenght"]}}, "there is no longwriter"),
        ({"datasets": [{"path": "a.jsonl"}]}, "a.jsonl needs type: longwriter_train.prompts"),
        (
            {"trl": {"reward_funcs": ["longwriter_train.rewards.quality"]}, "trainer_cls": None},
            "quality needs trainer_cls: longwriter_train.rewards.RewardTrainer",
        ),
    ],
    ids=["waits too long", "no GRPO", "misspelt", "no reward", "no ranges", "no trainer"],
)
def test_a_mistake_in_a_grpo_recipe_is_reported(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    wrong = {**RECIPES["tiny/llama_grpo"], **changed}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    assert said in " ".join(problems(tmp_path / "wrong.yaml"))


def test_keys_have_the_same_order_everywhere() -> None:
    for one, other in combinations(RECIPES.values(), 2):
        common = [key for key in one if key in other]
        assert common == [key for key in other if key in one]


def test_every_run_has_a_seed_and_its_own_folders() -> None:
    outputs = [recipe["output_dir"] for recipe in RECIPES.values()]
    assert len(set(outputs)) == len(outputs)
    for recipe in RECIPES.values():
        assert recipe["seed"] == 42
        assert recipe["dataset_prepared_path"] == f"{recipe['output_dir']}/prepared"


def test_the_recipes_use_the_papers_hyperparameters() -> None:
    for model in MODELS:
        recipe = RECIPES[f"{model}/sft_offload"]
        assert recipe["deepspeed"] == "recipes/deepspeed/zero3_offload.json"
        paper = {
            "sequence_len": 32768, "excess_length_strategy": "drop", "sample_packing": True,
            "micro_batch_size": 1, "gradient_accumulation_steps": 1, "num_epochs": 4,
            "learning_rate": 1e-5, "lr_scheduler": "cosine", "warmup_ratio": 0.03,
            "weight_decay": 0.1, "adam_beta1": 0.9, "adam_beta2": 0.95, "bf16": True,
            "loss_average": "token",
        }  # fmt: skip
        assert {key: recipe[key] for key in paper} == paper
        assert RECIPES[f"{model}/sft_1gpu"]["gradient_accumulation_steps"] == 8
        for dpo in ("dpo", "dpo_1gpu", "dpo_1gpu_lora"):
            recipe = RECIPES[f"{model}/{dpo}"]
            gpus = 1 if "1gpu" in dpo else 8
            assert recipe["max_steps"] == 250
            assert recipe["excess_length_strategy"] == "raise"
            assert gpus * recipe["gradient_accumulation_steps"] == 216


@pytest.mark.parametrize(
    "path", sorted((recipes.folder() / "deepspeed").iterdir()), ids=lambda path: path.name
)
def test_deepspeed_sums_gradients_in_float32(path: Path) -> None:
    # DeepSpeed's default is the bf16 of the weights, in which late micro-batches lose precision.
    assert json.loads(path.read_text())["data_types"] == {"grad_accum_dtype": "fp32"}


@pytest.mark.parametrize("name", NAMES)
def test_the_paths_and_commands_in_headers_are_correct(name: str) -> None:
    text = recipes.read(name)
    header = " ".join(line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    path = f"recipes/{name}.yaml"
    for named in re.findall(r"recipes/[\w./-]+\.\w+", text):
        assert (ROOT / named).is_file(), named
    assert f"Launch: axolotl train {path}" in header
    (override,) = re.findall(r"Override: (axolotl train .*?) After:", header)
    words = shlex.split(override)
    assert words[2] == path
    keys = [word.removeprefix("--").partition("=")[0].replace("-", "_") for word in words[3:]]
    assert set(keys) < set(RECIPES[name])
    assert recipes.title(name).endswith(".")
    for stage in ("First:", "After:", "Data:", "Limits:"):
        assert stage in header


def test_settings_from_the_paper_are_marked() -> None:
    marked = {
        name: re.findall(r"^(\w+):.*# paper", recipes.read(name), re.MULTILINE) for name in NAMES
    }
    for name, keys in marked.items():
        stage = name.rpartition("/")[2]
        assert bool(keys) == (not name.startswith("tiny/")), name
        assert "learning_rate" not in keys or stage in ("sft", "sft_offload", "sft_1gpu")
        published = {"max_steps"} | ({"beta"} if stage == "grpo" else set())
        assert stage.startswith("sft") or set(keys) <= published


@pytest.mark.parametrize(
    "name",
    [
        "longwriter_train.chat.load",  # axolotl calls the module's `load`
        "longwriter_train.preference",
        "longwriter_train.prompts",
        "longwriter_train.rewards.RewardTrainer",
        "longwriter_train.rewards.length",
        "longwriter_train.rewards.form",
        "longwriter_train.rewards.quality",
        "longwriter_train.LossPlugin",
        "longwriter_train.checks.ChecksPlugin",
        "longwriter_train.checks.ChecksArgs",
        "longwriter_train.dpo.ChunkedDPOTrainer",
    ],
)
def test_every_name_in_copied_recipes_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute))


README = (recipes.folder() / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("   #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


def test_the_readme_names_exactly_the_existing_recipes() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([\w./-]+)`", row)]
    assert sorted(named) == NAMES
    for path in re.findall(r"recipes/[\w./-]+\.yaml", README):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (recipes.folder() / path).exists(), path
    for name in set(re.findall(r"longwriter_train\.[\w.]*\w", README)):
        module, _, attribute = name.rpartition(".")
        is_module = (ROOT / f"{name.replace('.', '/')}.py").exists()
        assert is_module or hasattr(importlib.import_module(module), attribute), name


def test_the_commands_in_the_readme_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    from axolotl.cli.config_options import AXOLOTL_CONFIG_CLI_OPTIONS

    options = {name for option in AXOLOTL_CONFIG_CLI_OPTIONS for name in _names(option)}
    lines = [*COMMANDS, *re.findall(r"`(--[\w-]+[^`]*)`", README)]
    lines += re.findall(r"(axolotl train … [^`]*)`", README)
    checked = 0
    for line in lines:
        own_part = line.split(" -- ")[0]
        if line.startswith(("axolotl train", "--")):
            given = re.findall(r"--[\w-]+", own_part)
            assert set(given) <= options | {"--launcher"}, line
            checked += len(given)
        elif line.startswith("longwriter "):
            words = shlex.split(own_part)
            help_of = words[1:3] if words[1] == "recipes" else words[1:2]
            assert main([*help_of, "--help"]) == 0
            said = capsys.readouterr().out
            assert all(word in said for word in words if word.startswith("--"))
        elif line:
            program, argument = line.split()[:2]
            assert program in ("pip", "axolotl", "vllm", "lm_eval", "python"), line
            assert program != "python" or (ROOT / argument).is_file(), line
    assert checked >= 3


def _names(option: Any) -> list[str]:
    """Return the spellings of one axolotl option, such as --use-ray/--no-use-ray."""
    return [name for spelt in option[0] for name in spelt.split("/")]
