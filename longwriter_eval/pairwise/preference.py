"""Which of two texts a judge prefers, seen in both orders, and what that says. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from scipy.stats import binomtest

from longwriter_eval.judge.verdict import last_object
from longwriter_eval.stats.intervals import Interval, share

Place = Literal["first", "second", "tie"]
Side = Literal["A", "B", "tie"]

_PLACES: tuple[Place, ...] = ("first", "second", "tie")
_SIDES: tuple[dict[Place, Side], dict[Place, Side]] = (
    {"first": "A", "second": "B", "tie": "tie"},  # A was shown first
    {"first": "B", "second": "A", "tie": "tie"},
)


@dataclass(frozen=True)
class Choice:
    """A judge's choice between two texts in one order, or the reason why there is none."""

    better: Place | None = None
    reason: str | None = "not_asked"
    detail: str | None = None
    raw: str = ""
    model: str | None = None
    asks: int = 0
    defused: bool = False


@dataclass(frozen=True)
class Preference:
    """The choices on one prompt: with A's text shown first, and with B's."""

    id: str
    choices: tuple[Choice, Choice]

    @property
    def sides(self) -> list[Side]:
        """Whom each choice prefers; fewer than two where one is missing."""
        return [
            side[choice.better]
            for side, choice in zip(_SIDES, self.choices, strict=True)
            if choice.better
        ]

    @property
    def winner(self) -> Side | None:
        """Whom the two orders prefer together; None where one is missing.

        A choice and a tie are a preference; two choices that contradict each other are a tie.
        """
        if len(self.sides) < 2:
            return None
        lead = self.sides.count("B") - self.sides.count("A")
        return "tie" if lead == 0 else "B" if lead > 0 else "A"


@dataclass(frozen=True)
class Preferences:
    """What a judge's preferences come to. Shares are 0–1, with exact binomial intervals.

    `win_rate` is B's share of the prompts that are no tie, `p` its exact two-sided test against
    one half. `order_changes` is the share of prompts where the order changed the answer,
    `first_wins` the share of the choices, ties left out, that went to the text shown first; both
    are of the prompts that were answered in both orders.
    """

    a: int
    b: int
    ties: int
    missing: Mapping[str, int]  # reason -> choices
    win_rate: Interval
    p: float
    order_changes: Interval
    first_wins: Interval

    @classmethod
    def of(cls, preferences: Iterable[Preference]) -> "Preferences":
        """Count `preferences`; prompts with identical texts were not asked, and are ties."""
        preferences = list(preferences)
        winners = Counter(each.winner for each in preferences)
        choices = [choice for each in preferences for choice in each.choices]
        asked = [each for each in preferences if each.winner and each.choices[0].asks]
        # only where both orders were answered: one alone tells of the texts, not of their places
        places = Counter(choice.better for each in asked for choice in each.choices)
        decided = winners["A"] + winners["B"]
        return cls(
            winners["A"],
            winners["B"],
            winners["tie"],
            dict(Counter(str(choice.reason) for choice in choices if not choice.better)),
            share(winners["B"], decided),
            float(binomtest(winners["B"], decided).pvalue) if decided else math.nan,
            share(sum(each.sides[0] != each.sides[1] for each in asked), len(asked)),
            share(places["first"], places["first"] + places["second"]),
        )

    @property
    def favours(self) -> str | None:
        """The place that the judge favours whoever stands there, or None."""
        if self.first_wins.low > 0.5:
            return "first"
        return "second" if self.first_wins.high < 0.5 else None


def read_choice(reply: str) -> Place | None:
    """The choice that a judge's reply ends on, or None if it cannot be trusted.

    Read as read_verdict reads scores: the last JSON object, and nothing like one after it.
    """
    found = last_object(reply)
    better = found.get("Better") if found else None
    if not isinstance(better, str):
        return None
    return next((place for place in _PLACES if place == better.strip().lower()), None)
