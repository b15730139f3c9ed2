"""Which submissions compare, and who is ahead of whom. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCOPES = {"all": "All prompts", "en": "English", "zh": "Chinese"}


@dataclass(frozen=True)
class Ranking:
    """Submissions of one benchmark and one judge, in order of S̄; all others do not compare."""

    benchmark: str
    task_version: float
    judge: str  # the model that answered
    prompt: str
    prompt_sha256: str
    entries: Sequence[Mapping[str, Any]]


def rankings(entries: Sequence[Mapping[str, Any]]) -> list[Ranking]:
    """One per benchmark, version of its tasks, judge, and judge's prompt; the largest first."""
    found: dict[tuple[str, float, str, str, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        judge = entry["judge"]
        key = (
            entry["benchmark"],
            entry["task_version"],
            judge["returned"],
            judge["prompt"],
            judge["prompt_sha256"],
        )
        found.setdefault(key, []).append(entry)
    ordered = sorted(found, key=lambda key: (key[0], -len(found[key]), key))
    return [Ranking(*key, in_order(found[key], "all")) for key in ordered]


def in_order(entries: Sequence[Mapping[str, Any]], scope: str) -> list[Mapping[str, Any]]:
    """`entries` by S̄ in a scope, best first, those without one last."""

    def key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        mean = overall(entry, scope)["mean"]
        return mean is None, -(mean or 0), entry["file"]

    return sorted(entries, key=key)


@dataclass(frozen=True)
class Rank:
    """The places that an entry may have: from `best` to `worst`, both counted from 1.

    It is behind those whose whole interval lies above its own, and ahead of those whose whole
    interval lies below. All others are ties: the data cannot tell who is ahead.
    """

    best: int
    worst: int

    @property
    def is_tie(self) -> bool:
        """Whether the interval overlaps another entry's."""
        return self.best < self.worst


def ranks(entries: Sequence[Mapping[str, Any]], scope: str) -> dict[str, Rank | None]:
    """File -> rank; None for an entry without an interval, which no other is compared with."""
    rows = {entry["file"]: overall(entry, scope) for entry in entries}
    known = [row for row in rows.values() if row["low"] is not None]
    found: dict[str, Rank | None] = dict.fromkeys(rows)
    for file, row in rows.items():
        if row["low"] is not None:
            above = sum(other["low"] > row["high"] for other in known)
            below = sum(other["high"] < row["low"] for other in known)
            found[file] = Rank(1 + above, len(known) - below)
    return found


def overall(entry: Mapping[str, Any], scope: str) -> Mapping[str, Any]:
    """S̄ of an entry: mean, low, high and n; all None where the scope has no prompt."""
    row = entry["scores"].get(scope)
    nothing = dict.fromkeys(("mean", "low", "high", "n"))
    return row["metrics"]["overall_score"] if row else nothing
