"""Krippendorff's alpha matches published values and uses verdicts on the same responses only."""

import math
import random
from pathlib import Path

import pytest
from support.logs import Answer, Grades, Log, answers

from longwriter_eval.runs import load_runs
from longwriter_eval.stats.agreement import Agreement, agreement, alpha

# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section D: four observers,
# twelve units; 0 means no grade.
PUBLISHED = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
)


def test_alpha_matches_the_published_example() -> None:
    units = [[grade for grade in unit if grade] for unit in zip(*PUBLISHED, strict=True)]
    assert alpha(units) == pytest.approx(0.815, abs=0.0005)


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        pytest.param([[1, 1], [5, 5], [3, 3]], 1.0, id="full-agreement"),
        # computed by hand: observed disagreement 1, expected 2/3
        pytest.param([[1, 5], [5, 1]], 1 - 1 / (2 / 3), id="full-disagreement"),
        pytest.param([[4, 4], [4, 4]], math.nan, id="all-grades-equal"),
        pytest.param([[1], [5]], math.nan, id="one-grade-per-response"),
        pytest.param([], math.nan, id="no-responses"),
    ],
)
def test_alpha_matches_values_computed_by_hand(units: list[list[int]], expected: float) -> None:
    assert alpha(units) == pytest.approx(expected, nan_ok=True)


def write(folder: Path, judge: str, grades: list[Grades], text: str = "Text {}.") -> None:
    log = Log(answers(len(grades), lambda i: Answer(text.format(i), grades[i])), judge=judge)
    log.write(folder)


def agreements(folder: Path) -> dict[str, Agreement]:
    return {a.raters: a for a in agreement(load_runs(folder))}


def graded(seed: int, number: int = 30) -> list[Grades]:
    rng = random.Random(seed)
    return [(rng.randint(1, 5),) for _ in range(number)]


def test_identical_judges_agree_fully_and_random_judges_at_chance_level(tmp_path: Path) -> None:
    write(tmp_path / "alike", "first", graded(1, 9))
    write(tmp_path / "alike", "second", graded(1, 9))
    write(tmp_path / "chance", "first", graded(1))
    write(tmp_path / "chance", "dice", graded(5))
    (alike,) = agreements(tmp_path / "alike").values()
    assert (alike.raters, alike.responses) == ("second and first", 9)
    assert {alpha.mean for alpha in alike.alphas.values()} == {1.0}
    (chance,) = agreements(tmp_path / "chance").values()
    clarity = chance.alphas["clarity"]
    assert clarity.low < 0 < clarity.high
    assert clarity.low < clarity.mean < clarity.high


def test_repeats_of_one_judge_give_its_self_agreement(tmp_path: Path) -> None:
    write(tmp_path, "judge", [(1, 1), (5, 5), (3, 3), (2,), "refused"])
    (itself,) = agreements(tmp_path).values()
    assert (itself.raters, itself.responses) == ("2 repeats of judge", 3)
    assert itself.alphas["coherence"].mean == 1
    assert math.isnan(itself.alphas["coherence"].low)  # too few for an interval
    assert "coherence            1.00" in "\n".join(itself.lines())


def test_a_rerun_that_filled_in_missing_verdicts_is_not_a_second_judge(tmp_path: Path) -> None:
    write(tmp_path, "judge", [(1,), "refused", (5,)])
    write(tmp_path, "judge", [(1,), (3,), (5,)])
    assert agreements(tmp_path) == {}


def test_verdicts_on_different_responses_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, "first", graded(1, 4))
    write(tmp_path, "second", graded(1, 4), text="Another text {}.")
    assert agreements(tmp_path) == {}


def test_one_judge_with_two_prompts_counts_as_two_judges(tmp_path: Path) -> None:
    write(tmp_path, "judge", graded(1, 4))
    other = answers(4, lambda i: Answer(f"Text {i}.", graded(2, 4)[i]))
    Log(other, judge="judge", judge_prompt="q" * 64).write(tmp_path)
    assert list(agreements(tmp_path)) == ["judge (prompt qqqqqqqq) and judge (prompt pppppppp)"]
