"""Plans: steps with targets in words, fitted to the required length. Pure.

Endpoints with structured output return plans as JSON, which this module reads. `plan_reader` reads
plans in text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict

from longwriter_core.llm import Rejected, Structured

Level = Literal["Paragraph", "Chapter"]

MAX_STEPS = 50  # upstream drops longer plans, because most of them are loops
MAX_PLAN_WORDS = 25_000  # 50 paragraphs of the usual length
MAX_STEP_WORDS: dict[Level, int] = {
    "Paragraph": 2_000,  # fits in 4,096 tokens
    "Chapter": MAX_PLAN_WORDS,
}
_DEFAULT_STEP_WORDS: dict[Level, int] = {"Paragraph": 500, "Chapter": 5_000}
_MIN_STEP_WORDS = 50  # mean of a plan that was scaled down; shorter steps are not worth writing
_TOLERANCE = 0.1  # share by which a plan may miss the required length without being scaled


@dataclass(frozen=True)
class Step:
    """One step of a plan: a paragraph to write, or a chapter to plan."""

    number: int  # from 1
    point: str
    words: int
    level: Level = "Paragraph"

    @property
    def line(self) -> str:
        """The step in the paper's format."""
        return (
            f"{self.level} {self.number} - Main Point: {self.point} "
            f"- Word Count: {self.words} words"
        )

    def with_words(self, words: int) -> "Step":
        """The same step with another target."""
        return replace(self, words=words)


@dataclass(frozen=True)
class Plan:
    """Steps to write, in order.

    `scaled` is true if the targets were scaled to the required length. `chapters` of a two-level
    plan holds each chapter and the number of its first step.
    """

    steps: tuple[Step, ...]
    scaled: bool = False
    chapters: tuple[tuple[Step, int], ...] = ()

    @property
    def words(self) -> int:
        """The sum of the targets."""
        return sum(step.words for step in self.steps)

    @property
    def text(self) -> str:
        """The plan as shown in prompts, one line per step."""
        headings = {first: chapter.line for chapter, first in self.chapters}
        lines: list[str] = []
        for step in self.steps:
            if heading := headings.get(step.number):
                lines.append(f"\n{heading}" if lines else heading)
            lines.append(step.line)
        return "\n".join(lines)

    def shown(self, number: int) -> str:
        """The plan as the prompt for step `number` shows it: all chapters, and the step's own.

        The steps of other chapters are left out, since the plan of a million words has thousands.
        At most MAX_STEPS of a chapter are shown, for plans that people have written.
        """
        before = next((start for _, start in self.chapters), len(self.steps) + 1)
        lines = self._steps_around(number, 1, before)
        ends = [*(start for _, start in self.chapters[1:]), len(self.steps) + 1]
        for (chapter, start), end in zip(self.chapters, ends, strict=False):
            own = self._steps_around(number, start, end)
            lines += ["", chapter.line, *own, ""] if own else [chapter.line]
        return "\n".join(lines).replace("\n\n\n", "\n\n").strip("\n")

    def _steps_around(self, number: int, start: int, end: int) -> list[str]:
        """The lines of the steps from `start` to before `end`, if `number` is among them."""
        if not start <= number < end:
            return []
        first = number - (number - start) % MAX_STEPS
        last = min(first + MAX_STEPS, end)
        omitted = [f"[Steps {first} to {last - 1} of {len(self.steps)}]"]
        lines = [step.line for step in self.steps[first - 1 : last - 1]]
        return lines if last - first == end - start else omitted + lines


def joined(chapters: tuple[Step, ...], plans: list[Plan]) -> Plan:
    """Combine chapters and their plans into a two-level plan with consecutive step numbers."""
    steps: list[Step] = []
    starts = []
    for chapter, plan in zip(chapters, plans, strict=True):
        starts.append((chapter, len(steps) + 1))
        steps += [replace(step, number=len(steps) + n) for n, step in enumerate(plan.steps, 1)]
    return Plan(tuple(steps), any(plan.scaled for plan in plans), tuple(starts))


class PlannedStep(BaseModel):
    """A step as structured output."""

    model_config = ConfigDict(extra="forbid")

    main_point: str
    word_count: int


class PlannedSteps(BaseModel):
    """A plan as structured output."""

    model_config = ConfigDict(extra="forbid")

    steps: list[PlannedStep]


def structured_plan(required: int | None, level: Level) -> Structured[Plan]:
    """Return the JSON schema and reader of a plan, for endpoints with structured output."""

    def read(planned: PlannedSteps) -> Plan | Rejected:
        steps = [(" ".join(step.main_point.split()), step.word_count) for step in planned.steps]
        return fit_plan(steps, required, level)

    return Structured(PlannedSteps, read)


def fit_plan(
    steps: Sequence[tuple[str, int | None]], required: int | None, level: Level = "Paragraph"
) -> Plan | Rejected:
    """Build a plan from (main point, target in words) pairs.

    A missing target becomes the mean of the others. If the sum misses `required` by more than 10%,
    all targets are scaled to it. Returns Rejected with a reason if the plan has no steps, too many
    steps or a step without a main point, or if its steps are too short or too long after scaling.
    """
    if not steps:
        return Rejected("no_plan", "no steps")
    if len(steps) > MAX_STEPS:
        return Rejected("too_many_steps", f"{len(steps)} steps, at most {MAX_STEPS}")
    for place, (point, _) in enumerate(steps, 1):
        if not point or "describe the main point" in point.lower():
            return Rejected("no_main_point", f"step {place} of {len(steps)}")
    known = [words for _, words in steps if words and words > 0]
    usual = sum(known) / len(known) if known else _DEFAULT_STEP_WORDS[level]
    targets = [words if words and words > 0 else usual for _, words in steps]
    total = sum(targets)
    scaled = required is not None and abs(total - required) > _TOLERANCE * required
    ratio = required / total if required and scaled else 1
    words = [max(1, round(target * ratio)) for target in targets]
    if required and scaled:  # the longest step absorbs the rounding error
        words[words.index(max(words))] += max(required - sum(words), 1 - max(words))
    if scaled and ratio < 1 and len(words) > 1 and sum(words) / len(words) < _MIN_STEP_WORDS:
        mean = sum(words) // len(words)
        return Rejected("steps_too_short", f"{mean} words in each of {len(words)} steps")
    if max(words) > MAX_STEP_WORDS[level]:
        return Rejected("steps_too_long", f"{max(words)} words in one of {len(steps)} steps")
    return Plan(
        tuple(
            Step(place, point, target, level)
            for place, ((point, _), target) in enumerate(zip(steps, words, strict=True), 1)
        ),
        scaled,
    )
