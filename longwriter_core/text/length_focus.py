"""Which of several lengths in an instruction is that of the text to write. Pure.

"Write a 600-word summary of a 20,000-word report" names two whole texts. The length that belongs to
the object of the writing verb counts; those of a source, of the work that the text is a part of, or
of other texts do not.
"""

import re
from collections.abc import Sequence

_WINDOW = 90  # characters before and after a length that are searched for cues
_PART = r"(?:chapter|scene|section|part|episode|prologue|epilogue|introduction)"

_WRITTEN = re.compile(  # Produce a [600-word summary]
    r"\b(?:write|draft|compose|produce|create|prepare|craft|generate|develop|turn|rewrite|condense"
    r"|make|deliver)\b[^.!?;\n]*$|(?:写|撰|创作|生成)[^。！？;\n]*$",
    re.IGNORECASE,
)
_NEXT_SENTENCE = re.compile(r"[.!?;\n。！？]\s|[。！？]")
# "the first 2,000 words OF A 100,000-word novel"; not "then expand it INTO A 5,000-word essay"
_BELONGS_TO = re.compile(
    r"\b(?:of|for|to|from|in|on|about)\s+(?:an?|the|my|our|this|that|your)\s+"
    r"(?:(?:about|roughly|planned|longer|larger)\s+)*(?:[a-z]+\s+)?$",
    re.IGNORECASE,
)
_GROWS = re.compile(
    r"\b(?:expand|extend|turn|grow|develop|then|into|up to|total)\w*\b", re.IGNORECASE
)
_SOURCE_BEFORE = re.compile(
    r"\b(?:here(?:[’']s| is| are)|sources?|materials?|i(?:[’']ve| have)(?! to\b)|there (?:is|are)"
    r"|using|based on|drawing on|given|attached|reference)\b[^.!?\n]*$",
    re.IGNORECASE,
)
_SOURCE_AFTER = re.compile(
    r"\s*of (?:\w+ )?(?:research|notes?|materials?|data|transcripts?|sources?|interviews?"
    r"|documentation|background|minutes)\b",
    re.IGNORECASE,
)
_OWN = re.compile(  # posts have up to 3,000 words, but this one should be 800 words
    r"\b(?:this (?:one|piece|article|post|essay|story|text|entry|time)|yours)\s+"
    r"(?:should|must|needs to|has to|is to)\s+(?:be|have|run to|stay)\b[^.!?;,\n]{0,30}$"
    r"|\bkeep (?:this|yours)\b[^.!?;,\n]{0,12}\b(?:to|at|under|within|below)\s+(?:about |around )?$"
    rf"|\b(?:write|draft)\s+(?:me\s+)?(?:just\s+|only\s+)?(?:the\s+)?(?:first|next|opening|last|final)"
    rf"\s+{_PART}\b(?:(?!\bof\b)[^.!?;\n]){{0,25}}$"
    r"|(?:写|创作)(?:出|好)?(?:第[一二三四五六七八九十\d]+[章节回卷部]|下一?[章节回]|开头|开篇|序章|楔子)"
    r"[^。！？\n]{0,10}$",
    re.IGNORECASE,
)
_OF_SOURCES = re.compile(  # these 5 articles (about 3,000 words each)
    r"\b(?:these|those|the following|my|attached)\s+\w+\s+\w+\s*[(,]?\s*"
    r"(?:of |with )?(?:about |around |roughly |approximately )?$",
    re.IGNORECASE,
)


def is_own(text: str, start: int) -> bool:
    """Whether the length at `start` is said to be that of the text to write."""
    return bool(_OWN.search(text[max(0, start - _WINDOW) : start]))


def is_of_sources(text: str, start: int) -> bool:
    """Whether the length at `start` is that of each of several existing texts."""
    return bool(_OF_SOURCES.search(text[max(0, start - _WINDOW) : start]))


def focus(text: str, spans: Sequence[tuple[int, int]], words: Sequence[int]) -> list[int]:
    """Return the places of those whole lengths in `text` that may be that of the text to write."""
    before = [text[max(0, start - _WINDOW) : start] for start, _ in spans]
    own = [n for n, (start, _) in enumerate(spans) if is_own(text, start)]
    if len(own) == 1:
        return own
    written = [n for n, context in enumerate(before) if _WRITTEN.search(context)]
    dropped = set()
    for n, (start, end) in enumerate(spans):
        for first in written:
            between = text[spans[first][1] : start]
            is_larger = first < n and words[first] < words[n]
            is_near = is_larger and not _NEXT_SENTENCE.search(between)
            if is_near and _BELONGS_TO.search(between) and not _GROWS.search(between):
                dropped.add(n)
        is_source = _SOURCE_BEFORE.search(before[n]) or _SOURCE_AFTER.match(text, end)
        if is_source and n not in written and set(written) - {n}:
            dropped.add(n)
    return [n for n in range(len(spans)) if n not in dropped]
