"""Simulate how often the 95% interval of `longwriter calibrate` contains the true link.

    python scripts/simulate_calibration.py [--draws 2000]

Two judges rate texts of a known quality. Judge A reports the quality with noise; judge B reports
offset + slope x quality with independent noise. Both round to the steps of S_q. Prints a Markdown
table with the coverage for the slope, and for the link at the mean and at the 10th percentile.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from longwriter_eval.calibration import JudgedByBoth, fit

MEAN, SD = 55.0, 15.0  # of the texts' quality, in points of S_q
STEP = 25 / 6


@dataclass(frozen=True)
class Setting:
    """Two judges. With `repeats` above 1 their noise is estimated from repeated verdicts."""

    offset: float
    slope: float
    noise_a: float
    noise_b: float
    responses: int
    repeats: int = 1


SETTINGS = (
    Setting(0, 1.0, 5, 5, 60),
    Setting(0, 1.0, 5, 5, 120),
    Setting(-10, 1.0, 8, 8, 120),
    Setting(20, 0.7, 5, 5, 120),
    Setting(-10, 1.2, 6, 6, 120),
    Setting(-10, 1.2, 6, 6, 480),
    Setting(20, 0.7, 10, 5, 120, repeats=3),
    Setting(-10, 1.2, 4, 8, 120, repeats=3),
)
ASSUMPTION_BROKEN = (Setting(20, 0.7, 10, 5, 120), Setting(-10, 1.2, 4, 8, 120))


def draw(setting: Setting, generator: np.random.Generator) -> list[JudgedByBoth]:
    """The pairs of one simulated calibration."""
    quality = generator.normal(MEAN, SD, setting.responses)
    shape = (setting.responses, setting.repeats)
    a = quality[:, None] + generator.normal(0, setting.noise_a, shape)
    b = (
        setting.offset
        + setting.slope * quality[:, None]
        + generator.normal(0, setting.noise_b, shape)
    )
    a, b = np.round(a / STEP) * STEP, np.round(b / STEP) * STEP

    def noise(scores: np.ndarray) -> list[float | None]:
        if setting.repeats == 1:
            return [None] * len(scores)
        return [float(value) for value in scores.var(axis=1, ddof=1) / setting.repeats]

    rows = zip(a.mean(axis=1), b.mean(axis=1), noise(a), noise(b), strict=True)
    return [JudgedByBoth(f"{i}", float(x), float(y), u, v) for i, (x, y, u, v) in enumerate(rows)]


def coverage(setting: Setting, draws: int) -> tuple[float, float, float, float]:
    """The coverage (slope, at the mean, at the 10th percentile), as shares from 0 to 1.

    The last value is half the mean width of the slope's interval.
    """
    generator = np.random.default_rng(20240813)
    places = (MEAN, MEAN - 1.2816 * SD)
    hits = np.zeros(3)
    width = 0.0
    for _ in range(draws):
        link = fit(draw(setting, generator))
        slope = link.slope_interval
        width += (slope.high - slope.low) / 2
        hits[0] += slope.low <= setting.slope <= slope.high
        for number, place in enumerate(places, 1):
            interval = link.at(place)
            hits[number] += interval.low <= setting.offset + setting.slope * place <= interval.high
    of_slope, at_mean, at_tenth = hits / draws
    return float(of_slope), float(at_mean), float(at_tenth), width / draws


def table(settings: Sequence[Setting], draws: int) -> list[str]:
    """The rows of a Markdown table."""
    lines = [
        "| offset | slope | noise A, B | responses | repeats | slope | at the mean | at the 10th "
        "percentile | half width of the slope |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for setting in settings:
        slope, mean, tenth, width = coverage(setting, draws)
        lines.append(
            f"| {setting.offset:g} | {setting.slope:g} | {setting.noise_a:g}, {setting.noise_b:g} "
            f"| {setting.responses} | {setting.repeats} | {slope:.1%} | {mean:.1%} | {tenth:.1%} "
            f"| {width:.2f} |"
        )
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000, help="simulations per row")
    draws = parser.parse_args().draws
    print(*table(SETTINGS, draws), sep="\n")
    print("\nWithout repeats although the judges' noise differs:\n")
    print(*table(ASSUMPTION_BROKEN, draws), sep="\n")


if __name__ == "__main__":
    main()
