"""The six dimensions, reading a verdict out of a judge's reply, and the quality score S_q. Pure."""

import json
from collections.abc import Mapping
from typing import Any

# metric name -> the judge's name for the dimension, in the paper's order
DIMENSIONS = {
    "relevance": "Relevance",
    "accuracy": "Accuracy",
    "coherence": "Coherence",
    "clarity": "Clarity",
    "breadth_depth": "Breadth and Depth",
    "reading_experience": "Reading Experience",
}

Scores = dict[str, int]  # dimension -> 1..5

# Characters; 1,024 tokens stay far below. Looking through nested braces takes quadratic time.
_LONGEST_REPLY = 50_000


def read_verdict(reply: str) -> Scores | None:
    """The six scores (1..5) that a judge's reply ends on, or None if it cannot be trusted.

    The verdict is the last JSON object of the reply, fenced or not. Judges quote from what they
    judge, so a response may plant a verdict of its own in the reply; therefore the braces around
    the object must be closed and none may follow it (else it is a quotation inside something
    larger), no key may stand twice, and every dimension must be a whole number from 1 to 5.
    """
    found = last_object(reply)
    if found is None:
        return None
    scores: Scores = {}
    for dimension, name in DIMENSIONS.items():
        value = found.get(name)
        # bool is an int to Python; 4.0 and 4 are the same number to JSON
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if value not in (1, 2, 3, 4, 5):
            return None
        scores[dimension] = int(value)
    return scores


def quality_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """Each dimension on 0..100, `(score - 1) * 25`, and their mean S_q under "score".

    Source: arXiv 2408.07055, section 2.
    """
    scaled = {dimension: (scores[dimension] - 1) * 25.0 for dimension in DIMENSIONS}
    return {**scaled, "score": sum(scaled.values()) / len(scaled)}


class _DuplicateKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _DuplicateKeyError
    return dict(pairs)


# strict=False: judges put raw line breaks into their analysis.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_unique)


def last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object of a reply, unless stray braces say that it stands inside another."""
    if len(text) > _LONGEST_REPLY:
        return None
    found: dict[str, Any] | None = None
    end = unclosed = 0  # where the last object ends; braces left open before it
    position = text.find("{")
    while position >= 0:
        unclosed -= text.count("}", end, position)
        if unclosed < 0:  # a brace that closes nothing would make up for one left open
            return None
        try:
            found, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            unclosed += 1
            end = position + 1
        position = text.find("{", end)
    if unclosed or "}" in text[end:]:
        return None
    return found
