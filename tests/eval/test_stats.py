"""Intervals cover what they say, and the table is lm-eval's with intervals."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from support.scored import Answer, Log, answers, words

from longwriter_eval.lm_eval_task.aggregation import Mean
from longwriter_eval.scoring import METRICS, score_samples, value
from longwriter_eval.stats.intervals import Row, bootstrap, mean_interval, table

NAN = math.nan
SAMPLE = np.random.default_rng(3).gamma(2, 10, 60)


def test_the_interval_is_scipys_bias_corrected_bootstrap() -> None:
    found = mean_interval(SAMPLE)
    expected = scipy.stats.bootstrap(
        (SAMPLE,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    width = expected.high - expected.low
    assert found.mean == pytest.approx(SAMPLE.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.05 * width)


def test_the_same_values_have_the_same_interval() -> None:
    assert mean_interval(SAMPLE) == mean_interval(list(SAMPLE))
    assert mean_interval(SAMPLE, 0.5).high < mean_interval(SAMPLE, 0.99).high


def test_few_values_have_students_interval() -> None:
    found = mean_interval([10.0, 20.0, 60.0])
    # 30 ± 4.303 · (√700 / √3), by the t table
    assert (found.mean, found.low, found.high) == pytest.approx((30, -35.7, 95.7), abs=0.1)
    # the smallest bucket of longbench_write_en, where BCa covers 91%
    bucket = mean_interval([*range(11)])
    assert (bucket.low, bucket.high) == pytest.approx((5 - 2.228, 5 + 2.228), abs=0.01)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], (NAN, NAN, NAN, 0), id="none"),
        pytest.param([NAN, NAN], (NAN, NAN, NAN, 0), id="nothing-known"),
        pytest.param([7.0], (7, NAN, NAN, 1), id="one"),
        pytest.param([5.0] * 40, (5, 5, 5, 40), id="all-alike"),
        pytest.param([NAN, 4.0, 4.0], (4, 4, 4, 2), id="gaps-are-left-out"),
    ],
)
def test_what_cannot_be_known_is_nan(values: list[float], expected: tuple[float, ...]) -> None:
    found = mean_interval(values)
    assert (found.mean, found.low, found.high, found.n) == pytest.approx(expected, nan_ok=True)


def test_where_bca_is_not_defined_percentiles_are_taken() -> None:
    # the median of this sample does not move when one value is left out
    sample = np.array([1.0] * 3 + [2.0] * 20 + [9.0] * 3)
    low, high = bootstrap(sample, np.median)
    assert low == high == 2


@pytest.mark.parametrize("n", [5, 30])
def test_95_percent_of_the_intervals_hold_the_true_mean(n: int) -> None:
    # scores as judges give them: a skewed pile of multiples of 25 below a ceiling
    dice = np.random.default_rng(n)
    grades, shares = np.array([0.0, 25, 50, 75, 100]), np.array([0.05, 0.1, 0.25, 0.4, 0.2])
    truth, trials = grades @ shares, 300
    found = [mean_interval(dice.choice(grades, n, p=shares)) for _ in range(trials)]
    covered = sum(each.low <= truth <= each.high for each in found)
    # 300 draws at 95% fall below 90.5% or above 98.5% once in a thousand times
    assert 0.905 <= covered / trials <= 0.985


@pytest.mark.parametrize("n", [3, 40])
def test_a_fault_that_was_never_seen_may_still_be_there(tmp_path: Path, n: int) -> None:
    log = Log(answers(n, lambda _: Answer(words(90), None)))
    refusal = rows(log, tmp_path)["all", "all"].metrics["refusal"]
    # nobody of n: 1 - 0.025^(1/n)
    assert (refusal.mean, refusal.low) == (0, 0)
    assert refusal.high == pytest.approx(1 - 0.025 ** (1 / n))


def rows(log: Log, folder: Path) -> dict[tuple[str, str], Row]:
    scores = score_samples(log.load(folder).samples)
    return {(row.kind, row.name): row for row in table(scores)}


def test_the_table_has_the_papers_rows(tmp_path: Path) -> None:
    log = Log(
        answers(
            24,
            lambda i: Answer(
                words(90 + i),
                (1 + i % 5,),
                required=(100, 600, 3000, 20000)[i % 4],
                language="en" if i < 16 else "zh",
                type="News Report" if i % 2 else "Monograph",
            ),
        )
    )
    found = rows(log, tmp_path)
    buckets = ["[0,500)", "[500,2k)", "[2k,4k)", "[4k,20k]"]
    assert [name for kind, name in found if kind == "bucket"] == buckets
    assert {name: row.n for (_, name), row in found.items()} == {
        "all": 24, **dict.fromkeys(buckets, 6), "en": 16, "zh": 8, "Monograph": 12,
        "News Report": 12,
    }  # fmt: skip
    scores = score_samples(log.load(tmp_path).samples)
    for metric in METRICS:
        values = [value(score, metric) for score in scores]
        assert found["all", "all"].metrics[metric].mean == pytest.approx(Mean(values))


@pytest.mark.parametrize(
    ("missing", "coverage", "is_nan"),
    [pytest.param(2, 0.95, False, id="95%"), pytest.param(3, 0.925, True, id="less")],
)
def test_too_few_verdicts_make_no_quality(
    tmp_path: Path, missing: int, coverage: float, is_nan: bool
) -> None:
    log = Log(answers(40, lambda i: Answer(words(90), "refused" if i < missing else (4,))))
    row = rows(log, tmp_path)["all", "all"]
    assert row.coverage == pytest.approx(coverage)
    assert math.isnan(row.metrics["quality_score"].mean) is is_nan
    assert not math.isnan(row.metrics["length_score"].mean)


def test_without_a_judge_coverage_is_unknown(tmp_path: Path) -> None:
    log = Log(answers(3, lambda _: Answer(words(90), None)))
    assert math.isnan(rows(log, tmp_path)["all", "all"].coverage)


def test_intervals_stay_on_the_scale(tmp_path: Path) -> None:
    log = Log(answers(3, lambda i: Answer(words(1 + 400 * i), (1 + 2 * i,), required=100)))
    metrics = rows(log, tmp_path)["all", "all"].metrics
    assert (metrics["quality_score"].low, metrics["quality_score"].high) == (0, 100)
    assert (metrics["output_words"].low, metrics["length_score"].low) == (0, 0)
    assert metrics["output_words"].high > 1000
