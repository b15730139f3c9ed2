"""What a reader opens in the page: prompts, responses and verdicts, packed until they are wanted.

120 responses of 10,000 words are 7 MB. Each prompt's texts are compressed on their own, so that
the page holds a third of that, opens at once, and unpacks one prompt at a time. Base64 also means
that no character of a response ever stands in the page's markup.
"""

import base64
import bisect
import json
import re
import zlib
from collections.abc import Sequence
from itertools import islice
from typing import Any

from longwriter_core.text.diagnostics import repeated_passages
from longwriter_core.text.special_tokens import encodable
from longwriter_eval.judge.judgement import Verdict
from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.scoring import Score

MARK_EVERY = 500  # words

_WORD = re.compile(r"[\u4e00-\u9fff]|\b[a-zA-Z]+\b")  # the words of length.count_words, in order
_ASTRAL = re.compile(r"[\U00010000-\U0010ffff]")


def pack(scores: Sequence[Score | None]) -> str:
    """One prompt with each run's response to it, as base64 of deflated JSON.

    Places in a text count as JavaScript's strings do. A run without the prompt has None.
    """
    prompt = next(score.sample.prompt for score in scores if score)
    unpacked = {
        "prompt": encodable(prompt),
        "runs": [score and _response(score) for score in scores],
    }
    text = json.dumps(unpacked, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def word_marks(text: str) -> list[tuple[int, int]]:
    """(words, characters before them) for every 500th word of `text`, before it starts."""
    starts = (match.start() for match in _WORD.finditer(text))
    every = islice(starts, MARK_EVERY, None, MARK_EVERY)
    return [(MARK_EVERY * number, start) for number, start in enumerate(every, 1)]


def _response(score: Score) -> dict[str, Any]:
    place = _Utf16(score.text)
    passages = repeated_passages(score.text)
    return {
        "text": score.text,
        "marks": [[words, place(start)] for words, start in word_marks(score.text)],
        "repeats": [[place(start), place(end)] for start, end in passages],
        "verdicts": [_verdict(v) for v in score.judgement.verdicts] if score.judgement else [],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    scores = verdict.scores
    return {
        "repeat": verdict.repeat + 1,
        "scores": [scores[name] for name in DIMENSIONS] if scores else None,
        "reason": verdict.reason,
        "detail": encodable(verdict.detail or ""),
        "raw": encodable(verdict.raw),
        "model": encodable(verdict.model or ""),
        "asks": verdict.asks,
        "tokens": [verdict.prompt_tokens, verdict.completion_tokens],
        "defused": verdict.defused,
    }


class _Utf16:
    """From a place in a Python string to the one in JavaScript, where an emoji is two."""

    def __init__(self, text: str) -> None:
        self._astral = [match.start() for match in _ASTRAL.finditer(text)]

    def __call__(self, place: int) -> int:
        return place + bisect.bisect_left(self._astral, place)
