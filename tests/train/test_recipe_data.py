"""Invalid training data is reported with file and line before a model is loaded."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from longwriter_core.benchmarks import read_prompts
from longwriter_core.conversation import UnusableRowError, training_conversations
from longwriter_core.errors import InputError
from longwriter_train.checks.data import check, require_file

pytestmark = pytest.mark.axolotl

ASK = {"role": "user", "content": "Write about the sea."}
ANSWER = {"role": "assistant", "content": "The sea is calm."}
OTHER = {"role": "assistant", "content": "No."}
RECIPE = {"benchmark_check": False}


def write(path: Path, *rows: Any) -> dict[str, str]:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"path": str(path)}


def sft(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


WRONG_SFT = {
    "no list of messages": {"prompt": "x", "response": "y"},
    "the role 'human'": sft({"role": "human", "content": "x"}, ANSWER),
    "without text": sft(ASK, {"role": "assistant", "content": None}),
    "does not end with an answer": sft(ASK, ANSWER, ASK),
    "an empty answer": sft(ASK, {"role": "assistant", "content": " \n"}),
    "no message of the role user": sft(ANSWER),
    "is not an object": ["x"],
    "begins with an answer": sft(ANSWER, ASK, ANSWER),
    "the role 'assistant' right after": sft(ASK, ANSWER, OTHER),
    "the role 'system' right after": sft(
        ASK, ANSWER, {"role": "system", "content": "x"}, ASK, ANSWER
    ),
    "has an empty answer": sft(ASK, {"role": "assistant", "content": " "}, ASK, ANSWER),
    "has <|user|> in a text": sft(ASK, {"role": "assistant", "content": "One.<|user|>Two."}),
    "has <|eot_id|> in a text": sft({"role": "user", "content": "x<|eot_id|>"}, ANSWER),
    "half of a character": sft(ASK, {"role": "assistant", "content": "\ud83d"}),
}
WRONG_DPO = {
    "neither two messages nor": {"messages": [ASK], "chosen": "yes", "rejected": "no"},
    "different prompts": {"chosen": [ASK, ANSWER], "rejected": [ANSWER, OTHER]},
    "the same text": {"messages": [ASK], "chosen": ANSWER, "rejected": ANSWER},
    "no message of the role user": {"messages": [], "chosen": ANSWER, "rejected": OTHER},
    "the role 'assistant' right after": {
        "messages": [ASK, OTHER], "chosen": ANSWER, "rejected": OTHER,
    },
    "has [gMASK] in a text": {
        "messages": [ASK], "chosen": ANSWER, "rejected": {**OTHER, "content": "[gMASK]"},
    },
}  # fmt: skip


@pytest.mark.parametrize("complaint", WRONG_SFT)
def test_an_invalid_conversation_is_reported(complaint: str) -> None:
    with pytest.raises(UnusableRowError, match=re.escape(complaint)):
        training_conversations(WRONG_SFT[complaint], dpo=False)


@pytest.mark.parametrize("complaint", WRONG_DPO)
def test_an_invalid_pair_is_reported(complaint: str) -> None:
    with pytest.raises(UnusableRowError, match=re.escape(complaint)):
        training_conversations(WRONG_DPO[complaint], dpo=True)


def test_rows_written_by_agentwrite_are_valid() -> None:
    row = {**sft(ASK, ANSWER), "id": "1", "model": "m"}
    assert training_conversations(row, dpo=False) == [[ASK, ANSWER]]
    for pair in (
        {"messages": [ASK], "chosen": ANSWER, "rejected": OTHER},
        {"chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]},
    ):
        assert training_conversations(pair, dpo=True) == [[ASK, ANSWER], [ASK, OTHER]]


def test_a_broken_line_is_named_with_its_number(tmp_path: Path) -> None:
    entry = write(tmp_path / "sft.jsonl", sft(ASK, ANSWER), "", '{"messages": [', sft(ASK))
    with pytest.raises(InputError) as caught:
        require_file(entry, RECIPE)
    message = str(caught.value)
    assert f"{entry['path']}, line 3 is not JSON" in message
    assert f"{entry['path']}, line 4 does not end with an answer" in message
    assert "\n" not in message


def test_many_broken_lines_are_counted(tmp_path: Path) -> None:
    entry = write(tmp_path / "sft.jsonl", *["{"] * 30)
    with pytest.raises(InputError, match="and 25 more"):
        require_file(entry, RECIPE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the training data .*none\.jsonl"):
        require_file({"path": str(tmp_path / "none.jsonl")}, RECIPE)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sft.jsonl").touch()
    with pytest.raises(InputError, match="has no rows"):
        require_file({"path": str(tmp_path / "sft.jsonl")}, RECIPE)


def test_valid_rows_are_counted(tmp_path: Path) -> None:
    assert require_file(write(tmp_path / "sft.jsonl", *[sft(ASK, ANSWER)] * 3), RECIPE) == 3


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize("benchmark", ["longbench_write", "longwrite_ruler"])
def test_benchmark_prompts_are_found_and_named(benchmark: str, tmp_path: Path) -> None:
    row = read_prompts(benchmark)[5]
    exact = {"role": "user", "content": f"Hello!\n{row['prompt'].upper()}"}
    near = {"role": "user", "content": row["prompt"].replace("0", "1") + " Thank you very much."}
    entry = write(tmp_path / "sft.jsonl", sft(ASK, ANSWER), sft(exact, ANSWER), sft(near, ANSWER))
    (checked,) = check({"datasets": [entry]})
    assert checked.rows == 3
    assert [place for place, _ in checked.wrong] == ["line 2", "line 3"]
    assert f"holds the evaluation prompt {benchmark}/" in checked.wrong[0][1]
    assert f"the evaluation prompt {benchmark}/" in checked.wrong[1][1]
    assert row["id"] in checked.wrong[0][1] or benchmark == "longwrite_ruler"


@pytest.mark.usefixtures("upstream")
def test_benchmark_prompts_in_pairs_are_found(tmp_path: Path) -> None:
    ask = {"role": "user", "content": read_prompts("longbench_write")[7]["prompt"]}
    rows = [
        {"messages": [ask], "chosen": ANSWER, "rejected": OTHER},
        {"chosen": [ask, ANSWER], "rejected": [ask, OTHER]},
    ]
    (checked,) = check({"rl": "dpo", "datasets": [write(tmp_path / "dpo.jsonl", *rows)]})
    assert len(checked.wrong) == 2


def test_missing_benchmark_files_do_not_skip_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGWRITER_ASSETS", str(tmp_path))
    with pytest.raises(InputError, match="longbench_write"):
        require_file(write(tmp_path / "sft.jsonl", sft(ASK, ANSWER)), {})


# The tests below need axolotl.


@pytest.fixture
def plugin() -> Any:

    from longwriter_train.checks import ChecksPlugin

    return ChecksPlugin()


def settings(folder: Path, *entries: Any, **more: Any) -> Any:
    from axolotl.utils.dict import DictDefault

    prepared = str(folder / "prepared")
    return DictDefault(
        {**RECIPE, "dataset_prepared_path": prepared, "datasets": [*entries], **more}
    )


def raise_assertion(*_: Any) -> Any:
    raise AssertionError("read again")


def test_a_file_is_read_again_only_after_it_has_changed(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longwriter_train.checks import plugin as module

    entry = write(tmp_path / "sft.jsonl", sft(ASK, ANSWER))
    plugin.load_datasets(first := settings(tmp_path, dict(entry)))
    monkeypatch.setattr(module, "require_file", raise_assertion)
    plugin.load_datasets(resumed := settings(tmp_path, dict(entry)))
    assert resumed.dataset_prepared_path == first.dataset_prepared_path
    with pytest.raises(AssertionError, match="read again"):
        plugin.load_datasets(settings(tmp_path, dict(entry), benchmark_check=True))
    write(tmp_path / "sft.jsonl", sft(ASK, OTHER))
    with pytest.raises(AssertionError, match="read again"):
        plugin.load_datasets(settings(tmp_path, dict(entry)))


def test_an_invalid_file_is_checked_again_at_the_next_start(plugin: Any, tmp_path: Path) -> None:
    entry = write(tmp_path / "sft.jsonl", sft(ASK))
    for _ in range(2):
        with pytest.raises(SystemExit):
            plugin.load_datasets(settings(tmp_path, dict(entry)))


def test_an_invalid_file_ends_training_with_a_one_line_error(
    plugin: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cfg = settings(tmp_path, write(tmp_path / "sft.jsonl", sft(ASK)))
    with pytest.raises(SystemExit) as ended:
        plugin.load_datasets(cfg)
    assert ended.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "sft.jsonl" in line]
    assert line.startswith("longwriter: error: ")


def test_invalid_rows_of_a_data_set_that_is_not_a_file_are_skipped(
    plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset, load_dataset

    from longwriter_train.checks import plugin as module

    rows = [sft(ASK, ANSWER), sft(ASK, {"role": "assistant", "content": ""}), sft(ASK, OTHER)]
    (tmp_path / "set").mkdir()
    Dataset.from_list(rows).to_parquet(tmp_path / "set" / "train.parquet")
    entry = {"path": str(tmp_path / "set"), "split": "train", "type": "longwriter_train.chat"}
    cfg = settings(tmp_path, dict(entry))
    plugin.load_datasets(cfg)
    used = cfg.datasets[0]
    assert used.type == entry["type"]
    kept = load_dataset("parquet", data_files=used.path, split=used.split)
    assert [row["messages"][-1]["content"] for row in kept] == ["The sea is calm.", "No."]
    (skipped,) = (tmp_path / "prepared/checked").glob("*.skipped.jsonl")
    (named,) = map(json.loads, skipped.read_text(encoding="utf-8").splitlines())
    assert (named["row"], named["wrong"]) == (2, "has an empty answer")
    # A restart does not read the data again, unless it has changed.
    monkeypatch.setattr(module, "inspected", raise_assertion)
    again = settings(tmp_path, dict(entry))
    plugin.load_datasets(again)
    assert again.datasets[0].path == used.path
    Dataset.from_list(rows[:1]).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(AssertionError, match="read again"):
        plugin.load_datasets(settings(tmp_path, dict(entry)))


@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_a_hub_set_of_conversations_gives_the_samples_of_the_same_messages(
    plugin: Any, tmp_path: Path, keys: tuple[str, str]
) -> None:
    """smoltalk-chinese has `conversations`, and the recipes join parts of it as one split."""
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault
    from datasets import Dataset
    from support.tiny_models import make_tiny_llama
    from transformers import AutoTokenizer

    from longwriter_train import chat

    role, content = keys
    names = {"user": "human", "assistant": "gpt"} if role == "from" else {}
    turns = [
        [
            {role: names.get(asked, asked), content: f"{text} {number}"}
            for asked, text in (("user", "写一篇关于海的文章"), ("assistant", "海很平静。"))
        ]
        for number in range(10)
    ]
    (tmp_path / "set").mkdir()
    rows = Dataset.from_list([{"id": str(n), "conversations": row} for n, row in enumerate(turns)])
    rows.to_parquet(tmp_path / "set" / "train.parquet")
    split = "train[:2]+train[5:7]"
    cfg = settings(
        tmp_path,
        {"path": str(tmp_path / "set"), "split": split, "type": "longwriter_train.chat"},
        eot_tokens=["<|eot_id|>"],
        sequence_len=512,
    )
    plugin.load_datasets(cfg)
    loaded = load_dataset_with_config(DictDefault(dict(cfg.datasets[0])), None)
    assert loaded["id"] == ["0", "1", "5", "6"]
    strategy = chat.load(AutoTokenizer.from_pretrained(make_tiny_llama(tmp_path / "llama")), cfg)
    answers = [turns[n] for n in (0, 1, 5, 6)]
    messages = [
        [
            {"role": "user", "content": question[content]},
            {"role": "assistant", "content": answer[content]},
        ]
        for question, answer in answers
    ]
    same = strategy.tokenize_prompt({"messages": messages})
    assert strategy.tokenize_prompt(loaded[:]) == same
    assert len(same["labels"]) == 4


def test_prepared_data_is_not_reused_after_the_file_changes(plugin: Any, tmp_path: Path) -> None:
    paths = []
    for content in ("The sea is calm.", "The sea is calm.", "The sea is rough."):
        answer = {"role": "assistant", "content": content}
        cfg = settings(tmp_path, write(tmp_path / "sft.jsonl", sft(ASK, answer)))
        plugin.load_datasets(cfg)
        paths.append(cfg.dataset_prepared_path)
    assert paths[0] == paths[1] != paths[2]


def test_a_misspelt_key_is_refused(
    plugin: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("learning_rat: 1\ndatasets: [{path: x, typ: y}]\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        plugin.register({"axolotl_config_path": str(path)})
    assert ended.value.code == 2
    said = capfd.readouterr().err
    assert "learning_rat (did you mean learning_rate?)" in said
    assert "datasets.0.typ (did you mean type?)" in said


def test_a_key_that_longwriter_train_does_not_read_is_refused(
    plugin: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    entry = "{path: x, type: longwriter_train.chat, field_messages: conversations}"
    path.write_text(f"datasets: [{entry}]\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        plugin.register({"axolotl_config_path": str(path)})
    assert ended.value.code == 2
    assert "does not read datasets.0.field_messages" in capfd.readouterr().err
