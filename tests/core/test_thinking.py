"""Thinking is separated from the answer in every format; texts about thinking are unchanged."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longwriter_core.text.thinking import (
    has_leftover_thinking,
    split_message,
    split_thinking,
    without_thinking,
)

FINAL = "<|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param("<think>Hm.</think>\n\nOnce.", id="think"),
        pytest.param("\n<think>\nHm.\n</think>\nOnce.", id="think-lines"),
        pytest.param("<thinking>Hm.</thinking>Once.", id="thinking"),
        pytest.param("[THINK]Hm.[/THINK]Once.", id="Magistral"),
        pytest.param("◁think▷Hm.◁/think▷Once.", id="Kimi"),
        pytest.param("Hm.\n</think>\n\nOnce.", id="opened-in-the-prompt"),
        pytest.param("Hm.</think>\n\nOnce.", id="opened-in-the-prompt-closed-on-the-line"),
        pytest.param("Hm.\n◁/think▷Once.", id="opened-in-the-prompt-Kimi"),
        pytest.param(f"<|channel|>analysis<|message|>Hm.<|end|>{FINAL}Once.<|return|>", id="oss"),
        pytest.param(f"Hm.<|end|>{FINAL}Once.", id="gpt-oss-opened-in-the-prompt"),
        pytest.param("analysisHm.assistantfinalOnce.", id="gpt-oss-without-special-tokens"),
    ],
)
def test_thinking_and_answer_are_split(reply: str) -> None:
    assert split_thinking(reply) == ("Hm.", "Once.")


@pytest.mark.parametrize(
    ("reply", "thinking", "answer"),
    [
        ("<think>Hm.</think>\n<think>Well.</think>\nOnce.", "Hm.\n\nWell.", "Once."),
        ("<think>\n\n</think>\n\nOnce.", "", "Once."),
        ("</think>\n\nOnce.", "", "Once."),
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary"
            f"<|message|>Well.<|end|>{FINAL}Once.",
            "Hm.\n\nWell.",
            "Once.",
        ),
        ("<|channel|>final<|message|>Once.<|return|>", "", "Once."),
    ],
    ids=["several", "empty", "closing-tag-alone", "gpt-oss-commentary", "gpt-oss-without-analysis"],
)
def test_several_and_empty_thoughts(reply: str, thinking: str, answer: str) -> None:
    assert split_thinking(reply) == (thinking, answer)


@pytest.mark.parametrize(
    "reply", ["<think>Hm.", "[THINK]Hm.", "<|channel|>analysis<|message|>Hm."], ids=str
)
def test_a_reply_that_was_cut_while_thinking_has_no_answer(reply: str) -> None:
    assert split_thinking(reply) == ("Hm.", "")


@pytest.mark.parametrize(
    "text",
    [
        "Once.",
        "",
        " Once.\n",
        "A reply begins with <think> and ends after </think>, as a rule.",
        "The model writes </think> when it is done.",
        "First line.\n\nThen `[/THINK]` follows.\n\nThe end.",
        "Tags are <think>\nand\n</think>\nin most templates.",
        "gpt-oss writes <|channel|>final<|message|> before its answer.",
        "analysis of the assistant's final words",
        "He said ◁think▷ aloud.",
    ],
    ids=str,
)
def test_a_text_about_thinking_is_unchanged(text: str) -> None:
    assert split_thinking(text) == ("", text)


@given(st.lists(st.sampled_from(["<think>", "</think>", "[THINK]", "[/THINK]", "\n", "Hm. "])))
def test_no_tag_is_left_at_the_start_of_an_answer(parts: list[str]) -> None:
    answer = without_thinking("".join(parts))
    assert not answer.lstrip().startswith(("<think>", "[THINK]"))
    assert without_thinking("<think>Hm.</think>" + "".join(parts)).count("Hm.") <= parts.count(
        "Hm. "
    )


def test_thinking_between_paragraphs_is_leftover() -> None:
    assert has_leftover_thinking("Once.\n\n<think>\nHm.\n</think>\n\nTwice.")
    assert has_leftover_thinking("Once.\n[/THINK] Twice.")
    assert not has_leftover_thinking("A reply begins with <think>, as a rule.")


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": "Hm.", "content": "Once."},
        {"reasoning": "Hm.", "content": "Once."},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                     {"type": "text", "text": "Once."}]},
        {"content": [{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": "Once."}]},
    ],
    ids=["reasoning_content", "reasoning", "Mistral", "parts"],
)  # fmt: skip
def test_a_servers_own_fields_are_read(message: dict[str, Any]) -> None:
    assert split_message(message) == ("Hm.", "Once.")


def test_a_message_without_thinking_or_content() -> None:
    assert split_message({"content": "Once.", "reasoning": None}) == ("", "Once.")
    assert split_message({"content": None, "reasoning": {"effort": "low"}}) == ("", "")
