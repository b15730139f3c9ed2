"""Rows that AgentWrite makes, tokenized by axolotl: plans as thinking, and pairs of sections.

The commands run against the mock server, and axolotl reads their files as in training.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.chat_templates import chat_template
from support.judging import JUDGE_OPTIONS
from support.prose import read_jsonl, write_rows
from support.tiny_models import make_tiny_glm, make_tiny_llama, make_tiny_qwen

from agentwrite.cli.main import main
from longwriter_core.mock_server import WRITER, MockServer
from longwriter_core.text.length import count_words
from longwriter_core.text.thinking import split_thinking
from longwriter_train import chat, recipes

pytestmark = [pytest.mark.axolotl, pytest.mark.slow]

FAMILIES = {
    "llama": (make_tiny_llama, "<|eot_id|>"),
    "glm": (make_tiny_glm, "<|user|>"),
    "qwen": (make_tiny_qwen, "<|im_end|>"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sft.jsonl of planned answers and dpo.jsonl of pairs of sections."""
    folder = tmp_path_factory.mktemp("data")
    asked = ("Write 1200 words on tea {}.", "请写一篇关于茶的文章，第{}篇，1200字。")
    prompts = [{"id": str(n), "prompt": asked[n % 2].format(n)} for n in range(4)]
    rows = str(write_rows(folder / "rows.jsonl", *prompts))
    with MockServer() as server:
        writer = ["--model", WRITER, "--base-url", server.base_url]
        judge = [*JUDGE_OPTIONS, "--judge-base-url", server.base_url]
        unchecked = ["--no-benchmark-check"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_API_KEY", "any")
            assert main(["run", rows, "-o", str(folder / "run"), *writer]) == 0
            sft = ["sft", str(folder / "run"), "-o", str(folder / "sft.jsonl"), *unchecked]
            assert main([*sft, "--min-words", "400", "--with-plan", "think"]) == 0
            dpo = ["dpo", rows, "-o", str(folder / "dpo.jsonl"), "--steps", "--min-margin", "0"]
            paper = ["--judge-prompt", "longwriter"]
            assert main([*dpo, *writer, *judge, *unchecked, *paper]) == 0
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(family: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    make, _ = FAMILIES[family]
    loaded = AutoTokenizer.from_pretrained(make(tmp_path_factory.mktemp(family)))
    recipe = recipes.load(recipes.folder() / f"tiny/{family}_sft.yaml")
    loaded.chat_template = chat_template(recipe)
    return loaded


def settings(family: str) -> Any:
    _, end = FAMILIES[family]
    return SimpleNamespace(eot_tokens=[end], train_on_inputs=False, sequence_len=32_768)


def loaded(path: Path, cache: Path) -> Any:
    """The rows of a file as axolotl loads them."""
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault

    entry = DictDefault(path=str(path), ds_type="json", split="train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
        return load_dataset_with_config(entry, False)


def test_a_plan_is_learned_and_is_not_counted_as_words(
    files: Path, family: str, tokenizer: Any, tmp_path: Path
) -> None:
    from axolotl.datasets import TokenizedPromptDataset

    rows = read_jsonl(files / "sft.jsonl")
    assert len(rows) == 4
    strategy = chat.load(tokenizer, settings(family))
    dataset = loaded(files / "sft.jsonl", tmp_path)
    samples = TokenizedPromptDataset(strategy, dataset, keep_in_memory=True)
    assert len(samples) == len(rows)
    for row, sample in zip(rows, samples, strict=True):
        asked = tokenizer.apply_chat_template(
            row["messages"][:1], add_generation_prompt=True, return_dict=False
        )
        labels = sample["labels"]
        assert labels[: len(asked)] == [chat.IGNORED] * len(asked)
        assert labels[len(asked) :] == sample["input_ids"][len(asked) :]
        generated = tokenizer.decode(labels[len(asked) :]).removesuffix(FAMILIES[family][1])
        plan, text = split_thinking(generated)
        assert "Word Count" in plan
        assert (plan, text) == split_thinking(row["messages"][1]["content"])
        assert count_words(text) == row["words"]


def test_only_the_section_of_a_pair_is_learned(
    files: Path, family: str, tokenizer: Any, tmp_path: Path
) -> None:
    from longwriter_train.dpo import ChunkedDPOTrainer

    rows = read_jsonl(files / "dpo.jsonl")
    assert {row["step"] for row in rows} >= {1, 2}
    transform, options = chat.preference(settings(family))
    dataset = loaded(files / "dpo.jsonl", tmp_path)
    assert options == {"remove_columns": "__all__"}
    texts = dataset.map(lambda row: transform(row, tokenizer), remove_columns=dataset.column_names)
    prepare: Any = ChunkedDPOTrainer._prepare_dataset
    arguments = SimpleNamespace(max_length=32_768, dataset_num_proc=None)
    pairs = prepare(None, texts, tokenizer, arguments, "train")
    samples = {row["id"]: row["steps"] for row in read_jsonl(files / "dpo.run/samples.jsonl")}
    end = FAMILIES[family][1]
    for row, pair in zip(rows, pairs, strict=True):
        steps = samples[row["id"].partition(" step ")[0]]
        candidates = [sample["text"] for sample in steps[row["step"] - 1]["samples"]]
        best = [step["samples"][step["best"]]["text"] for step in steps[: row["step"] - 1]]
        # The first section shares nothing, so the end of Qwen3's empty thinking is learned.
        opening = "</think>\n\n" if family == "qwen" else ""
        prompted, learned = (opening, "") if best else ("", opening)
        for side in ("chosen_ids", "rejected_ids"):
            text = tokenizer.decode(pair[side])
            assert text.startswith(learned)
            assert text.removeprefix(learned).removesuffix(end) in candidates
        shown = tokenizer.apply_chat_template(
            row["messages"], add_generation_prompt=True, tokenize=False
        )
        prefix = "".join(f"{text}\n\n" for text in best)
        assert tokenizer.decode(pair["prompt_ids"]) == f"{shown}{prompted}{prefix}"
