"""From values per document to a task's row, and from tasks to a group's row, in lm-eval's hands."""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import lm_eval.api.metrics
import lm_eval.evaluator_utils

from longwriter_eval.stats.thresholds import MIN_COVERAGE


class Pooled(float):
    """A statistic that remembers its documents, so that tasks can be put together exactly."""

    documents: tuple[float, ...]

    @staticmethod
    def statistic(documents: Sequence[float]) -> float:
        """The statistic itself."""
        raise NotImplementedError

    def __new__(cls, documents: Sequence[float]) -> "Pooled":
        """The statistic over one value per document, NaN for those without one."""
        self = super().__new__(cls, cls.statistic(documents))
        self.documents = tuple(documents)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.documents,)


class Mean(Pooled):
    """Mean over the documents that have a value; NaN where under 95% of them have one."""

    @staticmethod
    def statistic(documents: Sequence[float]) -> float:
        """The mean."""
        present = _present(documents)
        enough = present and len(present) >= MIN_COVERAGE * len(documents)
        return statistics.fmean(present) if enough else math.nan


class Max(Pooled):
    """The largest value."""

    @staticmethod
    def statistic(documents: Sequence[float]) -> float:
        """The maximum."""
        return max(documents)


class StandardError(Pooled):
    """Of the Mean, over the documents that have a value; NaN where the mean is."""

    @staticmethod
    def statistic(documents: Sequence[float]) -> float:
        """As lm-eval has it for its own mean: sample standard deviation / sqrt(n)."""
        present = _present(documents)
        if len(present) < 2 or math.isnan(Mean.statistic(documents)):
            return math.nan
        return statistics.stdev(present) / math.sqrt(len(present))


def patch_lm_eval() -> None:
    """Let lm-eval form our statistics for groups, and their standard errors.

    A group's row is its tasks' rows weighted by their sizes, which count unjudged documents too;
    its standard error leaves out how the tasks differ; and a task's standard error is known for
    lm-eval's own `mean` only. lm-eval has no place to say otherwise (0.4.13 ignores a group's own
    `aggregation`), so three of its functions get a case for our types; for everything else they
    stay what they are.
    """
    for module in (lm_eval.api.metrics, lm_eval.evaluator_utils):
        _extend(module, "aggregate_subtask_metrics", _pool)
        _extend(module, "pooled_sample_stderr", _pool)
        _extend(module, "stderr_for_metric", _stderr_for_mean)


def _pool(known: Callable[..., Any], values: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
    kind = type(values[0])
    if not issubclass(kind, Pooled) or any(type(value) is not kind for value in values):
        return known(values, *args, **kwargs)
    return kind([document for value in values for document in value.documents])


def _stderr_for_mean(known: Callable[..., Any], metric: Any, bootstrap_iters: int) -> Any:
    if metric is not Mean:
        return known(metric=metric, bootstrap_iters=bootstrap_iters)
    return StandardError if bootstrap_iters > 0 else None


def _extend(module: Any, name: str, case: Callable[..., Any]) -> None:
    """Put `case` in front of a function of `module`, once."""
    known = getattr(module, name, None)
    if known and getattr(known, "func", None) is not case:
        setattr(module, name, functools.partial(case, known))


def _present(documents: Sequence[float]) -> list[float]:
    return [value for value in documents if not math.isnan(value)]
