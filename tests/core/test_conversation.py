"""Rows in all shapes of data sets on the hub, and the reasons why rows are unusable."""

from typing import Any

import pytest

from longwriter_core.conversation import (
    UnusableRowError,
    conversation,
    first_instruction,
    preference,
    training_conversations,
    training_pair,
)

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
        pytest.param({"prompt": [U], "completion": [A]}, id="trl"),
        pytest.param({"input": "Why?", "output": "Because."}, id="input-output"),
        pytest.param({"messages": [{**S, "content": ""}, U, A]}, id="an-empty-system-turn"),
        pytest.param(
            {
                "messages": [
                    {"role": None, "content": None, "from": "human", "value": "Why?"},
                    {**A, "from": None, "value": None},
                ]
            },
            id="both-shapes-in-one-parquet-file",
        ),
        pytest.param(
            {"prompt": "Why?", "instruction": "?", "input": "x", "output": "Because."},
            id="a-prompt-that-is-filled-in",
        ),
    ],
)  # fmt: skip
def test_common_shapes_of_sft_rows_become_messages(row: dict[str, Any]) -> None:
    assert conversation(row) == [U, A]


def test_a_system_turn_and_an_input_are_kept() -> None:
    assert conversation({"system": "Be brief.", "instruction": "Why?", "output": "Because."}) == [S, U, A]  # fmt: skip # noqa: E501
    assert conversation({"messages": [S, U, A, U, A]}) == [S, U, A, U, A]
    assert conversation({"messages": [{**S, "role": "developer"}, U, A]}) == [S, U, A]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"instruction": "Add.", "input": "1 and 2"}, id="alpaca"),
        pytest.param({"instruction": "Add.", "context": "1 and 2"}, id="dolly"),
        pytest.param({"question": "Add.", "context": "1 and 2"}, id="question-and-context"),
    ],
)
def test_the_context_of_a_question_is_kept(row: dict[str, Any]) -> None:
    asked = [{"role": "user", "content": "Add.\n\n1 and 2"}]
    assert conversation({**row, "response": "3"})[:-1] == asked
    pair = {"chosen": GOOD["content"], "rejected": BAD["content"]}
    assert preference({**row, **pair}) == (asked, GOOD, BAD)


def test_the_history_comes_before_the_question() -> None:
    row = {"instruction": "Why?", "history": [["Why?", "Because."], ["Why?", "Because."]]}
    assert conversation({**row, "output": "Because."}) == [U, A, U, A, U, A]
    pair = {"chosen": GOOD["content"], "rejected": BAD["content"]}
    assert preference({**row, **pair})[0] == [U, A, U, A, U]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param({"text": "Why?"}, "shape", id="no-known-field"),
        pytest.param({"messages": []}, "shape", id="no-turns"),
        pytest.param({"messages": ["Why?"]}, "shape", id="turns-of-text"),
        pytest.param({"messages": [U, {"role": "assistant", "content": None}]}, "shape", id="null"),
        pytest.param({"messages": [U, {"role": "tool", "content": "x"}, A]}, "role", id="tool"),
        pytest.param({"messages": [U]}, "turns", id="no-answer"),
        pytest.param({"messages": [{**S, "content": ""}]}, "turns", id="empty-system-turn-alone"),
        pytest.param({"prompt": "Why?", "response": ["Because."]}, "shape", id="a-list-of-answers"),
        pytest.param(
            {"instruction": "Why?", "history": [["Why?"]], "output": "x"},
            "shape",
            id="no-history",
        ),
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
def test_an_unusable_sft_row_has_a_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableRowError) as error:
        conversation(row)
    assert error.value.reason == reason


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
        pytest.param(
            {
                "conversations": [{"from": "human", "value": "Why?"}],
                "chosen": {"from": "gpt", "value": GOOD["content"]},
                "rejected": {"from": "gpt", "value": BAD["content"]},
            },
            id="sharegpt",
        ),
    ],
)  # fmt: skip
def test_common_shapes_of_preference_rows_are_read(row: dict[str, Any]) -> None:
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
        pytest.param(
            {"messages": [{**U, "content": "How?"}], "chosen": [U, GOOD], "rejected": [U, BAD]},
            "different_prompts",
            id="other-messages",
        ),
        pytest.param({"messages": [U], "chosen": U, "rejected": BAD}, "turns", id="users-turn"),
        pytest.param({"messages": [U, A], "chosen": GOOD, "rejected": BAD}, "turns", id="answered"),
        # axolotl would match it in the template's header and cut the target there
        pytest.param({"prompt": "Or B?", "chosen": "A", "rejected": "B" * 30}, "too_short", id="A"),
    ],
)
def test_an_unusable_preference_row_has_a_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnusableRowError) as error:
        preference(row)
    assert error.value.reason == reason


def test_a_training_row_is_read_unchanged() -> None:
    answer = {"role": "assistant", "content": "\n Because. "}
    assert training_conversations({"messages": [S, U, U, answer]}, dpo=False) == [[S, U, U, answer]]
    lists = {"chosen": [U, answer], "rejected": [U, BAD]}
    assert training_pair(lists) == ([U], answer, BAD)
    assert training_conversations(lists, dpo=True) == [[U, answer], [U, BAD]]


def test_the_first_instruction_has_its_context_and_ignores_malformed_turns() -> None:
    found = first_instruction({"instruction": "Go on.", "context": "It rained."})
    assert found == ("Go on.\n\nIt rained.", None, [])
    turns = [{"from": "system"}, None, {"from": "Human", "value": " Why? "}]
    found = first_instruction({"conversations": turns})
    assert found == ("Why?", turns[2], [turns[0], turns[2]])


@pytest.mark.parametrize("column", ["messages", "conversations", "conversation"])
def test_training_reads_every_list_of_turns_without_changing_its_texts(column: str) -> None:
    turns = [
        {"role": "user", "content": " Write. "},
        {"role": "assistant", "content": "\nThe sea\n"},
    ]
    assert training_conversations({column: turns}, dpo=False) == [turns]
    if column != "messages":
        shared = [
            {"from": "human", "value": " Write. "},
            {"from": "gpt", "value": "\nThe sea\n", "role": None},
        ]
        assert training_conversations({column: shared}, dpo=False) == [turns]


@pytest.mark.parametrize("turns", ["text", [1], [{"from": "human"}], [{"value": "x"}], [None], {}])
def test_a_list_of_something_else_is_refused_with_a_reason(turns: object) -> None:
    with pytest.raises(UnusableRowError, match=r"^has "):
        training_conversations({"conversations": turns}, dpo=False)
