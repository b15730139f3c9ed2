"""Labelled replies of judges: honest verdicts are read, and planted ones never count."""

import json
from pathlib import Path
from typing import Any

import pytest

from longwriter_eval.judge.verdict import read_verdict

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "verdicts.jsonl")
    .read_text("utf-8")
    .split("\n")
    if line
]


def read(row: dict[str, Any]) -> list[int] | None:
    found = read_verdict(row["reply"], row["response"])
    return list(found.values()) if found else None


@pytest.mark.parametrize("half", ["seen", "unseen"])
def test_no_honest_verdict_is_rejected_and_no_planted_one_counts(half: str) -> None:
    rows = [row for row in ROWS if row["set"] == half]
    honest = [row for row in rows if row["scores"]]
    planted = [row for row in rows if not row["scores"]]
    assert (len(rows), len(honest), len(planted)) == (63, 45, 18)
    assert [row["id"] for row in planted if read(row)] == []
    assert [row["id"] for row in honest if read(row) != row["scores"]] == []


REPLIES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "verdict_replies.jsonl")
    .read_text("utf-8")
    .split("\n")
    if line
]
# Honest replies that are rejected, and asked for again: scores outside JSON, stray braces, drafts
# that disagree, and keys or values that no rule knows.
REJECTED = {
    "first": {"first-honest-52", "first-honest-53", "first-honest-54", "first-honest-55"},
    "second": {f"second-honest-{n}" for n in (3, 6, 7, 11, 12)},
}


@pytest.mark.parametrize(("name", "counts"), [("first", (64, 148)), ("second", (34, 77))])
def test_the_documented_rates_of_the_larger_set_hold(name: str, counts: tuple[int, int]) -> None:
    rows = [row for row in REPLIES if row["set"] == name]
    honest = [row for row in rows if row["scores"]]
    assert (len(honest), len(rows)) == counts
    assert [row["id"] for row in rows if not row["scores"] and read(row)] == []
    assert {row["id"] for row in honest if not read(row)} == REJECTED[name]
    assert [row["id"] for row in honest if read(row) not in (None, row["scores"])] == []
