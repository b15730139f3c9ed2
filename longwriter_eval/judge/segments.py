"""Judging a response part by part: where it is cut, and how its quality runs along the text. Pure.

A judge that reads a very long text at once agrees little with people about it. So with
`judge_segments: N`, each of N parts gets a verdict of its own, beside the verdict on the whole
text, which stays what it is. The judge sees a part together with a summary of what came before.
"""

import re
import statistics
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

from longwriter_core.text.length import count_words

# A shorter part is too short to be judged for coherence or breadth, so a response that has not
# this many words per part is judged as a whole only.
MIN_SEGMENT_WORDS = 150

# A summary that is longer than this is asked for again: it would be a second copy of the text.
MAX_SUMMARY_WORDS = 400

# Parts are of equal length where paragraphs allow it: none is shorter or longer than an equal share
# by more than this factor.
_MAX_UNEVENNESS = 2

_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n\s*")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])[”’」』）]*\s*|\n\s*")


@lru_cache(maxsize=256)
def cut(text: str, number: int) -> tuple[str, ...]:
    """`text` in `number` consecutive parts of about equal length; () if it is too short for that.

    It is cut between paragraphs, else between lines, else between sentences, at the boundaries that
    are nearest to equal shares of its words. A last paragraph of a few words, such as "The End",
    thus stays with the part before it. Joined, the parts are `text`.
    """
    words = count_words(text)
    if number < 2 or words < number * MIN_SEGMENT_WORDS:
        return ()
    share = words / number
    for boundary in (_PARAGRAPH, _LINE, _SENTENCE):
        parts = _cut_at(boundary, text, number)
        lengths = [count_words(part) for part in parts]
        if parts and all(
            share / _MAX_UNEVENNESS <= length <= share * _MAX_UNEVENNESS for length in lengths
        ):
            return parts
    return ()


def positions(parts: Sequence[str]) -> list[float]:
    """The middle of each part as a share of the whole text's words, from 0 to 1."""
    lengths = [count_words(part) for part in parts]
    ends = list(accumulate(lengths))
    return [
        (end - length / 2) / ends[-1] if ends[-1] else 0.0
        for end, length in zip(ends, lengths, strict=True)
    ]


def drift(parts: Sequence[str], scores: Sequence[float | None]) -> float | None:
    """The slope of quality along the text: points of S_q from its first word to its last.

    The least-squares line through the scores of the parts; None if one of them is missing.
    """
    known = [score for score in scores if score is not None]
    if len(parts) < 2 or len(known) != len(parts):
        return None
    return statistics.linear_regression(positions(parts), known).slope


def _cut_at(boundary: re.Pattern[str], text: str, number: int) -> tuple[str, ...]:
    """`text` cut at the matches of `boundary` that are nearest to equal shares; () if too few."""
    ends = [match.end() for match in boundary.finditer(text) if 0 < match.end() < len(text)]
    if len(ends) < number - 1:
        return ()
    units = [text[start:end] for start, end in pairwise([0, *ends, len(text)])]
    before = list(accumulate(map(count_words, units)))  # words up to each boundary
    chosen: list[int] = []
    for part in range(1, number):
        target = before[-1] * part / number
        first = chosen[-1] + 1 if chosen else 0
        last = len(ends) - (number - 1 - part)  # leaves a boundary for each later part
        chosen.append(min(range(first, last), key=lambda n: abs(before[n] - target)))
    edges = [0, *(ends[n] for n in chosen), len(text)]
    return tuple(text[start:end] for start, end in pairwise(edges))
