"""Rankings: submissions that are comparable, in order. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longwriter_core.files import sha256
from longwriter_eval.leaderboard.ranks import Rank, Scope, main_score, scopes
from longwriter_eval.report.metadata import TYPES
from longwriter_eval.submission import judges

TITLES = {
    "longbench_write": "LongBench-Write",
    "longwrite_demo": "Demo prompts",
    "longwrite_ruler": "LongWrite-Ruler",
}

LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}


@dataclass(frozen=True)
class Ranking:
    """Comparable submissions (same benchmark, task version, judge and judge prompt), by S̄.

    `judge` is its name, or those of a panel's judges, with what was sent unless a profile says so;
    "no judge" on the ruler.
    """

    key: str  # in addresses, whatever other rankings there are
    benchmark: str
    task_version: float
    judge: str
    prompt: str
    prompt_sha256: str
    entries: Sequence[Mapping[str, Any]]
    scopes: Sequence[Scope]

    def ranks(self) -> dict[str, dict[str, Rank | None]]:
        """Scope -> file of an entry -> rank."""
        files = [entry["file"] for entry in self.entries]
        return {scope.name: dict(zip(files, scope.ranks(), strict=True)) for scope in self.scopes}


def rankings(entries: Sequence[Mapping[str, Any]]) -> list[Ranking]:
    """One ranking per benchmark, task version and identity of the judge; the largest first."""
    groups: dict[tuple[str, float, tuple[str, ...]], list[Mapping[str, Any]]] = {}
    for entry in entries:
        key = (entry["benchmark"], entry["task_version"], judges.identity(entry["judge"]))
        groups.setdefault(key, []).append(entry)
    ordered = sorted(groups, key=lambda key: (key[0], -len(groups[key]), key))
    ranked = []
    for key in ordered:
        judge = groups[key][0]["judge"]
        prompt, prompt_sha256 = (judge["prompt"], judge["prompt_sha256"]) if judge else ("", "")
        of_judge = in_order(groups[key], "all")
        names = judges.shown(judge), prompt, prompt_sha256
        address = f"{key[0]}-{sha256(repr(key))[:8]}"
        ranked.append(Ranking(address, *key[:2], *names, of_judge, scopes(of_judge)))
    return ranked


def scope_title(kind: str, name: str) -> str:
    """What the page calls a group of prompts."""
    if kind == "all":
        return "All prompts"
    if kind == "bucket":
        return f"{name} words"
    return LANGUAGE_NAMES.get(name, name) if kind == "language" else TYPES.get(name, name)


def in_order(entries: Sequence[Mapping[str, Any]], scope: str) -> list[Mapping[str, Any]]:
    """`entries` by their main score in a scope, best first; those without it last."""

    def key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        row = entry["scores"].get(scope)
        mean = row["metrics"][main_score(entry["benchmark"])]["mean"] if row else None
        return mean is None, -(mean or 0), entry["file"]

    return sorted(entries, key=key)
