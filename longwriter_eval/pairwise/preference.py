"""Which of two responses a judge prefers, asked in both orders, and summaries of it. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.stats import binomtest

from longwriter_eval.judge.verdict import last_object
from longwriter_eval.stats.inference import Interval, proportion_interval

Position = Literal["first", "second", "tie"]
Side = Literal["A", "B", "tie"]

_POSITIONS: tuple[Position, ...] = ("first", "second", "tie")
# Position -> run, with A's response shown first, and with B's
_SIDE_AT: tuple[dict[Position, Side], dict[Position, Side]] = (
    {"first": "A", "second": "B", "tie": "tie"},
    {"first": "B", "second": "A", "tie": "tie"},
)


@dataclass(frozen=True)
class PairVerdict:
    """A judge's choice between two responses in one order, or the reason why there is none."""

    better: Position | None = None
    reason: str | None = "not_asked"
    detail: str | None = None
    raw: str = ""
    model: str | None = None
    asks: int = 0
    escaped: bool = False


@dataclass(frozen=True)
class Preference:
    """The verdicts on one prompt: with A's response shown first, then with B's."""

    id: str
    choices: tuple[PairVerdict, PairVerdict]

    @property
    def sides(self) -> list[Side]:
        """The run that each verdict prefers; fewer than two if a verdict is missing."""
        return [
            side_at[verdict.better]
            for side_at, verdict in zip(_SIDE_AT, self.choices, strict=True)
            if verdict.better
        ]

    @property
    def winner(self) -> Side | None:
        """The run that both orders together prefer; None if a verdict is missing.

        One win and one tie is a preference; two wins that contradict each other are a tie.
        """
        if len(self.sides) < 2:
            return None
        lead = self.sides.count("B") - self.sides.count("A")
        return "tie" if lead == 0 else "B" if lead > 0 else "A"

    def as_json(self) -> dict[str, Any]:
        """The preference as `longwriter compare --json` prints it."""
        choices = [asdict(verdict) for verdict in self.choices]
        for choice in choices:
            choice["defused"] = choice.pop("escaped")  # the key that readers of the JSON know
        return {"id": self.id, "choices": choices, "winner": self.winner}


@dataclass(frozen=True)
class PreferenceSummary:
    """Counts and rates over all prompts. Rates are 0-1 with exact binomial intervals.

    `win_rate` is B's share of the prompts that are not ties, and `p` the exact two-sided binomial
    test against one half. The two measures of position bias cover the prompts with verdicts in
    both orders: `order_changes` is the share of prompts where the order changed the outcome, and
    `first_wins` the share of verdicts, ties excluded, that prefer the response shown first.
    """

    a: int
    b: int
    ties: int
    missing: Mapping[str, int]  # reason -> verdicts
    win_rate: Interval
    p: float
    order_changes: Interval
    first_wins: Interval

    @classmethod
    def of(cls, preferences: Iterable[Preference]) -> "PreferenceSummary":
        """Summarize `preferences`. Identical responses count as ties, without asking a judge."""
        preferences = list(preferences)
        winners = Counter(preference.winner for preference in preferences)
        verdicts = [verdict for preference in preferences for verdict in preference.choices]
        # A verdict in one order alone may be due to the responses or to their positions.
        asked = [p for p in preferences if p.winner and p.choices[0].asks]
        positions = Counter(verdict.better for p in asked for verdict in p.choices)
        decided = winners["A"] + winners["B"]
        return cls(
            winners["A"],
            winners["B"],
            winners["tie"],
            dict(Counter(str(verdict.reason) for verdict in verdicts if not verdict.better)),
            proportion_interval(winners["B"], decided),
            float(binomtest(winners["B"], decided).pvalue) if decided else math.nan,
            proportion_interval(sum(p.sides[0] != p.sides[1] for p in asked), len(asked)),
            proportion_interval(positions["first"], positions["first"] + positions["second"]),
        )

    @property
    def favours(self) -> str | None:
        """The position that the judge significantly favours, "first" or "second", or None."""
        if self.first_wins.low > 0.5:
            return "first"
        return "second" if self.first_wins.high < 0.5 else None


def read_choice(reply: str) -> Position | None:
    """The position that a judge's reply prefers, or None if the reply cannot be trusted.

    Parsed like read_verdict: the last JSON object counts, and nothing similar may follow it.
    """
    verdict = last_object(reply)
    better = verdict.get("Better") if verdict else None
    if not isinstance(better, str):
        return None
    return next((p for p in _POSITIONS if p == better.strip().lower()), None)
