"""The tables of a report: key figures, scores by group, and differences between runs."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.pages import label
from longwriter_eval.report.headline import Versus, signed, unit
from longwriter_eval.report.metadata import BENCHMARKS, LANGUAGES, RULER, TYPES, ScoredRun
from longwriter_eval.stats.inference import Interval
from longwriter_eval.stats.score_table import TableRow
from longwriter_eval.stats.thresholds import unseen_note

# Metric -> heading and explanation of the key figures.
_EXPLAINED = {
    "overall_score": (Markup("Overall S̄"), "the mean of length and quality, 0 to 100"),
    "length_score": (
        Markup("Length S<sub>l</sub>"),
        "100 at the length asked; 0 at a third of it, or at four times it",
    ),
    "quality_score": (
        Markup("Quality S<sub>q</sub>"),
        "the judge's grades in six dimensions, from 0 (all 1) to 100 (all 5)",
    ),
}
# Columns of the score tables: metric -> heading.
_COLUMNS = {
    "overall_score": Markup("S̄"),
    "length_score": Markup("S<sub>l</sub>"),
    "quality_score": Markup("S<sub>q</sub>"),
    **{f"quality_{metric}": name for metric, name in DIMENSIONS.items()},
    "output_words": "Words",
}
_GROUP_TITLES = {"all": "", "bucket": "Required words", "language": "Language", "type": "Type"}

# Metrics that are compared between runs: over all prompts, and in each bucket.
_COMPARED = ("overall_score", "length_score", "quality_score", "output_words")
_COMPARED_IN_BUCKETS = ("length_score", "quality_score")


def summary(run: ScoredRun) -> list[tuple[Markup | str, str, str, str]]:
    """The run's key figures: title, value, interval or unit, and an explanation."""
    rows = {row.benchmark: row for row in run.table if row.kind == "all"}
    main = next((rows[name] for name in run.benchmarks if name != RULER), None)
    metrics = ("overall_score", "length_score", "quality_score") if main else ("length_score",)
    figures: list[tuple[Markup | str, str, str, str]] = []
    for metric in metrics:
        interval = (main or rows[RULER]).metrics[metric]
        if not math.isnan(interval.mean):
            title, explanation = _EXPLAINED[metric]
            figures.append((title, f"{interval.mean:.1f}", _range(interval, 1), explanation))
    longest = "the longest of all responses"
    figures.append(("Longest output", f"{run.max_words:,}", unit(run), longest))
    asked = [score for score in run.scores if score.judgement]
    if asked:
        judged = sum(score.status == "judged" for score in asked)
        of = f"{judged:,} of {len(asked):,}"
        figures.append(("Judged", f"{judged / len(asked):.0%}", of, "responses with a verdict"))
    return figures


def difference_tables(
    scored: Sequence[ScoredRun], versus: Sequence[Versus]
) -> list[dict[str, Any]]:
    """For each benchmark, every run's means side by side, and their differences from the first.

    A row has a mean per run and a difference per further run: (difference, interval, whether it is
    significant). Differences are over the prompts that both runs answered.
    """
    tables = []
    for benchmark in dict.fromkeys(name for run in scored for name in run.benchmarks):
        by_run = [
            {(r.kind, r.name): r for r in run.table if r.benchmark == benchmark} for run in scored
        ]
        groups = dict.fromkeys(
            key for rows in by_run for key in rows if key[0] in ("all", "bucket")
        )
        rows = []
        for kind, name in groups:
            for metric in _COMPARED if kind == "all" else _COMPARED_IN_BUCKETS:
                digits = 0 if metric == "output_words" else 1
                means = [
                    of_run[kind, name].metrics[metric].mean if (kind, name) in of_run else math.nan
                    for of_run in by_run
                ]
                if all(map(math.isnan, means)):
                    continue
                rows.append(
                    {
                        "group": _row_title(kind, name),
                        "metric": _COLUMNS[metric],
                        "means": [_number(mean, digits) for mean in means],
                        "differences": [
                            _difference_cell(pair, (benchmark, name, metric), digits)
                            for pair in versus
                        ],
                    }
                )
        tables.append({"title": label(BENCHMARKS.get(benchmark, benchmark)), "rows": rows})
    return tables


def _difference_cell(pair: Versus, key: tuple[str, str, str], digits: int) -> tuple[str, str, bool]:
    difference = pair.differences.get(key)
    if difference is None or math.isnan(difference.difference.mean):
        return "–", "", False
    interval = difference.difference
    limits = (
        ""
        if math.isnan(interval.low)
        else f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"
    )
    return signed(interval.mean, digits), limits, difference.winner is not None


def _number(mean: float, digits: int) -> str:
    return "–" if math.isnan(mean) else f"{mean:,.{digits}f}"


def score_table_of(benchmark: str, scored: Sequence[ScoredRun]) -> dict[str, Any]:
    """Columns of the table, and groups of rows, with a line per run in each row."""
    by_run = [
        {(r.kind, r.name): r for r in run.table if r.benchmark == benchmark} for run in scored
    ]
    rows = [row for of_run in by_run for row in of_run.values()]
    columns = [
        metric
        for metric in _COLUMNS
        if any(not math.isnan(row.metrics[metric].mean) for row in rows)
    ]
    is_judged = any(not math.isnan(row.coverage) for row in rows)
    groups: dict[str, list[dict[str, Any]]] = {}
    for kind, name in dict.fromkeys((row.kind, row.name) for row in rows):
        lines = [
            {"run": number, **_line(of_run[kind, name], columns, is_judged=is_judged)}
            for number, of_run in enumerate(by_run)
            if (kind, name) in of_run
        ]
        groups.setdefault(kind, []).append({"name": _row_title(kind, name), "lines": lines})
    for kind in ("language", "type"):
        # a single language or type repeats "all prompts"; the ruler has two prompts of each type
        if len(groups.get(kind, ())) == 1 or (benchmark, kind) == (RULER, "type"):
            groups.pop(kind, None)
    return {
        "title": label(BENCHMARKS.get(benchmark, benchmark)),
        "columns": [_COLUMNS[metric] for metric in columns],
        "note": unseen_note(min(row.n for row in rows if row.kind in ("all", "bucket"))),
        "is_judged": is_judged,
        "groups": [(_GROUP_TITLES[kind], rows_of_kind) for kind, rows_of_kind in groups.items()],
    }


def _line(row: TableRow, columns: Iterable[str], *, is_judged: bool) -> dict[str, Any]:
    cells = []
    for metric in columns:
        interval, digits = row.metrics[metric], 0 if metric == "output_words" else 1
        cells.append((_number(interval.mean, digits), _range(interval, digits)))
    coverage = "–" if math.isnan(row.coverage) else f"{row.coverage:.0%}"
    return {"n": f"{row.n:,}", "cells": cells, "coverage": coverage if is_judged else None}


def _row_title(kind: str, name: str) -> str:
    if kind == "all":
        return "All prompts"
    return label({"language": LANGUAGES, "type": TYPES}.get(kind, {}).get(name, name))


def _range(interval: Interval, digits: int) -> str:
    if math.isnan(interval.low):
        return ""
    return f"{interval.low:,.{digits}f}–{interval.high:,.{digits}f}"
