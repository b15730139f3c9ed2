"""Aggregates values per document into a task's row, and tasks into a group's row. Pure."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from longwriter_eval.stats.estimates import contributions, each_response, is_covered, known

# Metrics that not every run, and not every response of a run, can have.
_OF_SOME_DOCUMENTS = {"quality_drift"}


class Pooled(float):
    """A statistic that remembers its documents, so that a group is computed exactly."""

    documents: tuple[float, ...]

    @staticmethod
    def statistic(documents: Sequence[float]) -> float:
        """Compute the statistic."""
        raise NotImplementedError

    def __new__(cls, documents: Sequence[float]) -> "Pooled":
        """`documents` has one value per document, NaN if it is missing."""
        documents = each_response(documents)
        self = super().__new__(cls, cls.statistic(documents))
        self.documents = tuple(documents)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.documents,)


class Mean(Pooled):
    """Mean over the documents that have a value; NaN if under 95% of them have one.

    S̄ is half the mean S_l of all documents plus half the mean S_q of those with a verdict.
    """

    @staticmethod
    def statistic(documents: Sequence[float]) -> float:
        """The mean."""
        return statistics.fmean(contributions(documents)) if is_covered(documents) else math.nan


class KnownMean(Pooled):
    """Mean over the documents that have a value, however few; NaN if none has one.

    For a metric that only some responses can have: short ones have no parts.
    """

    @staticmethod
    def statistic(documents: Sequence[float]) -> float:
        """The mean."""
        values = [value for value in documents if not math.isnan(value)]
        return statistics.fmean(values) if values else math.nan


class Max(Pooled):
    """The largest value; NaN if under 95% of the documents have one."""

    @staticmethod
    def statistic(documents: Sequence[float]) -> float:
        """The maximum."""
        return max(known(documents)) if is_covered(documents) else math.nan


class StandardError(Pooled):
    """Standard error of the Mean, over the documents that have a value; NaN if the mean is NaN.

    The ruler's documents with the same instruction are one observation, not six.
    """

    @staticmethod
    def statistic(documents: Sequence[float]) -> float:
        """Sample standard deviation / sqrt(n), as lm-eval computes it for its own mean."""
        units = contributions(documents) if is_covered(documents) else []
        return statistics.stdev(units) / math.sqrt(len(units)) if len(units) > 1 else math.nan


def aggregation(metric: str) -> type[Pooled]:
    """The type that aggregates a metric's values."""
    if metric in _OF_SOME_DOCUMENTS:
        return KnownMean
    return Max if metric.startswith("max_") else Mean


def metric_rows(values: Mapping[str, Sequence[float]]) -> dict[str, float | str]:
    """A task's row in lm-eval's results: every metric and its standard error.

    `values` has one value per document for each metric. lm-eval writes "N/A" where a standard error
    is unknown: for a maximum, and for a single document.
    """
    row: dict[str, float | str] = {}
    for metric, documents in values.items():
        kind = aggregation(metric)
        has_error = kind is Mean and len(documents) > 1
        row[f"{metric},none"] = kind(documents)
        row[f"{metric}_stderr,none"] = StandardError(documents) if has_error else "N/A"
    return row


def pool_optional(rows: Sequence[Mapping[str, float | str]]) -> dict[str, float | str]:
    """The pooled metrics that a group's YAML does not list, because not every run has them."""
    return {
        key: value
        for metric in sorted(_OF_SOME_DOCUMENTS)
        if all(f"{metric},none" in row for row in rows)
        for key, value in pool(rows, metric).items()
    }


def pool(rows: Sequence[Mapping[str, float | str]], metric: str) -> dict[str, float | str]:
    """A group's metric and its standard error, over all documents of its tasks."""
    pooled: dict[str, float | str] = {}
    for name in (f"{metric},none", f"{metric}_stderr,none"):
        values = [row[name] for row in rows]
        parts = [value for value in values if isinstance(value, Pooled)]
        pooled[name] = (
            type(parts[0])([x for value in parts for x in value.documents])
            if len(parts) == len(values)
            else "N/A"
        )
    return pooled
