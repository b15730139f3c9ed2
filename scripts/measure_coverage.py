"""Measure how often the intervals that this package prints contain the true value.

    python scripts/measure_coverage.py            # the table in docs/statistics.md; a few minutes
    python scripts/measure_coverage.py --trials 50

Each row draws many samples from a population with a known mean, computes the interval as the report
and `compare` do, and counts how often it contains the mean. The nominal coverage is 95%.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from longwriter_eval.stats import thresholds
from longwriter_eval.stats.estimates import DocumentValue
from longwriter_eval.stats.inference import (
    Interval,
    mean_interval,
    paired_test,
    share_interval,
)

Values = Sequence[float] | np.ndarray
TRUTH_DRAWS = 480_000  # for populations whose mean has no closed form


@dataclass(frozen=True)
class Case:
    """A population to draw `n` values from, and the kind of interval to compute."""

    interval: str
    population: str
    n: int


def length_scores(rng: np.random.Generator, n: int) -> np.ndarray:
    """S_l of a strong model: near 100, with a long lower tail."""
    return np.clip(100 - rng.gamma(0.8, 12, n), 0, 100)


def rare_failures(rng: np.random.Generator, n: int) -> np.ndarray:
    """S_l if one response in twenty fails completely (a loop, a refusal) and scores 0."""
    return np.where(rng.random(n) < 0.05, 0.0, np.clip(rng.normal(92, 5, n), 0, 100))


def one_in_a_hundred(rng: np.random.Generator, n: int) -> np.ndarray:
    """S_l if one response in a hundred fails completely."""
    return np.where(rng.random(n) < 0.01, 0.0, np.clip(rng.normal(92, 5, n), 0, 100))


def two_habits(rng: np.random.Generator, n: int) -> np.ndarray:
    """S_l of a model that writes a third of the texts far too short."""
    short = rng.random(n) < 0.35
    return np.clip(np.where(short, rng.normal(20, 15, n), rng.normal(90, 6, n)), 0, 100)


def words(rng: np.random.Generator, n: int) -> np.ndarray:
    """Words written, which have no upper end."""
    return rng.lognormal(7, 0.6, n)


def judge_scores(rng: np.random.Generator, n: int) -> np.ndarray:
    """S_q: the mean of six dimensions, each in steps of 25."""
    skill = rng.normal(0, 0.8, (n, 1))
    grades = np.clip(np.round(3.9 + skill + rng.normal(0, 0.5, (n, 6))), 1, 5)
    scores: np.ndarray = (grades.mean(axis=1) - 1) * 25
    return scores


def ruler(rng: np.random.Generator, n: int, *, faults: bool = False) -> list[DocumentValue]:
    """Eight instructions at six lengths, half of the variance between instructions."""
    instructions = n // 6
    if faults:
        chance = np.repeat(rng.beta(0.5, 2, instructions), 6)
        values = (rng.random(n) < chance).astype(float)
    else:
        habit = np.repeat(rng.normal(0, 15, instructions), 6)
        values = 60 + habit + rng.normal(0, 15, n)
    return [DocumentValue(float(v), cluster=str(i // 6)) for i, v in enumerate(values)]


def overall(rng: np.random.Generator, n: int) -> list[DocumentValue]:
    """S̄ if 4% of the responses have no verdict."""
    missing = rng.permutation(n) < int(0.04 * n)
    return [
        DocumentValue((a + b) / 2, parts=(float(a), float("nan") if lost else float(b)))
        for a, b, lost in zip(length_scores(rng, n), judge_scores(rng, n), missing, strict=True)
    ]


def shares(chance: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """A diagnostic that is 1 with this probability."""
    return lambda rng, n: (rng.random(n) < chance).astype(float)


def difference(
    draw: Callable[[np.random.Generator, int], np.ndarray],
) -> Callable[[np.random.Generator, int], np.ndarray]:
    """B - A for two equal models."""
    return lambda rng, n: draw(rng, n) - draw(rng, n)


def ruler_difference(rng: np.random.Generator, n: int) -> list[DocumentValue]:
    """B - A on the ruler for two equal models."""
    pairs = zip(ruler(rng, n), ruler(rng, n), strict=True)
    return [DocumentValue(b - a, cluster=a.cluster) for a, b in pairs]


def score_interval(values: Sequence[float]) -> Interval:
    """The interval of a score."""
    return mean_interval(values, scale=(0, 100))


def words_interval(values: Sequence[float]) -> Interval:
    """The interval of a number of words."""
    return mean_interval(values, scale=(0, math.inf))


def paired_interval(values: Sequence[float]) -> Interval:
    """The interval of `longwriter compare`."""
    return paired_test(values)[1]


# interval -> function that computes it; population -> function that draws it, and the values of n
INTERVALS: dict[str, Callable[[Sequence[float]], Interval]] = {
    "score": score_interval,
    "number": words_interval,
    "share": share_interval,
    "difference": paired_interval,
}
POPULATIONS: dict[tuple[str, str], tuple[Callable[..., Values], tuple[int, ...]]] = {
    ("score", "S_q, a judge's grades"): (judge_scores, (8, 27, 120)),
    ("score", "S_l, skewed"): (length_scores, (8, 27, 120)),
    ("score", "S_l, 5% of the responses fail"): (rare_failures, (8, 27, 120)),
    ("score", "S_l, 1% of the responses fail"): (one_in_a_hundred, (8, 27, 120)),
    ("score", "S_l, a third far too short"): (two_habits, (8, 27, 120)),
    ("score", "S̄, 4% without a verdict"): (overall, (27, 120)),
    ("score", "ruler, 8 instructions × 6 lengths"): (ruler, (48,)),
    ("number", "words written"): (words, (8, 27, 120)),
    ("share", "2% of the responses"): (shares(0.02), (8, 27, 120)),
    ("share", "30% of the responses"): (shares(0.3), (8, 27, 120)),
    ("share", "ruler, 20%, by instruction"): (lambda r, n: ruler(r, n, faults=True), (48,)),
    ("difference", "S_q, equal models"): (difference(judge_scores), (8, 27, 120)),
    ("difference", "S_l, equal models, skewed"): (difference(length_scores), (8, 27, 120)),
    ("difference", "S_l, equal models, 5% fail"): (difference(rare_failures), (8, 27, 120)),
    ("difference", "ruler, equal models"): (ruler_difference, (48,)),
}


def cases() -> Iterator[Case]:
    """Every row of the table."""
    for (interval, population), (_, sizes) in POPULATIONS.items():
        for n in sizes:
            yield Case(interval, population, n)


def coverage(case: Case, trials: int) -> tuple[float, float]:
    """The share (0-1) of `trials` intervals that contain the population's mean, and their width."""
    draw, _ = POPULATIONS[case.interval, case.population]
    truth = 0.0 if case.interval == "difference" else _mean(draw)
    rng = np.random.default_rng([thresholds.SEED, case.n])
    found = [INTERVALS[case.interval](list(draw(rng, case.n))) for _ in range(trials)]
    hits = sum(interval.low <= truth <= interval.high for interval in found)
    return hits / trials, math.fsum(interval.high - interval.low for interval in found) / trials


def _mean(draw: Callable[..., Values]) -> float:
    if draw is overall:
        rng = np.random.default_rng(1)
        parts = (length_scores(rng, TRUTH_DRAWS), judge_scores(rng, TRUTH_DRAWS))
        return float(np.mean([part.mean() for part in parts]))
    if draw is ruler:
        return 60.0
    return float(np.mean(draw(np.random.default_rng(1), TRUTH_DRAWS)))


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000, help="samples per row")
    trials = parser.parse_args().trials
    rows = list(cases())
    with ProcessPoolExecutor(2) as pool:
        shares_covered = pool.map(coverage, rows, [trials] * len(rows))
        print("| interval of a | values | n | contains the truth | mean width |")
        print("|---|---|--:|--:|--:|")
        for case, (share, width) in zip(rows, shares_covered, strict=True):
            shown = f"{width:.0%}" if case.interval == "share" else f"{width:,.1f}"
            print(
                f"| {case.interval} | {case.population} | {case.n} | {share:.1%} | {shown} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
