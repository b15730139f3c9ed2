"""Which texts are fit to be trained on. Pure; each rule has a name and says why it said no."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agentwrite.writing.context import estimate_tokens
from longwriter_core.llm import Rejected
from longwriter_core.llm.ask import is_error_text
from longwriter_core.text.diagnostics import (
    is_cut_off,
    is_refusal,
    is_to_be_continued,
    is_wrong_language,
    repetition,
)
from longwriter_core.text.length import count_words, length_score

# A section under a quarter of its target has not been written; from a third of such sections on,
# the text has collapsed, as happens under plans of very many steps.
_WRITTEN, _COLLAPSED = 0.25, 1 / 3


@dataclass(frozen=True)
class Limits:
    """What the rules compare with.

    32,000 words are the most in LongWriter-6k (arXiv 2408.07055, section 4.1); what asks for its
    least, 2,000, may come out shorter by a quarter. 32,768 tokens of prompt and answer are what
    the paper trained with; ours are an estimate, since every model has its own. S_l of 80 is the
    bound of arXiv 2410.10210; a tenth of the words in repeated runs of ten is that of
    arXiv 2112.11446, table A1.
    """

    min_words: int = 1_500
    max_words: int = 32_000
    sequence_len: int = 32_768
    min_length_score: float = 80.0
    max_repetition: float = 0.10


@dataclass(frozen=True)
class Candidate:
    """A cleaned text with what it answers. `sections` are its rows in texts.jsonl."""

    instruction: str
    text: str
    required: int | None
    sections: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def words(self) -> int:
        """Words of the text."""
        return count_words(self.text)

    @property
    def length_score(self) -> float | None:
        """S_l, where a length was required."""
        return length_score(self.required, self.words) if self.required else None


def _too_short(text: Candidate, limits: Limits) -> str | None:
    return f"{text.words} words" if text.words < limits.min_words else None


def _too_long(text: Candidate, limits: Limits) -> str | None:
    if text.words > limits.max_words:
        return f"{text.words} words"
    tokens = estimate_tokens(text.instruction) + estimate_tokens(text.text)
    return f"about {tokens} tokens" if tokens > limits.sequence_len else None


def _collapsed(text: Candidate, _limits: Limits) -> str | None:
    missing = sum(section["words"] < _WRITTEN * section["target"] for section in text.sections)
    if not missing or missing < _COLLAPSED * len(text.sections):
        return None
    return f"{missing} of {len(text.sections)} sections are hardly written"


def _length_score(text: Candidate, limits: Limits) -> str | None:
    score = text.length_score
    if score is None or score >= limits.min_length_score:
        return None
    return f"S_l {score:.1f}: {text.words} of {text.required} words"


def _unfinished(text: Candidate, _limits: Limits) -> str | None:
    if is_to_be_continued(text.text):
        return "puts the rest off"
    return "ends without final punctuation" if is_cut_off(text.text) else None


def _repetition(text: Candidate, limits: Limits) -> str | None:
    share = repetition(text.text)
    return f"{share:.0%} is repeated" if share > limits.max_repetition else None


def _opening(text: Candidate) -> str:
    return " ".join(text.text.split())[:80]


# In the order in which they are asked: the first that says no names the reason.
RULES: dict[str, Callable[[Candidate, Limits], str | None]] = {
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


def fault(
    text: Candidate, limits: Limits, without: frozenset[str] = frozenset()
) -> Rejected | None:
    """The first rule that a text breaks; rules in `without` are not asked. None where it is fit."""
    for name, rule in RULES.items():
        if name not in without and (why := rule(text, limits)) is not None:
            return Rejected(name, why)
    return None
