"""Which finished texts become SFT rows: the fields that are used, and the rules, in order."""

from collections.abc import Callable, Collection
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PositiveInt, StringConstraints

from agentwrite.thresholds import COLLAPSED_TEXT_SHARE, MISSING_SECTION_SHARE, SftLimits
from agentwrite.writing.context import estimate_tokens
from agentwrite.writing.plan import Plan, Step
from longwriter_core.files import sha256
from longwriter_core.llm.ask import is_error_text
from longwriter_core.text.diagnostics import is_wrong_language, repetition
from longwriter_core.text.endings import is_cut_off, is_to_be_continued
from longwriter_core.text.length import count_words, length_score
from longwriter_core.text.refusals import is_refusal

DUPLICATE = "duplicate"  # not in RULES, because it compares a text with earlier ones


def _encodable(value: object) -> object:
    """Replace lone surrogates with "?", because no loader can read them."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


class _Section(BaseModel):
    model_config = ConfigDict(strict=True)

    words: int
    target: int


class _Step(BaseModel):
    model_config = ConfigDict(strict=True)

    number: int
    point: Annotated[str, BeforeValidator(_encodable)]
    words: int


class _Chapter(_Step):
    first_step: int


class FinishedText(BaseModel):
    """The fields of a texts.jsonl row that `sft` uses."""

    model_config = ConfigDict(strict=True)

    instruction: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1), BeforeValidator(_encodable)
    ]
    text: Annotated[str, BeforeValidator(_encodable)]
    required: PositiveInt | None = None
    sections: list[_Section] = []
    models: list[str] = []
    plan: list[_Step] = []
    chapters: list[_Chapter] = []
    thinking: str = ""  # what the answer is to begin with; `sft` sets it

    @cached_property
    def words(self) -> int:
        """Words of the text."""
        return count_words(self.text)

    @property
    def plan_text(self) -> str:
        """The plan, one line per step; "" if the row has none."""
        steps = tuple(Step(**vars(step)) for step in self.plan)
        chapters = tuple(
            (Step(each.number, each.point, each.words, "Chapter"), each.first_step)
            for each in self.chapters
        )
        return Plan(steps, chapters=chapters).text

    @property
    def length_score(self) -> float | None:
        """S_l, or None if no length was required."""
        return length_score(self.required, self.words) if self.required else None


# Each rule returns a readable detail if the text breaks it, else None.


def _too_short(text: FinishedText, limits: SftLimits) -> str | None:
    return f"{text.words} words" if text.words < limits.min_words else None


def _too_long(text: FinishedText, limits: SftLimits) -> str | None:
    if text.words > limits.max_words:
        return f"{text.words} words"
    tokens = sum(map(estimate_tokens, (text.instruction, text.thinking, text.text)))
    return f"about {tokens} tokens" if tokens > limits.sequence_len else None


def _collapsed(text: FinishedText, _limits: SftLimits) -> str | None:
    missing = sum(
        section.words < MISSING_SECTION_SHARE * section.target for section in text.sections
    )
    if not missing or missing < COLLAPSED_TEXT_SHARE * len(text.sections):
        return None
    return f"{missing} of {len(text.sections)} sections are nearly empty"


def _length_score(text: FinishedText, limits: SftLimits) -> str | None:
    score = text.length_score
    if score is None or score >= limits.min_length_score:
        return None
    return f"S_l {score:.1f}: {text.words} of {text.required} words"


def _unfinished(text: FinishedText, _limits: SftLimits) -> str | None:
    if is_to_be_continued(text.text):
        return "promises a continuation"
    return "ends without final punctuation" if is_cut_off(text.text) else None


def _repetition(text: FinishedText, limits: SftLimits) -> str | None:
    share = repetition(text.text)
    return f"{share:.0%} is repeated" if share > limits.max_repetition else None


def _opening(text: FinishedText) -> str:
    return " ".join(text.text.split())[:80]


# A text is rejected by the first rule that it breaks.
RULES: dict[str, Callable[[FinishedText, SftLimits], str | None]] = {
    "refusal": lambda text, _: _opening(text) if is_refusal(text.text) else None,
    "error_text": lambda text, _: _opening(text) if is_error_text(text.text) else None,
    "too_short": _too_short,
    "too_long": _too_long,
    "collapsed": _collapsed,
    "length_score": _length_score,
    "unfinished": _unfinished,
    "repetition": _repetition,
    "wrong_language": lambda text, _: (
        _opening(text) if is_wrong_language(text.instruction, text.text) else None
    ),
}


def find_fault(
    text: FinishedText,
    limits: SftLimits,
    without: Collection[str],
    seen: set[bytes],
    find_benchmark_prompt: Callable[[str], str | None],
) -> tuple[str, str]:
    """Return the rule that a text breaks and its detail; two empty strings if it breaks none.

    `seen` holds the hashes of the texts before it.
    """
    if not text.text.strip():
        return "empty", ""
    for name, rule in RULES.items():
        if name not in without and (detail := rule(text, limits)) is not None:
            return name, detail
    if DUPLICATE not in without and (known := _find_duplicate(text, seen)):
        return DUPLICATE, f"the same {' and '.join(known)} as an earlier row"
    if prompt := find_benchmark_prompt(text.instruction):
        return "benchmark", prompt
    return "", ""


def _find_duplicate(text: FinishedText, seen: set[bytes]) -> list[str]:
    """Return which of "instruction" and "text" occurred in an earlier row.

    If neither did, both are added to `seen`.
    """
    hashes = {
        name: bytes.fromhex(sha256(" ".join(value.split()).casefold())[:32])
        for name, value in (("instruction", text.instruction), ("text", text.text))
    }
    known = [name for name, hash in hashes.items() if hash in seen]
    if not known:
        seen.update(hashes.values())
    return known
