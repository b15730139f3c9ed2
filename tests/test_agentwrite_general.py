"""General rows in the shapes that sets on the hub have, and what is no data."""

import json
from pathlib import Path
from typing import Any

import pytest
from prose import write_rows

from agentwrite.general import UnusableRowError, conversation, preference, read_source
from longwriter_eval.errors import InputError

U, A = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
S = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"messages": [U, A], "source": "x"}, id="messages"),
        pytest.param(
            {
                "conversations": [
                    {"from": "human", "value": "Why?"},
                    {"from": "gpt", "value": " Because.\n"},
                ]
            },
            id="sharegpt",
        ),
        pytest.param({"conversation": [{**U, "language": "English"}, A]}, id="wildchat"),
        pytest.param({"prompt": "Why?", "response": "Because."}, id="prompt-response"),
        pytest.param({"prompt": "Why?", "completion": "Because."}, id="prompt-completion"),
        pytest.param({"instruction": "Why?", "input": "", "output": "Because."}, id="alpaca"),
        pytest.param({"question": "Why?", "answer": "Because."}, id="question-answer"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}, A]},
            id="text-parts",
        ),
        pytest.param({"messages": [U, A, U]}, id="a-last-turn-without-answer"),
    ],
)  # fmt: skip
def test_common_shapes_of_sft_rows_become_messages(row: dict[str, Any]) -> None:
    assert conversation(row) == [U, A]


def test_a_system_turn_and_an_input_are_kept() -> None:
    assert conversation({"system": "Be brief.", "instruction": "Why?", "output": "Because."}) == [S, U, A]  # fmt: skip # noqa: E501
    assert conversation({"messages": [S, U, A, U, A]}) == [S, U, A, U, A]
    asked = conversation({"instruction": "Add.", "input": "1 and 2", "output": "3"})[0]
    assert asked["content"] == "Add.\n\n1 and 2"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param({"text": "Why?"}, "shape", id="no-known-field"),
        pytest.param({"messages": []}, "shape", id="no-turns"),
        pytest.param({"messages": ["Why?"]}, "shape", id="turns-of-text"),
        pytest.param({"messages": [U, {"role": "assistant", "content": None}]}, "shape", id="null"),
        pytest.param({"messages": [U, {"role": "tool", "content": "x"}, A]}, "role", id="tool"),
        pytest.param({"messages": [U]}, "turns", id="no-answer"),
        pytest.param({"messages": [A, U, A]}, "turns", id="assistant-first"),
        pytest.param({"messages": [U, U, A]}, "turns", id="user-twice"),
        pytest.param({"messages": [U, S, A]}, "turns", id="system-in-between"),
        pytest.param({"prompt": "Why?", "response": " \n"}, "empty", id="blank-answer"),
        pytest.param({"prompt": "Why?", "response": "\ud83d"}, "encoding", id="half-a-surrogate"),
        pytest.param(
            {"prompt": "Why?", "response": "No.<|eot_id|>Yes."}, "special_tokens", id="end-of-turn"
        ),
    ],
)
def test_what_is_no_sft_row_has_a_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableRowError, match=f"^{reason}$"):
        conversation(row)


GOOD = {"role": "assistant", "content": "Because the tide is high."}
BAD = {"role": "assistant", "content": "I would rather not say."}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"messages": [U], "chosen": GOOD, "rejected": BAD}, id="axolotl"),
        pytest.param(
            {"prompt": "Why?", "chosen": [U, GOOD], "rejected": [U, BAD], "messages": [U, GOOD]},
            id="ultrafeedback-binarized",
        ),
        pytest.param({"chosen": [U, GOOD], "rejected": [U, BAD]}, id="lists-alone"),
        pytest.param(
            {"prompt": "Why?", "chosen": f" {GOOD['content']}\n", "rejected": BAD["content"]},
            id="text",
        ),
        pytest.param({"prompt": [U], "chosen": [GOOD], "rejected": [BAD]}, id="trl"),
        pytest.param(
            {"question": "Why?", "chosen": GOOD["content"], "rejected": BAD["content"]},
            id="question",
        ),
    ],
)  # fmt: skip
def test_common_shapes_of_preference_rows(row: dict[str, Any]) -> None:
    assert preference(row) == ([U], GOOD, BAD)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param({"chosen": "x" * 30, "rejected": "y" * 30}, "shape", id="no-prompt"),
        pytest.param({"messages": [U], "chosen": GOOD}, "shape", id="no-rejected"),
        pytest.param({"messages": [U], "chosen": GOOD, "rejected": GOOD}, "identical", id="same"),
        pytest.param(
            {"chosen": [U, GOOD], "rejected": [{**U, "content": "How?"}, BAD]},
            "different_prompts",
            id="other-prompt",
        ),
        pytest.param({"messages": [U], "chosen": U, "rejected": BAD}, "turns", id="users-turn"),
        pytest.param({"messages": [U, A], "chosen": GOOD, "rejected": BAD}, "turns", id="answered"),
        # found in the template's own header by axolotl, so that the target would be cut there
        pytest.param({"prompt": "Or B?", "chosen": "A", "rejected": "B" * 30}, "too_short", id="A"),
    ],
)
def test_what_is_no_preference_row_has_a_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableRowError, match=f"^{reason}$"):
        preference(row)


def test_a_damaged_line_of_a_general_set_is_named(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text('{"messages": []}\n\n{"messages": \n', encoding="utf-8")
    with pytest.raises(InputError, match=r"g\.jsonl, line 3: .* must be a JSON object"):
        list(read_source(str(path), "train"))


def test_a_source_that_is_neither_file_nor_hub_dataset_is_named() -> None:
    with pytest.raises(InputError, match=r"no file nowhere\.jsonl"):
        list(read_source("nowhere.jsonl", "train"))


def test_a_hub_dataset_that_cannot_be_read_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="cannot read some-owner/some-set, split train") as raised:
        list(read_source("some-owner/some-set", "train"))
    assert "\n" not in str(raised.value)


def test_parquet_is_read_row_by_row(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"messages": [U, {**A, "content": f"Because {n}."}]} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "g.parquet")
    read = list(read_source(str(tmp_path / "g.parquet"), "train"))
    assert [number for number, _ in read] == [1, 2, 3, 4, 5]
    assert [conversation(row)[1]["content"] for _, row in read] == [
        f"Because {n}." for n in range(5)
    ]


def test_a_row_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "g.jsonl", {"messages": [U, A]}, [1])
    assert json.loads(path.read_text().splitlines()[1]) == [1]
    with pytest.raises(InputError, match="line 2: not an object"):
        list(read_source(str(path), "train"))
