"""The paper's table in a few lines, for the end of a run and for `longwriter score`. Pure."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from longwriter_eval.lm_eval_task.aggregation import Pooled
from longwriter_eval.stats.estimates import spread
from longwriter_eval.stats.score_table import interval_of
from longwriter_eval.stats.thresholds import unseen_note

# Column's title -> the metric that it shows.
_COLUMNS = {
    "S̄": "overall_score",
    "S_l": "length_score",
    "S_q": "quality_score",
    "drift": "quality_drift",
    "judged": "judge_coverage",
    "longest": "max_output_words",
}
_SCORES = ("S̄", "S_l", "S_q")  # with an interval


def compact_table(results: Mapping[str, Any]) -> list[str]:
    """S̄, S_l and S_q with 95% intervals, and coverage, of each group or ungrouped task, by bucket.

    `results` is the argument of lm-eval's own table function. Returns lines for a terminal, or an
    empty list if none of the tasks belongs to this package.
    """
    grouped = {task for tasks in (results.get("group_subtasks") or {}).values() for task in tasks}
    lines: list[str] = []
    for name, row in results["results"].items():
        if name not in grouped and isinstance(row.get("length_score,none"), Pooled):
            lines += ["", *_of_task(name, row)]
    return lines


def _of_task(name: str, row: Mapping[str, Any]) -> Iterator[str]:
    columns = {
        title: row[f"{metric},none"]
        for title, metric in _COLUMNS.items()
        if isinstance(row.get(f"{metric},none"), Pooled)
    }
    lengths = columns["S_l"].documents
    buckets = sorted({bucket for value in lengths if (bucket := _bucket(value))}, key=_first_number)
    width = max(len(name), 12)
    heads = "".join(f"{title:>{_width(title)}}" for title in columns)
    yield f"{name:<{width}}{'n':>5}{heads}"
    yield _line("all", width, columns, [True] * len(lengths))
    if len(buckets) > 1:
        for bucket in buckets:
            yield _line(bucket, width, columns, [_bucket(value) == bucket for value in lengths])
    deviations = {title: spread(columns[title].documents) for title in columns}
    known = [
        f"{title} {x:.1f}"
        for title, x in deviations.items()
        if title in _SCORES and not math.isnan(x)
    ]
    if known:
        yield (
            "The prompts were answered several times. Mean standard deviation between the "
            f"responses to a prompt: {', '.join(known)}."
        )
    prompts = {getattr(value, "prompt", "") or n: _bucket(value) for n, value in enumerate(lengths)}
    fewest = min(Counter(prompts.values()).values(), default=0)
    if note := unseen_note(fewest):
        yield note


def _line(name: str, width: int, columns: Mapping[str, Pooled], is_in: Sequence[bool]) -> str:
    cells = ""
    for title, pooled in columns.items():
        values = [v for v, chosen in zip(pooled.documents, is_in, strict=True) if chosen]
        cells += f"{_cell(title, type(pooled)(values)):>{_width(title)}}"
    return f"{name:<{width}}{sum(is_in):>5}{cells}"


def _cell(title: str, pooled: Pooled) -> str:
    if math.isnan(pooled):
        return "–"
    if title not in _SCORES:
        return (
            f"{pooled:.0%}" if title == "judged" else f"{pooled:.{1 if title == 'drift' else 0}f}"
        )
    interval = interval_of(pooled.documents, _COLUMNS[title])
    limits = "" if math.isnan(interval.low) else f" [{interval.low:.0f}, {interval.high:.0f}]"
    return f"{pooled:.1f}{limits}"


def _width(title: str) -> int:
    return 17 if title in _SCORES else 9


def _bucket(value: float) -> str:
    return getattr(value, "bucket", "")


def _first_number(bucket: str) -> float:
    """The sort key of a bucket: 500 for "[500,2k)", 10,000 for "10k"."""
    match = re.search(r"([\d.]+)(k?)", bucket)
    return float(match[1]) * (1000 if match[2] else 1) if match else 0.0
