"""The paper's table with intervals, and a run in a few numbers."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.pages import label
from longwriter_eval.report.metadata import BENCHMARKS, RULER, ScoredRun
from longwriter_eval.report.prompts import LANGUAGES
from longwriter_eval.stats.inference import Interval
from longwriter_eval.stats.score_table import TableRow

# The table's columns: metric -> its heading, and what that stands for.
COLUMNS = {
    "overall_score": (Markup("S̄"), "overall: the mean of S_l and S_q"),
    "length_score": (Markup("S<sub>l</sub>"), "length score"),
    "quality_score": (
        Markup("S<sub>q</sub>"),
        "quality score: the mean of the six dimensions",
    ),
    **{f"quality_{metric}": (name, name) for metric, name in DIMENSIONS.items()},
    "output_words": ("Words", "produced words"),
}
_GROUPS = {"all": "", "bucket": "Required words", "language": "Language", "type": "Type"}


def benchmarks(scored: Sequence[ScoredRun]) -> list[str]:
    """The benchmarks of the runs, each with the number of its prompts."""
    found = dict.fromkeys(name for each in scored for name in each.benchmarks)
    return [
        f"{label(BENCHMARKS.get(name, name))} "
        f"({max(sum(s.benchmark == name for s in each.scores) for each in scored):,} prompts)"
        for name in found
    ]


def summary(scored: ScoredRun) -> list[tuple[str, str, str]]:
    """The run in a few numbers: title, value, and what qualifies it."""
    rows = {row.benchmark: row for row in scored.table if row.kind == "all"}
    main = next((rows[name] for name in scored.benchmarks if name != RULER), None)
    found = []
    if main:
        for metric in ("overall_score", "length_score", "quality_score"):
            number = main.metrics[metric]
            if not math.isnan(number.mean):
                found.append((COLUMNS[metric][0], f"{number.mean:.1f}", _range(number, 1)))
    elif RULER in rows:
        number = rows[RULER].metrics["length_score"]
        found.append((COLUMNS["length_score"][0], f"{number.mean:.1f}", _range(number, 1)))
    found.append(("Longest output", f"{scored.longest:,}", "words"))
    asked = [score for score in scored.scores if score.judgement]
    if asked:
        judged = sum(score.status == "judged" for score in asked)
        found.append(("Judged", f"{judged / len(asked):.0%}", f"{judged:,} of {len(asked):,}"))
    return found


def tables(scored: Sequence[ScoredRun]) -> list[dict[str, Any]]:
    """Per benchmark: its columns, and groups of rows, each with a line per run."""
    found = []
    for benchmark in dict.fromkeys(name for each in scored for name in each.benchmarks):
        rows = [
            {(r.kind, r.name): r for r in each.table if r.benchmark == benchmark} for each in scored
        ]
        columns = [
            metric
            for metric in COLUMNS
            if any(not math.isnan(r.metrics[metric].mean) for of in rows for r in of.values())
        ]
        is_judged = any(not math.isnan(r.coverage) for of in rows for r in of.values())
        groups: dict[str, list[dict[str, Any]]] = {}
        for kind, name in dict.fromkeys(key for of_run in rows for key in of_run):
            lines = [
                {"run": number, **_line(of_run[kind, name], columns, is_judged=is_judged)}
                for number, of_run in enumerate(rows)
                if (kind, name) in of_run
            ]
            groups.setdefault(kind, []).append({"name": _row_name(kind, name), "lines": lines})
        for kind in ("language", "type"):
            # one of a kind is all of them; the ruler has two instructions of each type
            if len(groups.get(kind, ())) == 1 or (benchmark, kind) == (RULER, "type"):
                del groups[kind]
        found.append(
            {
                "title": label(BENCHMARKS.get(benchmark, benchmark)),
                "columns": [COLUMNS[metric] for metric in columns],
                "is_judged": is_judged,
                "groups": [(_GROUPS[kind], of_kind) for kind, of_kind in groups.items()],
            }
        )
    return found


def _line(row: TableRow, columns: Sequence[str], *, is_judged: bool) -> dict[str, Any]:
    digits = {"output_words": 0}
    cells = []
    for metric in columns:
        number, places = row.metrics[metric], digits.get(metric, 1)
        mean = "–" if math.isnan(number.mean) else f"{number.mean:,.{places}f}"
        cells.append((mean, _range(number, places)))
    coverage = "–" if math.isnan(row.coverage) else f"{row.coverage:.0%}"
    return {"n": f"{row.n:,}", "cells": cells, "coverage": coverage if is_judged else None}


def _row_name(kind: str, name: str) -> str:
    if kind == "all":
        return "All prompts"
    return label(LANGUAGES.get(name, name) if kind == "language" else name)


def _range(number: Interval, digits: int) -> str:
    if math.isnan(number.low):
        return ""
    return f"{number.low:,.{digits}f}–{number.high:,.{digits}f}"
