"""Train and score the tiny recipes on a CPU, with the settings and code of the big ones.

One process trains all of them by calling the function behind `axolotl train`. One test runs the
command itself, as on two machines.
"""

import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import axolotl_cli
from support.axolotl_runs import run_script
from support.chat_templates import chat_template
from support.commands import command, environment, load_run, run

from longwriter_eval.cli.main import main
from longwriter_train import recipes

pytestmark = [
    pytest.mark.axolotl,
    pytest.mark.timeout(1200),  # the first test waits for all training runs
]

FAMILIES = {"llama": "<|eot_id|>", "glm": "<|user|>", "qwen": "<|im_end|>"}
# What a model has to generate before the text of an answer that has no thinking.
OPENINGS = {"llama": "", "glm": "", "qwen": "</think>\n\n"}
ALONE = {"dataset_num_proc": 1, "dataloader_num_workers": 0, "dataloader_pin_memory": False}
# The settings of a big recipe that a CPU and a tiny model change.
TINY_SIZES = {
    "attn_implementation": "sdpa", "bf16": False, "tf32": False, "sequence_len": 2048,
    "num_epochs": 1,
}  # fmt: skip
QUIET = {
    "AXOLOTL_DO_NOT_TRACK": "1", "TRL_EXPERIMENTAL_SILENCE": "1",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}  # fmt: skip
# Settings of DPO whose loss starts at ln 2 as well.
DPO_LOSS = {
    "dpo_loss_type": ["sigmoid", "sigmoid_norm"], "dpo_loss_weights": [0.5, 0.5],
    "dpo_ld_alpha": 0.5,
}  # fmt: skip
README = (recipes.folder() / "README.md").read_text(encoding="utf-8")


# Training the third family is slow: `make test` leaves it out.
each_family = pytest.mark.parametrize(
    "family", ["llama", "glm", pytest.param("qwen", marks=pytest.mark.slow)]
)


@pytest.fixture(scope="module")
def families(request: pytest.FixtureRequest) -> list[str]:
    """The families whose tests are going to run."""
    tests = [item.name for item in request.session.items if item.path == request.path]
    return [name for name in FAMILIES if name != "qwen" or any("qwen" in test for test in tests)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything that the README's "Try it on a CPU" copies and creates."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for family in FAMILIES:
            for stage in ("sft", "dpo"):
                assert main(["recipes", "cp", f"tiny/{family}_{stage}"]) == 0
        assert main(["recipes", "tiny"]) == 0
        yield folder


@pytest.fixture(scope="module")
def trained(place: Path, families: list[str]) -> dict[str, Path]:
    """The checkpoints of the tiny recipes after a few steps each."""
    short: dict[str, dict[str, Any]] = {
        "sft": {"num_epochs": 1},
        "dpo": {"max_steps": 2, "save_steps": 2, **DPO_LOSS},
    }
    files, folders = [], {}
    for stage, fewer in short.items():  # DPO starts from the SFT checkpoint
        for family in families:
            recipe = recipes.load(Path(f"recipes/tiny/{family}_{stage}.yaml")) | fewer | ALONE
            files.append(f"{family}_{stage}.yaml")
            Path(files[-1]).write_text(yaml.safe_dump(recipe), encoding="utf-8")
            folders[f"{family}_{stage}"] = place / recipe["output_dir"]
    run_script(Path(axolotl_cli.__file__), *files)
    return folders


def losses(folder: Path) -> list[float]:
    (state,) = folder.glob("checkpoint-*/trainer_state.json")
    history = json.loads(state.read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


@each_family
def test_sft_learns(trained: dict[str, Path], family: str) -> None:
    first, *_, last = losses(trained[f"{family}_sft"])
    assert last < first < 7  # ln 512 = 6.2 before training


@each_family
def test_dpo_starts_at_its_reference_and_moves_away(trained: dict[str, Path], family: str) -> None:
    first, second = losses(trained[f"{family}_dpo"])
    assert first == pytest.approx(0.6931, abs=1e-3)  # ln 2: policy and reference are the same
    assert second < first


@each_family
def test_the_settings_of_the_loss_reach_the_trainer(trained: dict[str, Path], family: str) -> None:
    import torch

    (saved,) = trained[f"{family}_dpo"].glob("checkpoint-*/training_args.bin")
    args = torch.load(saved, weights_only=False)
    assert (args.loss_type, args.loss_weights, args.ld_alpha) == tuple(DPO_LOSS.values())


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@each_family
def test_the_checkpoint_has_its_template_and_end_tokens(
    trained: dict[str, Path], family: str, stage: str
) -> None:
    from transformers import AutoTokenizer

    name = f"{family}_{stage}"
    folder, end = trained[name], FAMILIES[family]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    recipe = recipes.load(Path(f"recipes/tiny/{name}.yaml"))
    assert tokenizer.chat_template.strip() == chat_template(recipe).strip()
    assert tokenizer.eos_token == end
    generation = json.loads((folder / "generation_config.json").read_text())
    assert tokenizer.convert_tokens_to_ids(end) in generation["eos_token_id"]


@each_family
def test_only_the_answers_in_the_prepared_data_carry_loss(
    trained: dict[str, Path], family: str
) -> None:
    from datasets import load_from_disk
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained[f"{family}_sft"])
    (prepared,) = (trained[f"{family}_sft"] / "prepared").rglob("dataset_info.json")
    rows = load_from_disk(str(prepared.parent))
    learned = [
        tokenizer.decode([label for label in row["labels"] if label != -100]) for row in rows
    ]
    lines = Path("recipes/tiny/sft.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["messages"][-1]["content"] for line in lines]
    wanted = (OPENINGS[family] + answer + FAMILIES[family] for answer in answers)
    assert sorted(learned) == sorted(wanted)


def test_a_glm_keeps_the_context_length_of_its_recipe(trained: dict[str, Path]) -> None:
    for name in ("glm_sft", "glm_dpo"):
        config = json.loads((trained[name] / "config.json").read_text())
        assert config["max_position_embeddings"] == 4096
        assert config["rope_parameters"]["rope_theta"] == 5_000_000
        assert config["rope_parameters"]["partial_rotary_factor"] == 0.5


def test_axolotl_train_accepts_the_directory(place: Path, tmp_path: Path) -> None:
    """`axolotl train recipes/` after `recipes cp`; only model, data and sizes are overridden."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(["recipes", "cp", "llama3.1-8b/sft"]) == 0
    recipe = recipes.load(tmp_path / "recipes" / "sft.yml")
    recipe |= {key: value for key, value in TINY_SIZES.items() if key in recipe} | ALONE
    recipe["plugins"] = [name for name in recipe["plugins"] if "liger" not in name]
    recipe |= {"base_model": str(place / "runs/tiny-llama"), "benchmark_check": False}
    recipe["datasets"] = [
        {"path": str(place / "recipes/tiny/sft.jsonl"), "type": "longwriter_train.chat"}
    ]
    for key in ("deepspeed", "liger_fused_linear_cross_entropy"):
        del recipe[key]
    text = (tmp_path / "recipes" / "sft.yml").read_text(encoding="utf-8")
    header = text.partition("\n\n")[0]
    (tmp_path / "recipes" / "sft.yml").write_text(
        f"{header}\n\n{yaml.safe_dump(recipe)}", encoding="utf-8"
    )
    (line,) = set(re.findall(r"^axolotl train recipes/(?= )", README, re.MULTILINE))
    done = subprocess.run(
        [sys.executable, axolotl_cli.__file__, line.split()[-1]],
        cwd=tmp_path,
        env=environment(
            CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1", AXOLOTL_LOG_LEVEL="INFO", **QUIET
        ),
        stdin=subprocess.DEVNULL,  # a prompt for input would end the run
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "SFT of Llama-3.1-8B on 8 × 80 GB" in done.stdout
    assert "this machine: no GPU" in done.stdout
    assert "checked 16 rows" in done.stdout
    assert (tmp_path / recipe["output_dir"] / "model.safetensors").is_file()


@pytest.mark.usefixtures("upstream")
def test_the_command_in_the_readme_scores_the_checkpoint(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    (line,) = re.findall(r"^lm_eval run .*pretrained=runs/glm4-9b-sft.*$", README, re.MULTILINE)
    line = line.replace("runs/glm4-9b-sft", str(trained["glm_sft"]))
    line = line.replace("runs/scores", str(tmp_path)).replace("bfloat16", "float32")
    line = line.replace("--tasks longbench_write ", "--tasks longbench_write_length ")
    short = ("--device", "cpu", "--limit", "2", "--gen_kwargs", "max_gen_toks=24")
    ended = run(*shlex.split(line), *short)
    assert ended.code == 0, ended.out
    assert "length_score" in ended.out
    scored = load_run(tmp_path)
    assert len(scored.samples) == 2
    for sample in scored.samples:
        prompt = sample.row["arguments"]["gen_args_0"]["arg_0"]
        assert prompt.startswith("[gMASK]<sop><|user|>\n")
        assert prompt.endswith("<|assistant|>\n")


@pytest.mark.slow
def test_two_machines_train_one_model(place: Path, trained: dict[str, Path]) -> None:
    """The README's torchrun line, with one process in place of each machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (line,) = re.findall(r"^axolotl train .* --launcher torchrun .*$", README, re.MULTILINE)
    line = line.replace("glm4-9b/sft", "tiny/llama_sft").replace(
        "$FIRST_MACHINE:29500", f"127.0.0.1:{port}"
    )
    line = line.replace("--nproc_per_node=4", "--nproc_per_node=1")
    line = line.replace(".yaml ", ".yaml --num-epochs=1 --output-dir=runs/two ")
    machines = [
        subprocess.Popen(
            command(*shlex.split(line)),
            cwd=place,
            env=environment(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    printed = [machine.communicate(timeout=500)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], printed[0][-3000:]
    steps = len(losses(place / "runs/two"))
    assert steps == len(losses(trained["llama_sft"])) // 2  # each step has twice the packs
