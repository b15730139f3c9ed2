"""From values per document to a task's row, and from tasks to a group's row, in lm-eval's hands."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import lm_eval.evaluator_utils

# Below this share of judged responses a quality score would speak for too few of them.
MIN_COVERAGE = 0.95


class Pooled(float):
    """A statistic over documents that lm-eval can form for a group of tasks, too.

    lm-eval's row for a group is sum(value * size) / sum(size), where a size counts documents that
    no judge could read. Here `*` and `/` leave the documents alone and `+` puts them together, so
    the same expression yields the statistic over all documents of the group, exactly.
    """

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

    def _same(self, size: float) -> "Pooled":  # noqa: ARG002 - the documents are their own weight
        return self

    __mul__ = __rmul__ = __truediv__ = __radd__ = _same

    def __add__(self, other: "Pooled") -> "Pooled":  # type: ignore[override]
        return type(self)(self.documents + other.documents)


def _present(documents: Sequence[float]) -> list[float]:
    return [value for value in documents if not math.isnan(value)]


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


def _stderr(documents: Sequence[float]) -> float:
    """Standard error of the mean over the documents that have a value, as lm-eval's mean has it."""
    present = _present(documents)
    if len(present) < 2:
        return math.nan
    return statistics.stdev(present) / math.sqrt(len(present))


def teach_stderr() -> None:
    """Let lm-eval fill in the standard error of our Mean.

    It knows a formula for its own `mean` only, which cannot leave out unjudged documents.
    """
    known = lm_eval.evaluator_utils.stderr_for_metric
    if getattr(known, "knows_longwriter", False):
        return

    def stderr_for_metric(metric: Any, bootstrap_iters: int) -> Any:
        if metric is Mean:
            return _stderr if bootstrap_iters > 0 else None
        return known(metric=metric, bootstrap_iters=bootstrap_iters)

    stderr_for_metric.knows_longwriter = True  # type: ignore[attr-defined]
    lm_eval.evaluator_utils.stderr_for_metric = stderr_for_metric
