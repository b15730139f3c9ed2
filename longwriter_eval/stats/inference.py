"""Confidence intervals, the paired permutation test, and Holm's correction. Pure."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats

from longwriter_eval.stats import thresholds
from longwriter_eval.stats.thresholds import CONFIDENCE, MIN_BOOTSTRAP_VALUES, PERMUTATIONS, SEED


@dataclass(frozen=True)
class Interval:
    """An estimate (`mean`) from `n` values with its confidence interval; unknown parts are NaN."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def unknown(cls, n: int = 0) -> "Interval":
        """An interval of which only the number of values is known."""
        return cls(math.nan, math.nan, math.nan, n)


def mean_interval(values: Iterable[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean of `values` (one per prompt; NaN is dropped) with its interval, in their own unit.

    Uses the bias-corrected and accelerated bootstrap (BCa; Efron, 1987), and below
    MIN_BOOTSTRAP_VALUES Student's t, which can exceed the scale of a score. A single value has no
    interval.
    """
    present = np.array([value for value in values if not math.isnan(value)], dtype=float)
    n = len(present)
    if n == 0:
        return Interval.unknown()
    mean = float(present.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, n)
    if np.ptp(present) == 0:
        return Interval(mean, mean, mean, n)
    if n < MIN_BOOTSTRAP_VALUES:
        low, high = scipy.stats.t.interval(confidence, n - 1, mean, scipy.stats.sem(present))
    else:
        low, high = bootstrap_interval(present, np.mean, thresholds.BOOTSTRAP_RESAMPLES, confidence)
    return Interval(mean, float(low), float(high), n)


def proportion_interval(successes: int, trials: int) -> Interval:
    """`successes / trials` (0-1) with the exact binomial interval (Clopper and Pearson, 1934)."""
    if not trials:
        return Interval.unknown()
    low, high = scipy.stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return Interval(successes / trials, float(low), float(high), trials)


def bootstrap_interval(
    values: np.ndarray,
    statistic: Callable[..., Any],
    resamples: int,
    confidence: float = CONFIDENCE,
) -> tuple[float, float]:
    """Lower and upper bound for `statistic` of `values`, an array of shape (n,).

    BCa bootstrap; falls back to percentiles where BCa is undefined, as for a median that does not
    change when any single value is left out.
    """
    low = high = math.nan
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            for category in (scipy.stats.DegenerateDataWarning, RuntimeWarning):
                warnings.simplefilter("ignore", category)
            low, high = scipy.stats.bootstrap(
                (values,),
                statistic,
                confidence_level=confidence,
                n_resamples=resamples,
                batch=1000,  # bounds the memory
                method=method,
                rng=np.random.default_rng(SEED),
            ).confidence_interval
        if not math.isnan(low) and not math.isnan(high):
            break
    return float(low), float(high)


def paired_permutation_test(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value (0-1) of the mean difference between paired values of equal length.

    Under the null hypothesis the two values of a pair are exchangeable, so each difference is as
    likely to have the opposite sign. Makes no assumption about the distribution of scores. Exact
    for up to 13 pairs, otherwise estimated from 9,999 random sign flips (Fisher, 1935).
    """
    if list(a) == list(b) or len(a) < 2:  # one pair looks the same from both sides
        return 1.0
    result = scipy.stats.permutation_test(
        (np.asarray(b, float), np.asarray(a, float)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=PERMUTATIONS,
        batch=1000,  # bounds the memory
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for multiple comparisons (Holm, 1979), in the same order.

    Where corrected values below alpha are called differences, the probability that any of them is
    a false positive is below alpha. NaN stays NaN and does not count as a comparison.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        corrected[index] = largest
    return corrected
