"""The mock writer's habits: each shows, by the request alone, and a retry is not spoiled."""

import pytest

from longwriter_core.mock_server import MockServer
from longwriter_core.mock_server.habits import FAULTY, HABITS, TALK, with_habits
from longwriter_core.mock_server.prose import TOKEN, prose
from longwriter_core.text.diagnostics import repetition
from longwriter_core.text.refusals import is_refusal
from longwriter_core.text.thinking import without_thinking

TEXT = prose(400)
PLAN = "\n\n".join(
    f"Paragraph {n} - Main Point: Mud {n} - Word Count: 400 words" for n in range(1, 5)
)


def replies(habit: str, text: str = TEXT, *, is_first: bool = True) -> set[str]:
    return {
        with_habits(text, [habit], is_plan=text == PLAN, is_first=is_first, seed=str(n))
        for n in range(20)
    }


@pytest.mark.parametrize("habit", TALK)
def test_talk_shows_in_some_replies_and_leaves_the_text(habit: str) -> None:
    said = replies(habit)
    assert len(said) == 2
    assert all(TEXT in without_thinking(reply) for reply in said)


def test_lengths_are_missed_in_every_reply() -> None:
    for habit, factor in (("long", 1.4), ("short", 0.6)):
        for reply in replies(habit):
            assert len(TOKEN.findall(reply)) == pytest.approx(400 * factor, rel=0.1)


def test_faults_spoil_only_the_first_reply_to_a_prompt() -> None:
    assert any(map(is_refusal, replies("refusal")))
    assert any(repetition(reply) > 0.5 for reply in replies("loop"))
    assert any(reply.endswith("Word Count: ") for reply in replies("half_plan", PLAN))
    for habit in FAULTY:
        text = PLAN if habit == "half_plan" else TEXT
        assert replies(habit, text, is_first=False) == {text}


def test_an_unknown_habit_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"habits \['humming'\] are not among"):
        MockServer(habits=("humming",))
    assert "half_plan" in HABITS
