"""GRPO on a CPU through `axolotl train`: the length reward rises, and a judge may die.

`pytest -s -m slow tests/train/test_grpo_training.py` prints the curves in recipes/README.md.
"""

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import axolotl_cli
from support.axolotl_runs import run_script
from support.commands import environment
from support.judging import JUDGE_ENVIRONMENT

from longwriter_core.mock_server import MockReply, MockRequest, MockServer
from longwriter_core.mock_server.server import Hook
from longwriter_eval.cli.main import main
from longwriter_train import recipes

pytestmark = [pytest.mark.axolotl, pytest.mark.slow, pytest.mark.timeout(1200)]

TESTS = Path(__file__).parents[1]
ALONE = {"dataset_num_proc": 1, "dataloader_num_workers": 0, "dataloader_pin_memory": False}
WINDOW = 5  # steps at the start and at the end whose mean is compared


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny recipe and its model."""
    folder = tmp_path_factory.mktemp("grpo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["recipes", "cp", "tiny/llama_grpo"]) == 0
        assert main(["recipes", "tiny"]) == 0
    return folder


def write(place: Path, name: str, trl: Mapping[str, Any], **changes: Any) -> str:
    """Write the tiny recipe with changes, which trains to runs/NAME; return its path."""
    recipe = recipes.load(place / "recipes/tiny/llama_grpo.yaml") | ALONE | changes
    recipe["trl"] = recipe["trl"] | trl
    recipe |= {"output_dir": f"runs/{name}", "dataset_prepared_path": f"runs/{name}/prepared"}
    (place / f"{name}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return f"{name}.yaml"


def curve(place: Path, name: str, metric: str = "rewards/length/mean") -> list[float]:
    """Return what a training logged, step by step."""
    states = sorted((place / "runs" / name).glob("checkpoint-*/trainer_state.json"))
    history = json.loads(states[-1].read_text())["log_history"]
    return [entry[metric] for entry in history if metric in entry]


def test_the_length_reward_rises_and_without_it_does_not(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    control = {
        "reward_funcs": ["longwriter_train.rewards.length", "support.control_reward.noise"],
        "reward_weights": [0.0, 1.0],  # length is only measured
    }
    files = [write(place, "length", {}), write(place, "control", control)]
    run_script(Path(axolotl_cli.__file__), *files)
    rises = {}
    for name in ("length", "control"):
        rewards = curve(place, name)
        print(name, " ".join(f"{reward:.2f}" for reward in rewards))
        assert len(rewards) == 40
        rises[name] = (sum(rewards[-WINDOW:]) - sum(rewards[:WINDOW])) / WINDOW
    assert rises["length"] > 0.3
    assert abs(rises["control"]) < 0.15


NAMES = ("Relevance", "Accuracy", "Coherence", "Clarity", "Breadth and Depth",
         "Reading Experience")  # fmt: skip


def stars(request: MockRequest) -> MockReply | str | None:
    return json.dumps({"Analysis": "", **{n: 1 + len(request.prompt) % 5 for n in NAMES}})


ONE = ("axolotl.cli.main", "train", "--launcher", "python")
TWO = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "axolotl.cli.train")


def train(
    place: Path, file: str, *options: str, url: str, launcher: Sequence[str] = ONE
) -> "subprocess.Popen[str]":
    """Start `axolotl train` with a judge at `url`."""
    changes = {
        "AXOLOTL_DO_NOT_TRACK": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "any",
        **JUDGE_ENVIRONMENT, "LONGWRITER_JUDGE_BASE_URL": url,
        "LONGWRITER_JUDGE_PROMPT": "longwriter", "LONGWRITER_CACHE": str(place / "cache"),
        "PYTHONPATH": str(TESTS.parent),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, file, *options],
        cwd=place,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def dies_after(calls: int, has_died: threading.Event) -> Hook:
    """A judge that answers that many calls, and then nothing any more."""
    numbers = itertools.count(1)

    def reply(request: MockRequest) -> MockReply | str | None:
        if next(numbers) <= calls:
            return stars(request)
        has_died.set()
        return MockReply(status=503)

    return reply


JUDGED = {
    "reward_funcs": ["longwriter_train.rewards.length", "longwriter_train.rewards.quality"],
    "num_generations": 8, "max_completion_length": 62,
}  # fmt: skip


def train_until_the_judge_dies(place: Path, name: str, launcher: Sequence[str], ranks: int) -> str:
    """Train with a judge that dies in the second step; return the recipe."""
    trl = {**JUDGED, "generation_batch_size": 8 * ranks}
    sizes = {"micro_batch_size": 4, "gradient_accumulation_steps": 2, "reward_wait": 15}
    file = write(place, name, trl, **sizes, max_steps=3, save_steps=3)
    has_died = threading.Event()
    calls = 1 + 8 * ranks + 2  # the check, the first step, and a part of the second
    with MockServer(on_request=dies_after(calls, has_died)) as server:
        training = train(place, file, url=server.base_url, launcher=launcher)
        assert has_died.wait(timeout=400)
    output, _ = training.communicate(timeout=400)
    assert training.returncode == 1, output[-4000:]
    assert "and was waited for up to 15 s" in output
    assert f"saved step 1 in runs/{name}" in output
    saved = [path.name for path in (place / "runs" / name).glob("checkpoint-*")]
    assert saved == ["checkpoint-1"]
    assert len(curve(place, name, "rewards/quality/mean")) == 1  # no step without verdicts
    return file


def test_a_dead_judge_ends_in_a_checkpoint_from_which_training_resumes(place: Path) -> None:
    file = train_until_the_judge_dies(place, "one_rank", ONE, 1)
    with MockServer(on_request=stars) as server:
        resume = "--auto-resume-from-checkpoints"
        training = train(place, file, resume, url=server.base_url)
        output, _ = training.communicate(timeout=400)
    assert training.returncode == 0, output[-4000:]
    assert len(curve(place, "one_rank", "rewards/quality/mean")) == 3


def test_a_dead_judge_stops_all_ranks(place: Path) -> None:
    # Without a GPU, transformers cannot resume on several ranks.
    train_until_the_judge_dies(place, "two_ranks", TWO, 2)


def test_a_judge_that_cannot_be_used_stops_training_before_it_starts(place: Path) -> None:
    trl = {"reward_funcs": ["longwriter_train.rewards.quality"]}
    file = write(place, "unusable", trl)
    with MockServer(on_request=lambda _: MockReply(status=401)) as server:
        training = train(place, file, url=server.base_url)
        output, _ = training.communicate(timeout=400)
    assert training.returncode == 2, output[-4000:]
    assert "longwriter: error: the judge mock-judge at" in output
    assert not list((place / "runs").glob("unusable/checkpoint-*"))
