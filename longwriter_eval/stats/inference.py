"""Confidence intervals, the paired permutation test, and corrections. Pure."""

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats

from longwriter_eval.stats import thresholds
from longwriter_eval.stats.estimates import contributions, known
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
        """An interval with a known number of values and nothing else."""
        return cls(math.nan, math.nan, math.nan, n)

    def as_percent(self) -> str:
        """A share (0-1) and its interval in percent, such as "60% [42%, 77%]"."""
        return f"{self.mean:.0%} [{self.low:.0%}, {self.high:.0%}]"


def mean_interval(
    values: Iterable[float],
    confidence: float = CONFIDENCE,
    scale: tuple[float, float] = (-math.inf, math.inf),
    *,
    may_miss: bool = True,
) -> Interval:
    """Mean of `values` (one per prompt; NaN is dropped) with its interval, in their own unit.

    Documents of one cluster count as one observation (stats.estimates). A single value has no
    interval. On a `scale` with two ends, such as a score's (0, 100), the interval is that of the
    empirical likelihood ratio (Owen, 1988) over all distributions on the scale, so `values` may
    miss what the population has: eight scores of 92 say little about a failure that strikes one
    response in ten. Otherwise, or without `may_miss`, it is the bias-corrected and accelerated
    bootstrap (BCa; Efron, 1987), and below MIN_BOOTSTRAP_VALUES Student's t, clipped to the scale.
    """
    values, (lower, upper) = list(values), scale
    units, n = np.array(contributions(values), dtype=float), len(known(values))
    if n == 0:
        return Interval.unknown()
    mean = float(units.mean())
    if len(units) == 1:
        return Interval(mean, math.nan, math.nan, n)
    if may_miss and math.isfinite(lower) and math.isfinite(upper):
        # contributions to a mean with missing verdicts may lie a little outside the scale
        floor, ceiling = min(lower, float(units.min())), max(upper, float(units.max()))
        low = floor + _likelihood_bound(units - floor, confidence)
        high = ceiling - _likelihood_bound(ceiling - units, confidence)
    elif np.ptp(units) == 0:
        low = high = mean
    elif len(units) < MIN_BOOTSTRAP_VALUES:
        low, high = scipy.stats.t.interval(confidence, len(units) - 1, mean, scipy.stats.sem(units))
    else:
        low, high = bootstrap_interval(units, np.mean, thresholds.BOOTSTRAP_RESAMPLES, confidence)
    return Interval(mean, max(float(low), lower), min(float(high), upper), n)


def _likelihood_bound(values: np.ndarray, confidence: float) -> float:
    """The smallest mean of a distribution on [0, ∞) whose likelihood `values` do not reject.

    Minimises the mean of weights w on the values, with the rest of the probability at 0, subject
    to sum(log(n w)) >= -c, where c is half of chi-squared's quantile. The solution has the form
    w = t / (value + v). If some probability is left for 0, v is 0, and the mean is the geometric
    mean of the values times exp(-c / n).
    """
    n, largest = len(values), float(values.max())
    c = float(scipy.stats.chi2.ppf(confidence, 1)) / 2
    if largest <= 0:
        return 0.0
    y = np.where(values > largest * 1e-100, values / largest, 0.0)  # 1 / y must not overflow

    def slack(log_v: float) -> float:
        inverse = 1 / (y + math.exp(log_v))
        return float(np.log(inverse).sum() - n * np.log(inverse.mean())) + c

    if y.min() > 0:
        logs = np.log(y)
        if n * np.log(np.mean(1 / y)) + logs.sum() <= c:
            return largest * math.exp((logs.sum() - c) / n)
    v = math.exp(scipy.optimize.brentq(slack, -600, 20))
    return largest * (1 / float(np.mean(1 / (y + v))) - v)


def proportion_interval(successes: int, trials: int) -> Interval:
    """`successes / trials` (0-1) with the exact binomial interval (Clopper and Pearson, 1934)."""
    if not trials:
        return Interval.unknown()
    return Interval(successes / trials, *_binomial_bounds(successes / trials, trials), trials)


def share_interval(values: Sequence[float]) -> Interval:
    """The share (0-1) of documents whose value is 1 rather than 0; NaN is dropped.

    The exact binomial interval. Where documents form clusters, it is computed for the number of
    independent documents that would give the same standard error (Korn and Graubard, 1998), which
    is the number of clusters where all values are equal.
    """
    present, units = known(values), np.array(contributions(values), dtype=float)
    n, clusters = len(present), len(units)
    if not n or clusters == n:
        return proportion_interval(round(sum(present)), n)
    share, effective = sum(present) / n, float(clusters)
    variance = float(units.var(ddof=1)) / clusters if clusters > 1 else 0.0
    if variance:
        quantile = (1 + CONFIDENCE) / 2
        few = scipy.stats.t.ppf(quantile, n - 1) / scipy.stats.t.ppf(quantile, clusters - 1)
        effective = min(float(n), share * (1 - share) / variance * few**2)
    return Interval(share, *_binomial_bounds(share, effective), n)


def _binomial_bounds(share: float, trials: float) -> tuple[float, float]:
    """Clopper and Pearson's bounds; `trials` need not be whole."""
    hits, tail = share * trials, (1 - CONFIDENCE) / 2
    low = scipy.stats.beta.ppf(tail, hits, trials - hits + 1) if share > 0 else 0.0
    high = scipy.stats.beta.ppf(1 - tail, hits + 1, trials - hits) if share < 1 else 1.0
    return float(low), float(high)


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


def paired_test(
    differences: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, Interval]:
    """Two-sided p-value (0-1) of a mean difference between pairs, and its interval; NaN is dropped.

    Under the null hypothesis the two values of a pair are exchangeable, so each difference is as
    likely to have the opposite sign (Fisher, 1935); a cluster's differences change sign together.
    Exact for up to 13 pairs, otherwise estimated from 9,999 random sign flips. The interval holds
    every difference that the same flips do not reject (Hartigan, 1969), so it excludes 0 exactly
    where p < 1 - confidence. Under 6 pairs it is unbounded: its limits are NaN.
    """
    units, n = np.array(contributions(differences), dtype=float), len(known(differences))
    if not len(units):
        return math.nan, Interval.unknown()
    mean = float(units.mean())
    if not units.any():
        return 1.0, Interval(0.0, 0.0, 0.0, n)
    flips = sign_flips(len(units))
    # A flip does not reject a shift by delta if delta lies between the mean of the units that
    # keep their sign and the mean of the units that change it.
    scale = float(np.abs(units).max())
    kept, sums = flips.sum(axis=1), flips @ (units / scale)
    total = float((units / scale).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = np.stack([sums / kept, (total - sums) / (len(units) - kept)])
    sides = np.round(sides, 12)  # rounding errors must not separate equal means
    whole = np.isnan(sides).any(axis=0)
    low = np.sort(np.where(whole, -math.inf, sides.min(axis=0)))
    high = np.sort(np.where(whole, math.inf, sides.max(axis=0)))[::-1]
    center = round(mean / scale, 12)
    p = float(np.mean(low <= 0 if center >= 0 else high >= 0))
    rank = math.ceil(round((1 - confidence) * len(flips), 6)) - 1
    bounds = [float(side[rank]) * scale for side in (low, high)]
    if not all(map(math.isfinite, bounds)):
        bounds = [math.nan, math.nan]
    return p, Interval(mean, bounds[0], bounds[1], n)


def paired_permutation_test(a: Sequence[float], b: Sequence[float]) -> float:
    """The p-value of `paired_test` for paired values of equal length."""
    if list(a) == list(b) or len(a) < 2:  # a single pair can reject nothing
        return 1.0
    return paired_test([y - x for x, y in zip(a, b, strict=True)])[0]


@functools.lru_cache(maxsize=8)
def sign_flips(n: int) -> np.ndarray:
    """Which of `n` differences keep their sign, a row per flip; the first row keeps all."""
    if 2**n <= PERMUTATIONS + 1:
        codes = np.arange(2**n - 1, -1, -1)
        exact: np.ndarray = (codes[:, None] >> np.arange(n) & 1).astype(float)
        return exact
    flips = np.random.default_rng(SEED).integers(0, 2, (PERMUTATIONS + 1, n))
    flips[0] = 1
    return flips.astype(float)


def gatekeeping(p_values: Sequence[float], families: Sequence[int]) -> list[float]:
    """P-values corrected for multiple comparisons, by families in order of importance (0 first).

    All of alpha begins in the first family, and within a family shares are passed on as in Holm's
    procedure (1979). A significant difference passes half its share to the rest of its family,
    and half to the other families in equal parts (Bretz et al., 2009: a sequentially rejective
    graphical procedure), so minor metrics never weaken the test of the main ones. The probability
    that any reported difference is a false positive stays below alpha. NaN stays NaN and takes no
    share. If the first family has no tests, the next one begins.
    """
    index = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    corrected, largest = [math.nan] * len(p_values), 0.0
    if not index:
        return corrected
    order = sorted({families[i] for i in index})
    members = {f: [k for k, i in enumerate(index) if families[i] == f] for f in order}
    weights, graph = np.zeros(len(index)), np.zeros((len(index), len(index)))
    weights[members[order[0]]] = 1 / len(members[order[0]])
    for family, own in members.items():
        rest = [other for other in order if other != family]
        for k in own:
            inside = [m for m in own if m != k]
            share = 0.5 if inside and rest else 1.0
            graph[k, inside] = share / len(inside) if inside else 0.0
            for other in rest:
                share_out = (0.5 if inside else 1.0) / len(rest)
                graph[k, members[other]] = share_out / len(members[other])
    left = set(range(len(index)))
    while left:
        ratio = {k: p_values[index[k]] / weights[k] if weights[k] > 0 else math.inf for k in left}
        k = min(left, key=lambda each: (ratio[each], each))
        largest = max(largest, min(1.0, ratio[k]))
        corrected[index[k]] = largest
        left.remove(k)
        weights = weights + weights[k] * graph[k]
        through = graph[:, k][:, None] * graph[k][None, :]
        stay = 1 - graph[:, k] * graph[k]
        with np.errstate(divide="ignore", invalid="ignore"):
            graph = np.where(stay[:, None] > 1e-12, (graph + through) / stay[:, None], 0.0)
        graph[k], graph[:, k] = 0.0, 0.0
        np.fill_diagonal(graph, 0.0)
        weights[k] = 0.0
    return corrected
