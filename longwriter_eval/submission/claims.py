"""The scores that a submission claims: made the same way by who submits and by who verifies."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.scoring import Score, value
from longwriter_eval.stats.score_table import TableRow

# Diagnostics are no scores: whoever wants them takes them from the responses.
METRICS = (
    "overall_score",
    "length_score",
    "quality_score",
    *(f"quality_{name}" for name in DIMENSIONS),
    "output_words",
)
KINDS = ("all", "bucket", "language")


def sample_scores(score: Score) -> dict[str, float | None]:
    """Metric -> value of one response, None where it has none."""
    return {metric: _known(value(score, metric)) for metric in METRICS}


def table_claims(rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """The rows of `score_table` as the manifest has them."""
    return [
        {
            "kind": row.kind,
            "name": row.name,
            "n": row.n,
            "coverage": _known(row.coverage),
            "metrics": {
                metric: {
                    "mean": _known(interval.mean),
                    "low": _known(interval.low),
                    "high": _known(interval.high),
                    "n": interval.n,
                }
                for metric, interval in row.metrics.items()
                if metric in METRICS
            },
        }
        for row in rows
        if row.kind in KINDS
    ]


def is_same(claimed: float | None, found: float | None, tolerance: float = 1e-6) -> bool:
    """Whether two values agree, each of them None where there is none."""
    if claimed is None or found is None:
        return claimed is found
    return math.isclose(claimed, found, rel_tol=1e-9, abs_tol=tolerance)


def bounds_tolerance(interval: Mapping[str, Any]) -> float:
    """How far a bound may be off: the draws of a bootstrap differ between scipy's versions."""
    low, high = interval["low"], interval["high"]
    return 1e-6 if low is None or high is None else 1e-6 + 0.05 * (high - low)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else float(number)
