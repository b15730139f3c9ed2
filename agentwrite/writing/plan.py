"""Read a plan from a model's reply and fit it to a length. Pure.

Endpoints that offer structured output return plans as JSON. The text format is the paper's
(arXiv 2408.07055, section 3.1):

    Paragraph 1 - Main Point: Why harbours silt up - Word Count: 400 words

Models number, translate, bullet, embolden and spread it over several lines; all of that is read.
A reply that cannot be read is rejected with a reason.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict

from longwriter_core.llm import Rejected, Structured
from longwriter_core.text.required_length import CHINESE_NUMBER, NUMBER_WORD, narrow, number
from longwriter_core.text.thinking import without_thinking

Level = Literal["Paragraph", "Chapter"]

MAX_STEPS = 50  # upstream drops longer plans: they are mostly loops
MAX_PLAN_WORDS = 25_000  # words that one plan holds: 50 paragraphs of the usual length
_MAX_STEP_WORDS: dict[Level, int] = {
    "Paragraph": 2_000,
    "Chapter": MAX_PLAN_WORDS,
}  # 4,096 tokens hold 2,000
_DEFAULT_STEP_WORDS: dict[Level, int] = {"Paragraph": 500, "Chapter": 5_000}
_TOLERANCE = 0.1  # by how much a plan may miss the required length before it is scaled


@dataclass(frozen=True)
class Step:
    """One step of a plan: a paragraph to write, or a chapter to plan."""

    number: int  # from 1
    point: str
    words: int
    level: Level = "Paragraph"

    @property
    def line(self) -> str:
        """The step in the paper's form."""
        return (
            f"{self.level} {self.number} - Main Point: {self.point} "
            f"- Word Count: {self.words} words"
        )


@dataclass(frozen=True)
class Plan:
    """Steps to write, in order; `scaled` says that their targets were changed to fit the length.

    `chapters` of a two-level plan come with the number of the first step of each.
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
        """The plan as prompts show it, a line for each step."""
        headings = {first: chapter.line for chapter, first in self.chapters}
        lines: list[str] = []
        for step in self.steps:
            if heading := headings.get(step.number):
                lines.append(f"\n{heading}" if lines else heading)
            lines.append(step.line)
        return "\n".join(lines)


def joined(chapters: tuple[Step, ...], plans: list[Plan]) -> Plan:
    """The two-level plan of `chapters` and the plan of each; steps are numbered throughout."""
    steps: list[Step] = []
    starts = []
    for chapter, plan in zip(chapters, plans, strict=True):
        starts.append((chapter, len(steps) + 1))
        steps += [replace(step, number=len(steps) + n) for n, step in enumerate(plan.steps, 1)]
    return Plan(tuple(steps), any(plan.scaled for plan in plans), tuple(starts))


def read_plan(
    reply: str, required: int | None = None, level: Level = "Paragraph"
) -> Plan | Rejected:
    """The plan in the text of a reply, fitted to the required length by `fit_plan`."""
    steps = [step for step in _read_steps(reply, level) if step[0] or step[1]]
    if not steps:
        return Rejected("no_plan", f"no steps in {_short(reply)}")
    return fit_plan(steps, required, level)


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
    """A plan as JSON, for endpoints that offer structured output."""

    def read(planned: PlannedSteps) -> Plan | Rejected:
        steps = [(" ".join(step.main_point.split()), step.word_count) for step in planned.steps]
        return fit_plan(steps, required, level)

    return Structured(PlannedSteps, read)


def fit_plan(
    steps: Sequence[tuple[str, int | None]], required: int | None, level: Level = "Paragraph"
) -> Plan | Rejected:
    """A plan from main points and targets in words.

    Missing targets get the mean of the others. If the sum misses `required` by over 10%, all
    targets are scaled to it. Rejected, with a reason, if the plan cannot be followed.
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
    if required and scaled:  # rounding goes to the longest step
        words[words.index(max(words))] += max(required - sum(words), 1 - max(words))
    if max(words) > _MAX_STEP_WORDS[level]:
        return Rejected("steps_too_long", f"{max(words)} words in one of {len(steps)} steps")
    return Plan(
        tuple(
            Step(place, point, target, level)
            for place, ((point, _), target) in enumerate(zip(steps, words, strict=True), 1)
        ),
        scaled,
    )


# How a line may announce a step; patterns match the narrow form of a line without its markup.
_N = rf"(?:[0-9]{{1,4}}|{CHINESE_NUMBER}{{1,4}}|[IVX]{{1,5}}\b|{NUMBER_WORD})"
_NAMES = {
    "paragraph": rf"(?:paragraph|subtask|step|段落|步骤)\s*\(?{_N}\)?|第\s*{_N}\s*(?:段落|段|步)",
    "section": rf"(?:section|小节)\s*\(?{_N}\)?|第\s*{_N}\s*(?:小节|节)",
    "chapter": rf"(?:chapter|part|章节|部分)\s*\(?{_N}\)?|第\s*{_N}\s*(?:章节|章|部分)",
    "numbered": rf"\(?(?:[0-9]{{1,3}}|{CHINESE_NUMBER}{{1,3}}|[IVX]{{1,5}})(?:[.、)]+|:)(?![0-9])",
}
_HEADERS = {
    name: re.compile(rf"(?:{pattern})(?![0-9A-Za-z])[\s.:、,)\-|\\\]】]*", re.IGNORECASE)
    for name, pattern in _NAMES.items()
}
_ORDER: dict[Level, tuple[str, ...]] = {
    "Paragraph": ("paragraph", "section", "chapter"),
    "Chapter": ("chapter", "section", "paragraph"),
}
_BULLET = re.compile(r"^\s*(?:[-*•·●▪]\s+)")
_MARKUP = re.compile(r"^[\s>|\\\[【]*(?:[-*•·●▪]\s+)?#{0,6}\s*|\*\*|__|`")
_TOTAL = re.compile(r"^\W*(?:total\b|in total\b|总计|合计|共计|总字数|全文)", re.IGNORECASE)

_AMOUNT = rf"(?:[0-9]{{1,3}}(?:,[0-9]{{3}})+|[0-9]{{1,6}}|{CHINESE_NUMBER}{{2,7}})"
_ABOUT = (
    r"(?:about|around|approximately|approx\.?|roughly|at least|up to|~|≈|约|大约|大概|不少于|至少)?"
)
_RANGE = rf"{_ABOUT}\s*(?P<low>{_AMOUNT})(?:\s*(?:-|~|to|至|到)\s*(?P<high>{_AMOUNT}))?"
_TARGETS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:word\s*count|words|word\s+target|length|字数(?:要求|目标)?|篇幅)\s*(?:requirement)?\s*:"
        rf"\s*[\[(]?\s*{_RANGE}\s*(?:words?\b|个?字|词)?\s*(?:左右|以内)?\s*[\])]?",
        rf"[\[(]?\s*{_RANGE}[\s-]*(?:words?\b|个?字(?![母符段体]))\s*(?:左右|以内)?\s*[\])]?",
        rf"\|\s*{_RANGE}\s*\|?\s*$",  # the last cell of a table
    )
)
_POINT = re.compile(
    r"(?:main\s*(?:points?|ideas?|content)|主要内容|主要观点|中心思想|主旨|要点|核心内容|内容要点)\s*:\s*",
    re.IGNORECASE,
)
_FIELD = re.compile(rf"{_POINT.pattern}|word\s*count|字数|篇幅", re.IGNORECASE)
_EDGES = " \t\r\n\u3000-–—－:：|,，;；[]【】"


def _read_steps(reply: str, level: Level) -> list[tuple[str, int | None]]:
    """(main point, target) of every step, in order."""
    raw = [line for line in without_thinking(reply).splitlines() if "```" not in line]
    lines = [_MARKUP.sub("", line).strip() for line in raw]
    heads = [_header(narrow(line)) for line in lines]
    kinds = {kind for kind, _ in heads}
    for kind in (*_ORDER[level], "numbered"):
        if kind in kinds:
            steps = [_split(text) for text in _gather(lines, heads, kind)]
            targets = sum(words is not None for _, words in steps)
            # a numbered list is a plan where it has targets, or is at least a list
            if kind != "numbered" or len(steps) > 1 or targets:
                return steps
    for marked in (True, False):  # bullets, then bare lines, where most name a target
        chosen = [
            line
            for line, was in zip(lines, raw, strict=True)
            if line and (not marked or _BULLET.match(was))
        ]
        steps = [_split(line) for line in chosen if not _TOTAL.match(narrow(line))]
        with_target = [step for step in steps if step[1]]
        if len(with_target) > 1 and (not marked or 2 * len(with_target) >= len(steps)):
            return steps if marked else with_target
    return []


def _header(line: str) -> tuple[str, int]:
    """How a line announces a step ("" if it does not), and where the rest begins."""
    for kind, pattern in _HEADERS.items():
        if found := pattern.match(line):
            return kind, found.end()
    return "", 0


def _gather(lines: list[str], heads: list[tuple[str, int]], kind: str) -> list[str]:
    """The text of each step: what follows a header of `kind`, and the lines that belong to it."""
    steps: list[str] = []
    is_open = False  # whether a further line still belongs to the last step
    for line, (found, start) in zip(lines, heads, strict=True):
        if found == kind:
            steps.append(line[start:])
            is_open = True
        elif found in _ORDER["Paragraph"] or _TOTAL.match(narrow(line)):  # a heading, a sum
            is_open = False
        elif not line:
            is_open = is_open and _split(steps[-1])[1] is None
        elif is_open or (steps and _FIELD.match(narrow(line))):
            steps[-1] += f" {line}"
    return steps


def _split(text: str) -> tuple[str, int | None]:
    """The main point and the target of a step's text."""
    words = None
    for pattern in _TARGETS:
        if found := list(pattern.finditer(narrow(text))):
            last = found[-1]
            low = number(last["low"]) or 0
            high = number(last["high"]) if last["high"] else low
            words = round((low + (high or low)) / 2) or None
            text = (
                f"{text[: last.start()].rstrip(_EDGES)} {text[last.end() :].lstrip(_EDGES + '.。')}"
            )
            break
    if label := _POINT.search(narrow(text)):
        text = f"{text[: label.start()].rstrip(_EDGES)} {text[label.end() :]}"
    return " ".join(text.split()).strip(_EDGES), words


def _short(text: str) -> str:
    """The beginning of a reply, for a message."""
    line = " ".join(text.split())
    return repr(line[:60] + "…" if len(line) > 60 else line)
