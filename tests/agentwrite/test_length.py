"""Texts have the requested length, even if the writer overshoots or undershoots."""

import random
import re
from typing import Any

import pytest
from support.model import WRITER, Model

from agentwrite.write import write_text
from agentwrite.writing.budget import ask_next
from agentwrite.writing.plan import Plan, Step
from agentwrite.writing.state import Text
from longwriter_core.mock_server.prose import prose


def biased(times: float, noise: float = 0.0) -> Model:
    """A model that writes `times` the words that a step names, give or take `noise`."""
    dice = random.Random(1)

    def answer(prompt: str) -> str | None:
        steps = re.findall(r"Now write this step: .* (\d+) words$", prompt)
        steps = steps or re.findall(r"now continue writing .* Word Count: (\d+) words", prompt)
        if not steps:
            return None  # the mock server's own plan
        factor = times * dice.uniform(1 - noise, 1 + noise)
        return prose(round(int(steps[-1]) * factor), seed=len(prompt))

    return Model(answer=answer)


def write(model: Model, words: int, **settings: Any) -> Text:
    with model:
        text = write_text(
            f"Write {words} words about a harbour.", model=WRITER, base_url=model.base_url,
            **settings,
        )  # fmt: skip
        calls = sum(model.stats().calls.values())
    assert calls <= 1.1 * len(text.sections) + 1 + words / 25_000 * 5  # and those of the plan
    return text


@pytest.mark.parametrize("words", [5_000, 20_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("times", "noise"), [(1.4, 0.0), (0.6, 0.0), (1.2, 0.3)])
def test_a_text_is_within_five_percent_of_the_requested_length(
    words: int, times: float, noise: float
) -> None:
    text = write(biased(times, noise), words)
    assert text.words == pytest.approx(words, rel=0.05)


@pytest.mark.usefixtures("upstream")
def test_with_the_papers_prompts_every_step_is_asked_for_as_planned() -> None:
    text = write(biased(1.4), 5_000, prompts="official")
    assert [section.requested for section in text.sections] == [s.words for s in text.plan.steps]
    assert text.words == pytest.approx(1.4 * 5_000, rel=0.02)


def test_a_writer_that_ignores_word_counts_gets_no_absurd_requests() -> None:
    plan = Plan(tuple(Step(n, "Mud", 400) for n in range(1, 11)))
    asked = ask_next(plan, 4_000, [(20, 400)] * 9)
    assert asked.target == 640
    assert asked.requested == 1_280
    assert ask_next(plan, 4_000, [(4_000, 400)] * 9).requested == 80


def test_a_rerun_makes_the_same_requests_and_finds_them_in_the_store() -> None:
    with biased(1.4) as model:
        first = write_text("Write 5000 words.", model=WRITER, base_url=model.base_url)
        calls = len(model.history)
        second = write_text("Write 5000 words.", model=WRITER, base_url=model.base_url)
        assert len(model.history) == calls
    assert first.text == second.text
