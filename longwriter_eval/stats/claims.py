"""The one rule by which `compare` and the leaderboard claim that a run scores higher. Pure.

Each two runs are compared over the same prompts by the paired permutation test. A missing verdict
counts as the worst case: as the lowest score where a run is claimed to be better, as the highest
where it is claimed to be worse. So dropping a verdict never makes a claim possible.

A benchmark's main score is S̄, or S_l where nothing was judged. Of the error rate of 5% for two
runs, half belongs to the main score over all prompts, and a quarter to the main score in each kind
of group (the buckets, the languages, the types), by Holm's procedure (1979) within that kind. No
other metric changes these shares, so a ranking needs only the main score to agree with `compare`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from longwriter_eval.stats.inference import sign_flips

_TOLERANCE = 1e-7  # of a sum of scores (0-100); rounding errors must not separate equal sums
_BATCH = 16  # pairs tested at once; the processor's cache holds them
_MANY = 16  # runs from which all processors are used

Bounds = tuple[np.ndarray, np.ndarray]  # the lowest and the highest possible value


def overall_bounds(length: np.ndarray, quality: np.ndarray) -> Bounds:
    """Bounds of S̄ from S_l and S_q, arrays of one shape; S_q is NaN without a verdict."""
    low, high = score_bounds(quality)
    return (length + low) / 2, (length + high) / 2


def score_bounds(values: np.ndarray) -> Bounds:
    """Bounds of a score (0-100) of the judge; NaN, for no verdict, may be any score."""
    missing = np.isnan(values)
    return np.where(missing, 0.0, values), np.where(missing, 100.0, values)


def units(values: np.ndarray, clusters: Sequence[str]) -> np.ndarray:
    """One row per independent unit from one row per document, as `estimates.contributions`."""
    numbers: dict[str, int] = {}
    index = [
        numbers.setdefault(cluster or f"document {n}", len(numbers))
        for n, cluster in enumerate(clusters)
    ]
    if len(numbers) == len(values):
        return values
    mean = values.mean(axis=0)
    sums = np.zeros((len(numbers), *values.shape[1:]))
    np.add.at(sums, index, values - mean)
    by_unit: np.ndarray = mean + len(numbers) / len(values) * sums
    return by_unit


def pair_p_values(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """p[a, b]: the two-sided p-value of the claim that run a scores higher than run b.

    `low` and `high` have a row per independent unit and a column per run. A flip of signs changes
    a sum of differences into a difference of sums, so all pairs need only the flipped sums of each
    run. 1 where a's worst case is not above b's best case; NaN where nothing differs.
    """
    signs = 2 * sign_flips(len(low)) - 1
    lows = np.ascontiguousarray((signs @ low).T)
    highs = np.ascontiguousarray((signs @ high).T)
    total = low.sum(axis=0)[:, None] - high.sum(axis=0)[None, :]
    p: np.ndarray = np.ones_like(total)

    def test(a: int) -> None:
        above = np.flatnonzero(total[a] > _TOLERANCE)
        for start in range(0, len(above), _BATCH):
            others = above[start : start + _BATCH]
            flipped = lows[a] - highs[others]
            np.abs(flipped, out=flipped)
            reached = flipped >= total[a, others, None] - _TOLERANCE
            p[a, others] = np.count_nonzero(reached, axis=1) / len(signs)
        spread = np.maximum(np.abs(low[:, [a]] - high), np.abs(high[:, [a]] - low)).max(axis=0)
        p[a, spread <= _TOLERANCE] = np.nan

    if len(p) < _MANY:
        for a in range(len(p)):
            test(a)
    else:  # numpy computes without the interpreter's lock
        with ThreadPoolExecutor() as pool:
            list(pool.map(test, range(len(p))))
    return p


def of_pair(p: np.ndarray) -> np.ndarray:
    """The p-value of the claim that two runs differ, from `pair_p_values`; symmetric."""
    symmetric: np.ndarray = np.minimum(p, p.T)
    return symmetric


def corrected(kind: str, p_of_groups: Sequence[np.ndarray]) -> np.ndarray:
    """The main score's p-values, corrected: one array per group of prompts of a kind.

    The kind "all" has one group. NaN takes no share.
    """
    p = np.stack(p_of_groups)
    order = np.argsort(p, axis=0)  # NaN last
    rank = np.arange(len(p)).reshape(-1, *[1] * (p.ndim - 1))
    left = (~np.isnan(p)).sum(axis=0) - rank
    holm = np.maximum.accumulate(np.take_along_axis(p, order, axis=0) * left, axis=0)
    in_place = np.empty_like(p)
    np.put_along_axis(in_place, order, np.minimum(1.0, holm / share(kind)), axis=0)
    return in_place


def share(kind: str) -> float:
    """The main score's share of the error rate, over all prompts or in a kind of group."""
    return 0.5 if kind == "all" else 0.25
