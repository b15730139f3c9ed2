"""The paper's table in a few lines, for the end of a run and for `longwriter score`. Pure."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from longwriter_eval.lm_eval_task.aggregation import Mean, Pooled
from longwriter_eval.stats.thresholds import FEW_PROMPTS, unseen_share

# Column's title -> the metric that it shows.
_COLUMNS = {
    "S̄": "overall_score",
    "S_l": "length_score",
    "S_q": "quality_score",
    "judged": "judge_coverage",
    "longest": "max_output_words",
}


def compact_table(results: Mapping[str, Any]) -> list[str]:
    """S̄, S_l, S_q and coverage of each group or ungrouped task, overall and by bucket.

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
    yield f"{name:<{width}}{'n':>6}" + "".join(f"{title:>9}" for title in columns)
    yield _line("all", width, columns, [True] * len(lengths))
    if len(buckets) > 1:
        for bucket in buckets:
            yield _line(bucket, width, columns, [_bucket(value) == bucket for value in lengths])
    fewest = min(
        (sum(_bucket(value) == bucket for value in lengths) for bucket in buckets),
        default=len(lengths),
    )
    if fewest < FEW_PROMPTS:
        yield (
            f"With {fewest} prompts, a failure that strikes up to {unseen_share(fewest):.0%} of a "
            "model's responses may not show at all."
        )


def _line(name: str, width: int, columns: Mapping[str, Pooled], is_in: Sequence[bool]) -> str:
    cells = ""
    for title, pooled in columns.items():
        values = [v for v, chosen in zip(pooled.documents, is_in, strict=True) if chosen]
        score = type(pooled)(values)
        if math.isnan(score):
            cells += f"{'–':>9}"
        elif title == "judged":
            cells += f"{score:>9.0%}"
        else:
            cells += f"{score:>9.{1 if isinstance(pooled, Mean) else 0}f}"
    return f"{name:<{width}}{sum(is_in):>6}{cells}"


def _bucket(value: float) -> str:
    return getattr(value, "bucket", "")


def _first_number(bucket: str) -> float:
    """The sort key of a bucket: 500 for "[500,2k)", 10,000 for "10k"."""
    match = re.search(r"([\d.]+)(k?)", bucket)
    return float(match[1]) * (1000 if match[2] else 1) if match else 0.0
