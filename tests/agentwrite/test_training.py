"""What `sft` and `dpo` write, through axolotl's own strategies: the labels are the answers.

Everything is real but the models: the commands run against the mock server, which plans, writes and
judges, and axolotl reads their files with tiny tokenizers of both families.
"""

import warnings
from pathlib import Path
from typing import Any

import pytest
from support.judging import JUDGE_OPTIONS
from support.prose import read_jsonl, write_rows
from support.tiny_models import make_tiny_glm, make_tiny_llama

from agentwrite.cli.main import main
from longwriter_core.mock_server.server import WRITER, MockServer

with warnings.catch_warnings():  # those of axolotl and of what it imports are not ours
    warnings.simplefilter("ignore")
    pytest.importorskip("axolotl")
    from axolotl.datasets import TokenizedPromptDataset
    from axolotl.prompt_strategies.chat_template import load as load_sft
    from axolotl.prompt_strategies.dpo import load as load_dpo
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault

pytestmark = pytest.mark.axolotl

MAKERS = {"llama": make_tiny_llama, "glm": make_tiny_glm}
# What ends an assistant's turn; in GLM-4, the beginning of the next one.
END = {"llama": "<|eot_id|>", "glm": "<|user|>"}
RECIPES = Path(__file__).parents[2] / "recipes" / "chat_templates"
TEMPLATES = {
    name: (RECIPES / file).read_text(encoding="utf-8")
    for name, file in (("llama", "llama3.jinja"), ("glm", "glm4.jinja"))
}
ASKED = ("Write 700 words on tea {}.", "请写一篇关于茶的文章，第{}篇，700字。")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sft.jsonl and dpo.jsonl, made by the commands, general rows among them."""
    folder = tmp_path_factory.mktemp("data")
    prompts = [{"id": str(n), "prompt": ASKED[n % 2].format(n)} for n in range(6)]
    rows = str(write_rows(folder / "rows.jsonl", *prompts))
    pairs: list[dict[str, Any]] = [
        {
            "prompt": f"Why {n}?",
            "response": f" Because it is {n}.\n",
            "chosen": f"\nBecause the tide is {n}. ",
            "rejected": f"  I would rather not say {n}.\n",
        }
        for n in range(10)
    ]
    pairs += [  # with a system prompt and turns before
        {
            "system": f"Be brief {n}.",
            "history": [[f"How {n}?", f"Like this {n}."]],
            "instruction": f"Why {n}?",
            "input": "It says high.",
            "output": f"Because {n}.",
            "chosen": f"Because the tide is so {n}.",
            "rejected": f"I would rather not say so {n}.",
        }
        for n in range(10)
    ]
    general = ["--general", str(write_rows(folder / "general.jsonl", *pairs)), "--ratio", "2"]
    with MockServer() as server:
        writer = ["--model", WRITER, "--base-url", server.base_url]
        judge = [*JUDGE_OPTIONS, "--judge-base-url", server.base_url]
        unchecked = ["--no-benchmark-check", "--judge-prompt", "longwriter"]
        assert main(["run", rows, "-o", str(folder / "run"), *writer]) == 0
        sft = ["sft", str(folder / "run"), "-o", str(folder / "sft.jsonl"), "--min-words", "400"]
        assert main([*sft, *general, "--no-benchmark-check"]) == 0
        dpo = ["dpo", rows, "-o", str(folder / "dpo.jsonl"), "--min-margin", "1"]
        assert main([*dpo, *writer, *judge, *general, *unchecked]) == 0
    return folder


@pytest.fixture(scope="module", params=MAKERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(family: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny tokenizer of the family, with its chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MAKERS[family](tmp_path_factory.mktemp(family)))
    tokenizer.chat_template = TEMPLATES[family]
    return tokenizer


def loaded(path: Path, kind: str, family: str, cache: Path) -> tuple[Any, Any]:
    """The file as axolotl loads it, and the settings that it does so with."""
    settings = DictDefault(
        datasets=[{"path": str(path), "ds_type": "json", "type": kind, "split": "train"}],
        chat_template="tokenizer_default",
        eot_tokens=[END[family]],
        sequence_len=32_768,
        train_on_inputs=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
        return load_dataset_with_config(settings.datasets[0], False), settings


def test_sft_labels_are_the_answers_and_their_ends(
    files: Path, family: str, tokenizer: Any, tmp_path: Path
) -> None:
    rows = read_jsonl(files / "sft.jsonl")
    assert {len(row["messages"]) for row in rows} == {2, 5}
    dataset, settings = loaded(files / "sft.jsonl", "chat_template", family, tmp_path)
    strategy = load_sft(tokenizer, settings, settings.datasets[0])
    tokenized = TokenizedPromptDataset(strategy, dataset, keep_in_memory=True)
    assert len(tokenized) == len(rows)
    for row, tokens in zip(rows, tokenized, strict=True):
        learned = [
            token
            for token, label in zip(tokens["input_ids"], tokens["labels"], strict=True)
            if label != -100
        ]
        answers = (each["content"] for each in row["messages"] if each["role"] == "assistant")
        assert tokenizer.decode(learned) == "".join(answer + END[family] for answer in answers)
        assert all(label in (-100, token) for token, label in zip(tokens["input_ids"], tokens["labels"], strict=True))  # fmt: skip # noqa: E501


def test_dpo_targets_are_the_answers_and_their_ends(
    files: Path, family: str, tokenizer: Any, tmp_path: Path
) -> None:
    rows = read_jsonl(files / "dpo.jsonl")
    assert {row["source"] for row in rows} == {"rows.jsonl", "general.jsonl"}
    assert {len(row["messages"]) for row in rows} == {1, 4}
    dataset, settings = loaded(files / "dpo.jsonl", "chat_template.default", family, tmp_path)
    transform, options = load_dpo("chat_template.default", settings, dataset_idx=0)
    pairs = dataset.map(lambda row: transform(row, tokenizer=tokenizer), keep_in_memory=True, **options)  # fmt: skip # noqa: E501
    assert len(pairs) == len(rows)
    for row, pair in zip(rows, pairs, strict=True):
        for side in ("chosen", "rejected"):
            assert pair[side] == row[side]["content"] + END[family]
        assert pair["prompt"] == tokenizer.apply_chat_template(
            row["messages"], tokenize=False, add_generation_prompt=True
        )
