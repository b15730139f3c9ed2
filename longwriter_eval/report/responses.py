"""The prompts of a report: entries of its list, and the texts that a reader opens.

120 responses of 10,000 words are 7 MB. Each prompt's texts are compressed separately, so the page
is a third of that size, opens at once, and unpacks one prompt at a time. Base64 also guarantees
that no character of a response appears in the page's markup.
"""

import base64
import bisect
import json
import re
import zlib
from collections.abc import Sequence
from itertools import islice
from typing import Any

from longwriter_core.files import sha256
from longwriter_core.text.diagnostics import repeated_passages
from longwriter_core.text.special_tokens import encodable
from longwriter_eval.judge.verdict import DIMENSIONS, Verdict
from longwriter_eval.pages import label
from longwriter_eval.report.metadata import BENCHMARKS, FAULT_TITLES, LANGUAGES, TYPES, ScoredRun
from longwriter_eval.scoring import Score

MARK_EVERY = 500  # words

# Share of a response that must be repeated for the list to call it a fault.
_MIN_REPETITION = 0.1

_WORD = re.compile(r"[\u4e00-\u9fff]|\b[a-zA-Z]+\b")  # the same words as length.count_words
_ASTRAL = re.compile(r"[\U00010000-\U0010ffff]")


def prompt_key(score: Score) -> tuple[str, str]:
    """Runs share a prompt if both its id and its text are equal."""
    return score.sample.id, sha256(score.sample.prompt.encode("utf-8", "backslashreplace"))


def group_by_prompt(scored: Sequence[ScoredRun]) -> list[list[Score | None]]:
    """For each prompt, every run's score (None if missing), by benchmark and required length."""
    by_run = [{prompt_key(score): score for score in run.scores} for run in scored]
    by_key = {key: score for scores in by_run for key, score in scores.items()}
    order = [*BENCHMARKS]

    def rank(key: tuple[str, str]) -> tuple[Any, ...]:
        name = by_key[key].benchmark
        position = order.index(name) if name in order else len(order)
        return position, name, by_key[key].sample.required, key

    return [[scores.get(key) for scores in by_run] for key in sorted(by_key, key=rank)]


def listing(scores: Sequence[Score | None]) -> dict[str, Any]:
    """The values by which the page's list shows, filters and sorts a prompt."""
    first = next(score for score in scores if score)
    return {
        "id": label(first.sample.id),
        "benchmark": label(BENCHMARKS.get(first.benchmark, first.benchmark)),
        "type": label(TYPES.get(first.sample.type, first.sample.type)),
        "language": label(LANGUAGES.get(first.sample.language, first.sample.language)),
        "bucket": first.bucket,
        "required": first.sample.required,
        "excerpt": label(" ".join(first.sample.prompt.split())),
        "runs": [score and _listed_score(score) for score in scores],
    }


def _listed_score(score: Score) -> dict[str, Any]:
    diagnostics = score.diagnostics.as_dict()
    quality = score.quality
    return {
        "words": score.words,
        "length": score.length_score,
        "quality": score.quality_score,
        "overall": score.overall_score,
        "dimensions": [quality[name] for name in DIMENSIONS] if quality else None,
        "status": label(score.status),
        "repetition": diagnostics["repetition"],
        "faults": [
            FAULT_TITLES[name].partition(" (")[0]
            for name in FAULT_TITLES
            if diagnostics[name] >= (_MIN_REPETITION if name == "repetition" else 1)
        ],
    }


def pack(scores: Sequence[Score | None]) -> str:
    """One prompt with each run's response, as base64 of deflated JSON; None for a missing response.

    Positions in a text count UTF-16 units, as JavaScript strings do.
    """
    prompt = next(score.sample.prompt for score in scores if score)
    content = {
        "prompt": encodable(prompt),
        "runs": [score and _packed_response(score) for score in scores],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def word_marks(text: str) -> list[tuple[int, int]]:
    """(number of words, characters before the next word) after every 500 words of `text`."""
    marked = islice(_WORD.finditer(text), MARK_EVERY, None, MARK_EVERY)
    return [(MARK_EVERY * number, match.start()) for number, match in enumerate(marked, 1)]


def _packed_response(score: Score) -> dict[str, Any]:
    # A character outside the basic multilingual plane, such as an emoji, is two UTF-16 units.
    astral = [match.start() for match in _ASTRAL.finditer(score.text)]

    def utf16(position: int) -> int:
        return position + bisect.bisect_left(astral, position)

    passages = repeated_passages(score.text) if score.diagnostics.repetition else []
    judgement = score.judgement
    verdicts = (*judgement.verdicts, *judgement.segments) if judgement else ()
    return {
        "text": score.text,
        "marks": [[words, utf16(start)] for words, start in word_marks(score.text)],
        "repeats": [[utf16(start), utf16(end)] for start, end in passages],
        "verdicts": [_packed_verdict(verdict) for verdict in verdicts],
    }


def _packed_verdict(verdict: Verdict) -> dict[str, Any]:
    scores = verdict.scores
    return {
        "repeat": verdict.repeat + 1,
        "judge": label(verdict.judge or ""),
        "part": None if verdict.segment is None else verdict.segment + 1,
        "scores": [scores[name] for name in DIMENSIONS] if scores else None,
        "reason": verdict.reason,
        "detail": encodable(verdict.detail or ""),
        "raw": encodable(verdict.raw),
        "model": encodable(verdict.model or ""),
        "asks": verdict.asks,
        "tokens": [verdict.prompt_tokens, verdict.completion_tokens],
        "escaped": verdict.escaped,
    }
