"""The six dimensions, reading a verdict out of a judge's reply, and the quality score S_q. Pure."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from longwriter_core.files import sha256

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
_MAX_REPLY = 50_000


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
    if len(text) > _MAX_REPLY:
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


@dataclass(frozen=True)
class Verdict:
    """One judge's reading of one response: scores, or the reason why there are none.

    Reasons: parse_error, cut, refused, context_overflow, transport_error, not_asked. `asks` counts
    the calls that this verdict took in all, `retries` the failed tries below the last of them.
    """

    repeat: int
    scores: Scores | None = None
    reason: str | None = "not_asked"
    detail: str | None = None
    raw: str = ""
    model: str | None = None
    asks: int = 0
    retries: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    escaped: bool = False
    call: str | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Verdict":
        """The verdict of a sample log. Raises TypeError if it has unknown names."""
        return cls(**{"escaped" if key == "defused" else key: record[key] for key in record})

    def record(self) -> dict[str, Any]:
        """What a sample log keeps of the verdict."""
        return {"defused" if key == "escaped" else key: value for key, value in vars(self).items()}


@dataclass(frozen=True)
class Judgement:
    """All verdicts on one response. It counts as judged where at least one has scores."""

    verdicts: tuple[Verdict, ...]
    prompt_sha256: str
    response_sha256: str
    quality: dict[str, float] = field(default_factory=dict)
    spread: float | None = None

    @classmethod
    def of(cls, verdicts: Iterable[Verdict], prompt: str, response: str) -> "Judgement":
        """Average the verdicts that have scores; `spread` is the standard deviation of S_q."""
        verdicts = tuple(sorted(verdicts, key=lambda verdict: verdict.repeat))
        scored = [quality_scores(verdict.scores) for verdict in verdicts if verdict.scores]
        return cls(
            verdicts,
            prompt,
            sha256(response),
            {name: statistics.fmean(each[name] for each in scored) for name in scored[0]}
            if scored
            else {},
            statistics.stdev(each["score"] for each in scored) if len(scored) > 1 else None,
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any], response: str) -> "Judgement":
        """The judgement on `response` in a sample log; scores are read again from the raw replies.

        Verdicts on another text than `response` have no scores, and say "response_changed".
        Raises KeyError, TypeError or ValueError for what is no such record.
        """
        is_same = record["response_sha256"] == sha256(response)
        verdicts = [
            _read_again(Verdict.from_record(entry), is_same) for entry in record["verdicts"]
        ]
        if not verdicts:
            raise ValueError("no verdicts")
        return cls.of(verdicts, record["prompt_sha256"], response)

    @property
    def missing(self) -> list[str]:
        """The reasons of the verdicts that have no scores."""
        return [str(verdict.reason) for verdict in self.verdicts if not verdict.scores]

    @property
    def status(self) -> str:
        """ "judged", or the reason of the last verdict."""
        return "judged" if self.quality else str(self.verdicts[-1].reason)

    def record(self) -> dict[str, Any]:
        """What a sample log keeps: enough to recompute every score from it."""
        return {
            "status": self.status,
            "prompt_sha256": self.prompt_sha256,
            "response_sha256": self.response_sha256,
            "spread": self.spread,
            "verdicts": [verdict.record() for verdict in self.verdicts],
        }


def _read_again(verdict: Verdict, is_same: bool) -> Verdict:
    if verdict.scores and not is_same:
        return replace(verdict, scores=None, reason="response_changed")
    # a reply that was cut off may look like a verdict, but had no scores
    scores = read_verdict(verdict.raw) if verdict.scores else None
    return replace(
        verdict, scores=scores, reason=None if scores else verdict.reason or "parse_error"
    )
