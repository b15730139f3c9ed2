"""The bridge between two judges: converts S_q of one judge to the scale of another. Pure.

Both judges are noisy, so least squares of one on the other would flatten the link. It is fitted by
Deming's regression, which allows for noise on both sides; its interval is the delete-one jackknife
over prompts (Linnet, Clinical Chemistry 39, 1993). `scripts/simulate_calibration.py` measures its
coverage.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from longwriter_core.errors import InputError
from longwriter_eval.stats.inference import Interval
from longwriter_eval.stats.thresholds import (
    BRIDGE_FOLDS,
    CONFIDENCE,
    MAX_BRIDGE_ERROR,
    MIN_BRIDGE_RESPONSES,
)


@dataclass(frozen=True)
class JudgedByBoth:
    """S_q of one response by both judges, and the variance of each if it has repeats."""

    prompt: str
    a: float
    b: float
    noise_a: float | None = None
    noise_b: float | None = None


@dataclass(frozen=True)
class Link:
    """b = offset + slope x a, fitted on scores of A from `low` to `high`."""

    offset: float
    slope: float
    responses: int
    prompts: int
    noise_ratio: float  # variance of B's noise over that of A's
    is_ratio_known: bool  # from repeated verdicts of both judges; else 1 is assumed
    low: float
    high: float
    held_out_error: float  # mean absolute error, in points, on prompts that the fit had not seen
    unlinked_error: float  # the same error if A's scores are used without conversion
    replicates: tuple[
        tuple[float, float], ...
    ]  # offset and slope of the fit without one prompt, per prompt

    @property
    def slope_interval(self) -> Interval:
        """The slope with its interval."""
        return self._interval(self.slope, [slope for _, slope in self.replicates])

    def at(self, score: float) -> Interval:
        """Convert a score of A, or the mean score of a run, to B's scale, with the link's interval.

        Raises InputError outside the range on which the link was fitted.
        """
        if not self.low <= score <= self.high:
            raise InputError(
                f"a score of {score:.1f} is outside the range on which the link was fitted "
                f"({self.low:.1f} to {self.high:.1f}): judge responses of that quality by both "
                "judges and calibrate again"
            )
        without = [offset + slope * score for offset, slope in self.replicates]
        return self._interval(self.offset + self.slope * score, without)

    def _interval(self, estimate: float, without: Sequence[float]) -> Interval:
        number = len(without)
        spread = np.square(np.subtract(without, np.mean(without))).sum()
        error = math.sqrt(spread * (number - 1) / number)
        reach = error * float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, number - 1))
        return Interval(estimate, estimate - reach, estimate + reach, number)


def calibrate(pairs: Iterable[JudgedByBoth]) -> Link:
    """Fit the link, check it on held-out prompts, and refuse it if it is unreliable.

    Raises InputError for fewer than MIN_BRIDGE_RESPONSES responses, for judges whose scores are
    not positively related, and for a held-out error above MAX_BRIDGE_ERROR.
    """
    pairs = list(pairs)
    if len(pairs) < MIN_BRIDGE_RESPONSES:
        raise InputError(
            f"{len(pairs)} responses were judged by both judges, and a link needs "
            f"{MIN_BRIDGE_RESPONSES}: judge more of them with `longwriter score RUN --judge …`"
        )
    link = fit(pairs)
    if link.held_out_error > MAX_BRIDGE_ERROR:
        raise InputError(
            f"on held-out prompts the link is off by {link.held_out_error:.1f} points on average, "
            f"more than {MAX_BRIDGE_ERROR:g}: scores of one judge cannot stand for the other's"
        )
    return link


def fit(pairs: Sequence[JudgedByBoth]) -> Link:
    """The link of `pairs`, without a check of its quality. Raises InputError if none exists."""
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    if len(prompts) < BRIDGE_FOLDS:
        raise InputError(
            f"a link needs responses to at least {BRIDGE_FOLDS} prompts, not {len(prompts)}"
        )
    ratio = _noise_ratio(pairs)
    place = {prompt: number for number, prompt in enumerate(prompts)}
    cluster = np.array([place[pair.prompt] for pair in pairs])
    a, b = (np.array(values) for values in zip(*((pair.a, pair.b) for pair in pairs), strict=True))
    sums = np.zeros((len(prompts), 6))  # per prompt: n, a, b, aa, ab, bb
    np.add.at(sums, cluster, np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], axis=1))
    total = sums.sum(axis=0)
    offset, slope = (float(value) for value in _deming(total, ratio or 1.0))
    offsets, slopes = _deming(total - sums, ratio or 1.0)
    if not slope > 0 or not np.all(np.isfinite(slopes)):
        raise InputError(
            "there is no link: responses that one judge prefers are not those that the other "
            "prefers, or a judge gives all of them one score"
        )
    errors = np.empty_like(a)
    folds = np.random.default_rng(0).permutation(len(prompts)) % BRIDGE_FOLDS
    for fold in range(BRIDGE_FOLDS):
        held_out = folds[cluster] == fold
        o, s = _deming(sums[folds != fold].sum(axis=0), ratio or 1.0)
        errors[held_out] = np.abs(b[held_out] - (o + s * a[held_out]))
    return Link(
        offset=offset,
        slope=slope,
        responses=len(pairs),
        prompts=len(prompts),
        noise_ratio=ratio or 1.0,
        is_ratio_known=ratio is not None,
        low=float(a.min()),
        high=float(a.max()),
        held_out_error=float(np.nan_to_num(errors.mean(), nan=math.inf)),
        unlinked_error=float(np.abs(b - a).mean()),
        replicates=tuple(zip(map(float, offsets), map(float, slopes), strict=True)),
    )


def _deming(sums: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Offset and slope from the sums n, a, b, aa, ab, bb, in the last axis."""
    n, a, b, aa, ab, bb = np.moveaxis(sums, -1, 0)
    var_a, var_b, cov = aa - a * a / n, bb - b * b / n, ab - a * b / n
    difference = var_b - ratio * var_a
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (difference + np.sqrt(difference**2 + 4 * ratio * cov**2)) / (2 * cov)
        # Without covariance (beyond rounding errors) there is no link.
        slope = np.where(np.abs(cov) <= 1e-9 * np.maximum(aa, bb), np.nan, slope)
    return b / n - slope * a / n, slope


def _noise_ratio(pairs: Sequence[JudgedByBoth]) -> float | None:
    """The variance of B's noise over that of A's; None if the repeats do not determine it."""
    known = [
        (pair.noise_a, pair.noise_b)
        for pair in pairs
        if pair.noise_a is not None and pair.noise_b is not None
    ]
    noise_a, noise_b = (sum(values) for values in zip(*known, strict=True)) if known else (0, 0)
    return noise_b / noise_a if noise_a > 0 and noise_b > 0 else None
