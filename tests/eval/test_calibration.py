"""The bridge between two judges: its link, its interval, and its errors."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from support.commands import run
from support.logs import Answer, Log

from longwriter_core.errors import InputError
from longwriter_eval.calibration import JudgedByBoth, calibrate, fit
from longwriter_eval.stats.thresholds import MAX_BRIDGE_ERROR, MIN_BRIDGE_RESPONSES

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from simulate_calibration import Setting, coverage, draw


def pairs(
    number: int, offset: float = -10, slope: float = 1.2, noise: float = 5
) -> list[JudgedByBoth]:
    return draw(Setting(offset, slope, noise, noise, number), np.random.default_rng(1))


@pytest.mark.parametrize(
    "setting",
    [
        Setting(-10, 1.0, 8, 8, 120),
        Setting(-10, 1.2, 6, 6, 60),
        Setting(20, 0.7, 10, 5, 120, repeats=3),
    ],
    ids=["offset", "slope", "noise that differs, with repeats"],
)
def test_93_to_97_percent_of_the_intervals_contain_the_true_link(setting: Setting) -> None:
    for share in coverage(setting, 600)[:3]:
        assert 0.925 <= share <= 0.975  # the script's 2,000 draws vary by ±1%, these by ±1.8%


def test_noise_in_both_judges_does_not_flatten_the_link() -> None:
    found = fit(pairs(2000, slope=1.2, noise=10))
    a, b = zip(*((pair.a, pair.b) for pair in pairs(2000, slope=1.2, noise=10)), strict=True)
    assert found.slope == pytest.approx(1.2, abs=0.06)
    assert np.polyfit(a, b, 1)[0] < 0.95  # the slope of least squares


def test_a_link_without_noise_is_exact() -> None:
    exact = [JudgedByBoth(f"{i}", float(i), 20 + 0.5 * i) for i in range(100)]
    link = calibrate(exact)
    assert link.offset == pytest.approx(20)
    assert link.slope == pytest.approx(0.5)
    assert link.held_out_error == pytest.approx(0, abs=1e-9)
    assert link.at(50).mean == pytest.approx(45)


def test_responses_to_one_prompt_are_not_independent() -> None:
    once = pairs(80)
    repeated = [JudgedByBoth(pair.prompt, pair.a, pair.b) for pair in once for _ in range(10)]
    narrow, wide = fit(repeated).slope_interval, fit(once).slope_interval
    assert narrow.high - narrow.low == pytest.approx(wide.high - wide.low, rel=0.05)


def test_too_few_responses_are_refused_with_the_number() -> None:
    with pytest.raises(InputError, match=f"{MIN_BRIDGE_RESPONSES - 1} .* needs.*60"):
        calibrate(pairs(MIN_BRIDGE_RESPONSES - 1))
    assert calibrate(pairs(MIN_BRIDGE_RESPONSES)).responses == MIN_BRIDGE_RESPONSES


def test_a_large_error_on_held_out_prompts_is_refused_with_the_number() -> None:
    with pytest.raises(InputError, match=f"held-out prompts.*more than {MAX_BRIDGE_ERROR:g}"):
        calibrate(pairs(120, noise=14))


def test_scores_outside_the_fitted_range_are_refused() -> None:
    link = calibrate(pairs(120))
    for score in (link.low - 0.1, link.high + 0.1):
        with pytest.raises(InputError, match="outside the range"):
            link.at(score)


@pytest.mark.parametrize(
    "bad",
    [
        [JudgedByBoth(f"{i}", 50.0, 50.0) for i in range(100)],
        [JudgedByBoth(f"{i}", float(i), 100.0 - i) for i in range(100)],
        [JudgedByBoth(f"{i}", float(i), 75.0) for i in range(100)],
    ],
    ids=["all alike", "opposite", "one judge says always the same"],
)
def test_judges_without_a_common_order_have_no_link(bad: list[JudgedByBoth]) -> None:
    with pytest.raises(InputError, match="there is no link"):
        calibrate(bad)


# The command


def judged_by_both(folder: Path, number: int = 80) -> Path:
    """A run whose responses were judged by judge-a, and then by judge-b."""
    for judge, shift in (("judge-a", 0), ("judge-b", 1)):
        answers = {
            f"longwrite_demo/{i:03d}": Answer(
                f"Text {i}.", (min(5, 1 + i % 4 + shift),), prompt=f"Write text {i}."
            )
            for i in range(number)
        }
        Log(answers, judge=judge).write(folder)
    return folder


def test_the_command_prints_the_link_and_bridged_scores(tmp_path: Path) -> None:
    folder = judged_by_both(tmp_path / "run")
    link = tmp_path / "link.json"
    ended = run(
        "longwriter", "calibrate", str(folder), "--from", "judge-a", "--to", "judge-b",
        "--output", str(link),
    )  # fmt: skip
    assert ended.code == 0, ended.out
    assert "25.0 + 1.00 x S_q(judge-a)" in ended.out
    assert "S_q 37.5 by judge-a, bridged 62.5 [62.5, 62.5]; 62.5 by judge-b itself" in ended.out
    assert json.loads(link.read_text())["slope"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("judges", "number", "message"),
    [
        (("judge-a", "judge-x"), 80, "no response was judged by judge-x"),
        (("judge-a", "judge-a"), 80, "the same judge"),
        (("judge-a", "judge-b"), 20, "20 responses were judged by both judges"),
    ],
    ids=["an unknown judge", "one judge", "too few responses"],
)
def test_judges_that_cannot_be_linked_are_a_one_line_error(
    tmp_path: Path, judges: tuple[str, str], number: int, message: str
) -> None:
    folder = judged_by_both(tmp_path / "run", number)
    ended = run("longwriter", "calibrate", str(folder), "--from", judges[0], "--to", judges[1])
    assert ended.code == 2
    assert message in ended.out
    assert "Traceback" not in ended.out
