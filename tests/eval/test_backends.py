"""The README's backends without mocks: `hf` on a CPU, and `transformers serve`.

The models are tiny and random, with the architectures of Llama-3.1-8B and GLM-4-9B. Their texts
are noise, but templates, special tokens, stopping and context limits are real.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import load_run, run
from support.judging import JUDGE_SETTINGS
from support.serving import transformers_serve
from support.tiny_models import make_tiny_glm, make_tiny_llama

from longwriter_core.mock_server.server import MockServer

pytestmark = pytest.mark.slow

pytest.importorskip("torch", reason="needs the hf extra")

MAKERS = {"llama": make_tiny_llama, "glm": make_tiny_glm}
SHORT = "max_gen_toks=48"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: make(folder / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def judge() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


def hf(model: Path, judge: MockServer, output: Path, *more: str) -> list[str]:
    metadata = {**JUDGE_SETTINGS, "judge_base_url": judge.base_url}
    arguments = f"pretrained={model},dtype=float32"
    if "glm" in model.name:
        arguments += ",add_bos_token=False"  # its chat template already writes the prefix
    return [
        "run", "--model", "hf", "--model_args", arguments, "--device", "cpu",
        "--tasks", "longwrite_demo", "--apply_chat_template", "--log_samples",
        "--output_path", str(output), "--metadata", json.dumps(metadata), *more,
    ]  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_hf_generates_and_is_judged(
    models: dict[str, Path], judge: MockServer, tmp_path: Path, name: str
) -> None:
    ended = run("quick_lm_eval", *hf(models[name], judge, tmp_path, "--gen_kwargs", SHORT))
    assert ended.code == 0, ended.out
    found = load_run(tmp_path)
    assert len(found.samples) == 12
    assert found.results["results"]["longwrite_demo"]["judge_coverage,none"] == 1
    prompts = [s.row["arguments"]["gen_args_0"]["arg_0"] for s in found.samples]
    assert all(s.prompt in prompt for s, prompt in zip(found.samples, prompts, strict=True))
    assert not [s for s in found.samples if "<|" in s.row["filtered_resps"][0]]
    # random text rarely ends by itself, so most responses are cut at the token limit
    assert found.results["results"]["longwrite_demo"]["cut_off,none"] > 0.5


def test_the_error_for_a_short_hf_context_names_a_length_that_fits(
    models: dict[str, Path], judge: MockServer, tmp_path: Path
) -> None:
    ended = run("quick_lm_eval", *hf(models["llama"], judge, tmp_path))  # asks for 32768 of 2048
    assert ended.code == 2, ended.out
    assert "Traceback" not in ended.out
    assert "do not fit the model's context of 2048 tokens" in ended.out


@pytest.fixture(scope="module")
def served(models: dict[str, Path]) -> Iterator[str]:
    """The base URL of `transformers serve` with the tiny Llama."""
    with transformers_serve(models["llama"]) as base_url:
        yield base_url


def test_transformers_serve_answers_lm_eval(
    served: str, models: dict[str, Path], judge: MockServer, tmp_path: Path
) -> None:
    ended = run(
        "quick_lm_eval", "run", "--model", "local-chat-completions",
        "--model_args", f"model={models['llama']},base_url={served}/chat/completions",
        "--gen_kwargs", '{"max_gen_toks": 48, "stop": null}',  # it cannot take an empty list
        "--tasks", "longwrite_demo", "--apply_chat_template", "--limit", "4",
        "--log_samples", "--output_path", str(tmp_path),
        "--metadata", json.dumps({**JUDGE_SETTINGS, "judge_base_url": judge.base_url}),
    )  # fmt: skip
    assert ended.code == 0, ended.out
    found = load_run(tmp_path)
    assert len(found.samples) == 4
    assert any(sample.response for sample in found.samples)
    assert found.results["results"]["longwrite_demo"]["judge_coverage,none"] == 1
