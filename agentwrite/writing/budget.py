"""Keep a text at its required length: choose the word count to request for each step. Pure.

Every model overshoots or undershoots word counts by its own ratio. Upstream always requests the
plan's targets, and its texts end up 1.26 to 1.45 times too long with some models. Here the
remaining words are shared among the remaining steps, and each requested count is divided by the
ratio of written to requested words so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agentwrite.writing.plan import MAX_STEP_WORDS, Plan, Step

_BIAS = (0.5, 2.0)  # limits; a writer outside them ignores word counts
_SCALE = (
    0.4,
    1.6,
)  # limits of a step's target relative to the plan, since its main point stays the same
_RECENT = 20  # sections used for the bias, since it changes as a text grows


@dataclass(frozen=True)
class Asked:
    """A step, its target in words, and the word count to request in order to reach the target."""

    step: Step
    target: int  # its share of the remaining words
    requested: int  # the target divided by the writer's bias

    @property
    def line(self) -> str:
        """The step in the paper's format, with the requested word count."""
        return self.step.with_words(self.requested).line


def ask_as_planned(step: Step) -> Asked:
    """Request exactly the words that the plan gives the step."""
    return Asked(step, step.words, step.words)


def ask_with_bias(step: Step, target: int, bias: float) -> Asked:
    """Request the words with which a writer of this bias writes `target` words."""
    most = max(MAX_STEP_WORDS[step.level], step.words)
    return Asked(step, target, max(1, min(most, round(target / bias))))


def measured_bias(written: Sequence[tuple[int, int]]) -> float:
    """The ratio of written to requested words, within limits; 1 if nothing is written."""
    requested = sum(asked for _, asked in written)
    return _clamp(_BIAS, sum(words for words, _ in written) / requested) if requested else 1.0


def ask_next(plan: Plan, goal: int, written: Sequence[tuple[int, int]]) -> Asked:
    """Return the next step of a text of `goal` words.

    `written` has (words, requested words) for each finished section.
    """
    step = plan.steps[len(written)]
    left = goal - sum(words for words, _ in written)
    planned = sum(later.words for later in plan.steps[len(written) :])
    target = max(1, round(step.words * _clamp(_SCALE, left / planned)))
    return ask_with_bias(step, target, measured_bias(written[-_RECENT:]))


def _clamp(limits: tuple[float, float], value: float) -> float:
    return min(max(value, limits[0]), limits[1])
