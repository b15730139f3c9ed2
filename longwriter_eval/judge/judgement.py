"""What a judge said of a response: scores, or the reason why there are none. Pure."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from longwriter_core.files import sha256
from longwriter_eval.judge.verdict import Scores, quality_scores, read_verdict


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
    defused: bool = False
    call: str | None = None


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
        """What a sample log's `record` says of `response`, with the scores read out anew.

        Verdicts on another text than `response` have no scores, and say "response_changed".
        Raises KeyError, TypeError or ValueError for what is no such record.
        """
        is_same = record["response_sha256"] == sha256(response)
        verdicts = [_read_again(Verdict(**entry), is_same) for entry in record["verdicts"]]
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
            "verdicts": [vars(verdict) for verdict in self.verdicts],
        }


def _read_again(verdict: Verdict, is_same: bool) -> Verdict:
    if verdict.scores and not is_same:
        return replace(verdict, scores=None, reason="response_changed")
    # a reply that was cut off may look like a verdict, but had no scores
    scores = read_verdict(verdict.raw) if verdict.scores else None
    return replace(
        verdict, scores=scores, reason=None if scores else verdict.reason or "parse_error"
    )
