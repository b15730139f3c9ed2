"""Rules of version 1.0 of the tasks that version 1.1 changed. Pure.

Runs and archives of version 1.0 are scored and verified by them: how scores are read from a judge's
reply, and which responses count as cut off.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_MAX_REPLY = 50_000  # characters

_CLOSERS = "\"'”’»」』)]}）】》*_`~#-— \t\r\n\u3000"
_PAUSES = (",", "，", "、", ";", "；", ":", "：")
_VERSE_LINES = 4
_FINAL = re.compile(r"([.!?…。！？]|the end|完|终)$", re.IGNORECASE)


def read_verdict(reply: str, dimensions: Mapping[str, str]) -> dict[str, int] | None:
    """The scores (1-5) of `dimensions` in the last JSON object of a reply, or None.

    Version 1.0 compared neither several objects with each other nor the object with the response.
    """
    verdict = _last_object(reply)
    if verdict is None:
        return None
    scores = {}
    for dimension, name in dimensions.items():
        value = verdict.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if value not in (1, 2, 3, 4, 5):
            return None
        scores[dimension] = int(value)
    return scores


def is_cut_off(text: str) -> bool:
    """Whether a non-empty text ends without final punctuation, except after lines without any."""
    lines = [bare for line in text.splitlines() if (bare := line.rstrip(_CLOSERS))][-_VERSE_LINES:]
    if not lines or _FINAL.search(lines[-1]):
        return False
    is_verse = len(lines) == _VERSE_LINES and not any(_FINAL.search(line) for line in lines)
    return not is_verse or lines[-1].endswith(_PAUSES)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_unique)


def _last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object of a reply, unless braces around it are not closed."""
    if len(text) > _MAX_REPLY:
        return None
    last: dict[str, Any] | None = None
    end = unclosed = 0
    position = text.find("{")
    while position >= 0:
        unclosed -= text.count("}", end, position)
        if unclosed < 0:
            return None
        try:
            last, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            unclosed += 1
            end = position + 1
        position = text.find("{", end)
    return None if unclosed or "}" in text[end:] else last
