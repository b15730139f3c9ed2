"""How sure a mean is: bootstrap intervals over prompts, and the paper's table made of them."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.stats

from longwriter_core.text.diagnostics import FAULTS
from longwriter_eval.judge.verdict import MIN_COVERAGE
from longwriter_eval.scoring import METRICS, Score, value

CONFIDENCE = 0.95
_RESAMPLES = 2000  # what BCa needs (Efron, 1987); a table has hundreds of intervals
_SEED = 20240813  # any; the same data has the same interval everywhere
# Resampling fewer values than this makes intervals that are too narrow: of scores from 10 to 17
# prompts, those called 95% hold the truth 91% of the time, and Student's t's 95%.
_FEWEST = 20


@dataclass(frozen=True)
class Interval:
    """A mean over `n` values, and the interval around it; what cannot be known is NaN."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """The mean of `values` with its interval, NaN left out; the values are one per prompt.

    Bias-corrected and accelerated bootstrap (scipy); under 20 values, where that is too narrow,
    Student's t, which may reach beyond the scale. Under two there is no interval.
    """
    present = np.array([each for each in values if not math.isnan(each)], dtype=float)
    n = len(present)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(present.mean())
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    if np.ptp(present) == 0:
        return Interval(mean, mean, mean, n)
    if n < _FEWEST:
        low, high = scipy.stats.t.interval(confidence, n - 1, mean, scipy.stats.sem(present))
    else:
        low, high = bootstrap(present, np.mean, confidence)
    return Interval(mean, float(low), float(high), n)


def share(part: int, whole: int) -> Interval:
    """`part` of `whole` as a share, with its exact (Clopper–Pearson) interval."""
    if not whole:
        return Interval(math.nan, math.nan, math.nan, 0)
    low, high = scipy.stats.binomtest(part, whole).proportion_ci(CONFIDENCE, method="exact")
    return Interval(part / whole, float(low), float(high), whole)


def metric_interval(scores: Iterable[Score], metric: str) -> Interval:
    """The mean of a metric over `scores` with its interval, which keeps to the metric's scale.

    That of a fault that is there or not is exact: none in 120 responses may still be 3%.
    """
    values = [each for score in scores if not math.isnan(each := value(score, metric))]
    if metric in FAULTS:
        return share(sum(map(int, values)), len(values))
    found, (least, most) = mean_interval(values), _RANGES.get(metric, (0.0, 1.0))
    # NaN stays what it is: it is the first, and nothing is greater or less
    return replace(found, low=max(found.low, least), high=min(found.high, most))


def bootstrap(
    sample: np.ndarray,
    statistic: Callable[..., Any],
    confidence: float = CONFIDENCE,
    resamples: int = _RESAMPLES,
) -> tuple[float, float]:
    """The bootstrap interval of a statistic of one sample: BCa, or where undefined percentiles."""
    options = {"confidence_level": confidence, "n_resamples": resamples, "batch": 1000}
    low = high = math.nan
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            for kind in (scipy.stats.DegenerateDataWarning, RuntimeWarning):
                warnings.simplefilter("ignore", kind)
            low, high = scipy.stats.bootstrap(
                (sample,), statistic, method=method, rng=np.random.default_rng(_SEED), **options
            ).confidence_interval
        if not math.isnan(low) and not math.isnan(high):
            break
    return float(low), float(high)


@dataclass(frozen=True)
class Row:
    """A line of the table: metric -> interval, over `n` prompts of one benchmark.

    `kind` is "all", "bucket", "language" or "type", and `name` which of them ("all" for all).
    `coverage` is the share (0–1) of the prompts that have a verdict, NaN where no judge was asked.
    """

    benchmark: str
    kind: str
    name: str
    n: int
    coverage: float
    metrics: Mapping[str, Interval]


def table(scores: Sequence[Score]) -> list[Row]:
    """The paper's table, for each benchmark: all prompts, each bucket, language and type.

    A metric that under 95% of a row's prompts have is NaN, as in lm-eval's table.
    """
    rows = []
    for benchmark in sorted({score.benchmark for score in scores}):
        mine = [score for score in scores if score.benchmark == benchmark]
        mine.sort(key=lambda score: score.sample.required)  # buckets in order of length
        for kind, name_of in _GROUPS.items():
            names = dict.fromkeys(map(name_of, mine))
            for name in names if kind == "bucket" else sorted(names):
                rows.append(_row(benchmark, kind, name, [s for s in mine if name_of(s) == name]))
    return rows


_GROUPS: dict[str, Callable[[Score], str]] = {
    "all": lambda _: "all",
    "bucket": lambda score: score.bucket,
    "language": lambda score: score.sample.language,
    "type": lambda score: score.sample.type,
}


# What a metric can be; repetition is a share. Student's t knows no bounds.
_RANGES: dict[str, tuple[float, float]] = {
    **{metric: (0.0, 100.0) for metric in METRICS if "score" in metric or "quality" in metric},
    "output_words": (0.0, math.inf),
}


def _row(benchmark: str, kind: str, name: str, scores: Sequence[Score]) -> Row:
    statuses = [score.status for score in scores]
    asked = set(statuses) != {"unjudged"}
    metrics = {metric: _covered(metric, scores) for metric in METRICS}
    coverage = statuses.count("judged") / len(scores) if asked else math.nan
    return Row(benchmark, kind, name, len(scores), coverage, metrics)


def _covered(metric: str, scores: Sequence[Score]) -> Interval:
    values = [value(score, metric) for score in scores]
    present = sum(not math.isnan(each) for each in values)
    if present < MIN_COVERAGE * len(values):
        return Interval(math.nan, math.nan, math.nan, present)
    return metric_interval(scores, metric)
