"""Hold the length of a text: what to ask of each step, given what the steps before it became. Pure.

Models overshoot and undershoot, each with a bias of its own: upstream's way, which asks for the
plan's targets whatever was written, ends 1.26 to 1.45 times too long with some. Here the words that
are left are shared among the steps that are left, and the number asked for is divided by the ratio
of words written to words asked for so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agentwrite.writing.plan import MAX_STEP_WORDS, Plan, Step

_BIAS = (0.5, 2.0)  # a writer beyond these does not follow word counts at all
_SCALE = (0.4, 1.6)  # by how much a step may differ from the plan: its point stays the same
_RECENT = 20  # sections: habits change as a text grows


@dataclass(frozen=True)
class Asked:
    """A step's share of the words that are left, and the count to ask for in order to get it."""

    step: Step
    target: int
    requested: int

    @property
    def line(self) -> str:
        """The step in the paper's form, with the count to ask for."""
        return self.step.with_words(self.requested).line


def ask_as_planned(step: Step) -> Asked:
    """A step as its plan has it."""
    return Asked(step, step.words, step.words)


def ask_next(plan: Plan, goal: int, written: Sequence[tuple[int, int]]) -> Asked:
    """The next step of a text that is to have `goal` words.

    `written` holds the words and the requested words of each section before it.
    """
    step = plan.steps[len(written)]
    left = goal - sum(words for words, _ in written)
    planned = sum(each.words for each in plan.steps[len(written) :])
    target = max(1, round(step.words * _within(_SCALE, left / planned)))
    recent = written[-_RECENT:]
    requested = sum(asked for _, asked in recent)
    bias = _within(_BIAS, sum(words for words, _ in recent) / requested) if requested else 1.0
    most = max(MAX_STEP_WORDS[step.level], step.words)
    return Asked(step, target, max(1, min(most, round(target / bias))))


def _within(limits: tuple[float, float], value: float) -> float:
    return min(max(value, limits[0]), limits[1])
