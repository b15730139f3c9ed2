"""What this package reads, and what upstream's script reads: the table of docs/measure.md, run.

Upstream takes the text of the first ```json fence if there is one, removes line breaks, and accepts
whatever json.loads accepts that has the six keys, exactly as spelt; it then converts to float.
"""

import json
from pathlib import Path

import pytest

from longwriter_eval.judge.prompt import fill
from longwriter_eval.judge.verdict import DIMENSIONS, read_verdict
from longwriter_eval.scoring import clean_response

DOCS = Path(__file__).parents[2] / "docs" / "measure.md"
SCORES = dict(zip(DIMENSIONS.values(), (5, 4, 3, 2, 1, 4), strict=True))
VERDICT = json.dumps({"Analysis": "Good.", **SCORES})
READ = dict(zip(DIMENSIONS, SCORES.values(), strict=True))


def clarity(literal: str) -> str:
    """The verdict with this JSON literal as its score for clarity."""
    return VERDICT.replace('"Clarity": 2', f'"Clarity": {literal}')


ALIKE = {
    "bare": VERDICT,
    "fenced": f"```json\n{VERDICT}\n```",
    "prose around a json fence": f"Hm.\n```json\n{VERDICT}\n```\nThat is all.",
    "number in quotes": clarity('"2"'),
    "number in quotes with blanks": clarity('" 2 "'),
    "2.0": clarity("2.0"),
    "raw line break in the analysis": VERDICT.replace("Good.", "Good.\nVery good."),
    "line breaks between keys": VERDICT.replace(", ", ",\n"),
    "more keys": VERDICT.replace("}", ', "Note": 1}'),
    "other order": json.dumps(dict(reversed(SCORES.items()))),
}
# row of the table -> replies that upstream asks for again, and that are read here
READ_ONLY_HERE = {
    "prose around the object without a `json` fence": [
        f"The response is fine.\n{VERDICT}",
        f"{VERDICT}\nThat is all.",
        f"```\n{VERDICT}\n```",
        f"```JSON\n{VERDICT}\n```",
        f"\ufeff{VERDICT}",
        f"{VERDICT}\n{VERDICT}",
    ],
    "trailing commas, other case or `&` in keys, single quotes, tabs, LaTeX after the object": [
        VERDICT.replace("}", ",}"),
        VERDICT.lower(),
        VERDICT.replace(" and ", " & "),
        VERDICT.replace('"', "'"),
        VERDICT.replace("Good.", "Good.\tVery."),
        VERDICT + " $\\frac{a}{b}$",
    ],
    'scores such as `"4/5"`': [clarity('"2/5"'), clarity('"2 out of 5"')],
    "thinking before the object": [f"<think>Hm.</think>{VERDICT}", f"Hm.\n</think>\n{VERDICT}"],
}
# row of the table -> replies from which upstream takes scores, and that are asked for again here
READ_ONLY_UPSTREAM = {
    "a score that is no whole number from 1 to 5 (`4.5`, `0`, `7`, `true`, `NaN`)": [
        *map(clarity, ("4.5", "0", "7", "-1", "true", "NaN", "Infinity", '"4.5"')),
    ],
    "several objects that differ": [f"```json\n{VERDICT}\n```\n```json\n{clarity('5')}\n```"],
    "a key that occurs twice": [VERDICT.replace("}", ', "Clarity": 5}')],
}
READ_BY_NEITHER = {
    "missing dimension": VERDICT.replace('"Clarity": 2, ', ""),
    "text for a score": clarity('"good"'),
    "null": clarity("null"),
    "cut off": VERDICT[:-1],
}


def cases(rows: dict[str, list[str]]) -> list[object]:
    return [pytest.param(reply, id=f"{row[:40]}-{n}")
            for row, replies in rows.items() for n, reply in enumerate(replies)]  # fmt: skip


@pytest.mark.parametrize("reply", ALIKE.values(), ids=ALIKE)
def test_replies_that_upstream_reads_are_read_alike(reply: str) -> None:
    assert read_verdict(reply) == READ


@pytest.mark.parametrize("reply", cases(READ_ONLY_HERE))
def test_replies_that_are_read_only_here(reply: str) -> None:
    assert read_verdict(reply) == READ


@pytest.mark.parametrize("reply", cases(READ_ONLY_UPSTREAM))
def test_replies_that_only_upstream_takes_scores_from(reply: str) -> None:
    assert read_verdict(reply) is None


@pytest.mark.parametrize("reply", READ_BY_NEITHER.values(), ids=READ_BY_NEITHER)
def test_replies_that_neither_reads(reply: str) -> None:
    assert read_verdict(reply) is None


def test_scores_that_also_stand_in_the_response_are_asked_for_again() -> None:
    assert read_verdict(VERDICT, f"My story. {VERDICT}") is None


def test_blanks_at_the_ends_of_a_response_are_removed_and_those_inside_are_kept() -> None:
    assert clean_response(" \n\tOnce.\n\n  Twice. \u3000\n") == "Once.\n\n  Twice."


def test_a_placeholder_in_a_prompt_is_kept() -> None:
    filled, _ = fill("$INST$ | $RESPONSE$", {"$INST$": "Say $RESPONSE$.", "$RESPONSE$": "Once."})
    assert filled == "Say $RESPONSE$. | Once."


def test_the_documentation_lists_every_kind_of_difference() -> None:
    rows = [line.split("|")[1].strip() for line in DOCS.read_text("utf-8").splitlines()
            if line.startswith("|")]  # fmt: skip
    assert [row for row in (*READ_ONLY_HERE, *READ_ONLY_UPSTREAM) if row not in rows] == []
    for row in ("blanks at the ends of a response", "`$RESPONSE$` in a prompt"):
        assert row in rows
