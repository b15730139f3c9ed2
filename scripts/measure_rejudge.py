"""Measure the power of `longwriter verify --rejudge` for the number of responses it recommends.

A simulated judge grades six dimensions from 1 to 5, and a share of its grades moves by one step
when it reads a text again. A submission claims verdicts that are 5 points of S_q too high: a share
of its grades is raised by one step. Prints how often the test rejects such claims, and how often
it rejects honest ones. Needs no network. Run by hand:

    python scripts/measure_rejudge.py --trials 400
"""

import argparse

import numpy as np

from longwriter_eval.stats.inference import paired_test
from longwriter_eval.stats.power import difference_sd, paired_power, pairs_needed
from longwriter_eval.stats.thresholds import REJUDGE_ALPHA, REJUDGE_GAIN, REJUDGE_POWER

STEP = 100 / 4 / 6  # points of S_q for one step of one of six grades


def scores(grades: np.ndarray) -> np.ndarray:
    """S_q of responses with these grades, an array of shape (responses, 6)."""
    return np.asarray((np.clip(grades, 1, 5).mean(axis=1) - 1) * 25)


def read_again(rng: np.random.Generator, grades: np.ndarray, moved: float) -> np.ndarray:
    """The grades of another reading, of which a share `moved` differs by one step."""
    steps = rng.choice([-1, 0, 1], grades.shape, p=[moved / 2, 1 - moved, moved / 2])
    return np.asarray(grades + steps)


def retest_sd(moved: float) -> float:
    """Standard deviation of S_q between readings, without the ends of the scale."""
    return float(STEP * np.sqrt(6 * moved))


def rejected(rng: np.random.Generator, n: int, moved: float, gain: float) -> bool:
    """Whether the test rejects the claims of one simulated submission."""
    grades = rng.choice([2, 3], (n, 6))  # room for a step down and two up
    claimed = read_again(rng, grades, moved)
    claimed = claimed + (rng.random(claimed.shape) < gain / STEP / 6)
    new = read_again(rng, grades, moved)
    return paired_test(list(scores(claimed) - scores(new)))[0] < REJUDGE_ALPHA


def main() -> None:
    """Print one row per amount by which a verdict varies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400, help="simulated submissions per number")
    trials = parser.parse_args().trials
    rng = np.random.default_rng(1)
    print("| retest SD | responses | power, computed | claims too high found | honest refused |")
    print("|--:|--:|--:|--:|--:|")
    for moved in (0.1, 0.2, 0.345, 0.6):
        sd = difference_sd(retest_sd(moved), verdicts=1)
        n = pairs_needed(REJUDGE_GAIN, sd, REJUDGE_ALPHA, REJUDGE_POWER)
        power = paired_power(n, REJUDGE_GAIN, sd, REJUDGE_ALPHA)
        found, honest = (
            np.mean([rejected(rng, n, moved, gain) for _ in range(trials)])
            for gain in (REJUDGE_GAIN, 0)
        )
        print(f"| {retest_sd(moved):.1f} | {n} | {power:.0%} | {found:.0%} | {honest:.1%} |")


if __name__ == "__main__":
    main()
