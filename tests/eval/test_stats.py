"""Intervals have their stated coverage, and the score table agrees with lm-eval's."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from support.logs import Answer, Log, answers, words

from longwriter_eval.lm_eval_task.aggregation import Mean, StandardError
from longwriter_eval.scoring import METRICS, score_samples, value
from longwriter_eval.stats.estimates import DocumentValue
from longwriter_eval.stats.inference import bootstrap_interval, mean_interval
from longwriter_eval.stats.score_table import TableRow, metric_interval, score_table

NAN = math.nan
SAMPLE = np.random.default_rng(3).gamma(2, 10, 60)


def test_mean_interval_is_the_bca_bootstrap_interval() -> None:
    interval = mean_interval(SAMPLE)
    expected = scipy.stats.bootstrap(
        (SAMPLE,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    width = expected.high - expected.low
    assert interval.mean == pytest.approx(SAMPLE.mean())
    assert (interval.low, interval.high) == pytest.approx(
        (expected.low, expected.high), abs=0.05 * width
    )


def test_mean_interval_is_deterministic_and_grows_with_confidence() -> None:
    assert mean_interval(SAMPLE) == mean_interval(list(SAMPLE))
    assert mean_interval(SAMPLE, 0.5).high < mean_interval(SAMPLE, 0.99).high


def test_mean_interval_of_few_values_is_students_t() -> None:
    interval = mean_interval([10.0, 20.0, 60.0])
    # 30 ± 4.303 · (√700 / √3), from a t table
    assert (interval.mean, interval.low, interval.high) == pytest.approx((30, -35.7, 95.7), abs=0.1)
    # the smallest bucket of longbench_write_en has 11 prompts; BCa would cover only 91%
    bucket = mean_interval([*range(11)])
    assert (bucket.low, bucket.high) == pytest.approx((5 - 2.228, 5 + 2.228), abs=0.01)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([], (NAN, NAN, NAN, 0), id="none"),
        pytest.param([NAN, NAN], (NAN, NAN, NAN, 0), id="only-nan"),
        pytest.param([7.0], (7, NAN, NAN, 1), id="one"),
        pytest.param([5.0] * 40, (5, 5, 5, 40), id="all-equal"),
        pytest.param([NAN, 4.0, 4.0], (4, 4, 4, 2), id="nan-is-dropped"),
    ],
)
def test_unknown_parts_of_an_interval_are_nan(
    values: list[float], expected: tuple[float, ...]
) -> None:
    interval = mean_interval(values)
    assert (interval.mean, interval.low, interval.high, interval.n) == pytest.approx(
        expected, nan_ok=True
    )


def test_bootstrap_falls_back_to_percentiles_where_bca_is_undefined() -> None:
    # leaving out any one value does not change the median of this sample
    sample = np.array([1.0] * 3 + [2.0] * 20 + [9.0] * 3)
    low, high = bootstrap_interval(sample, np.median, 2000)
    assert low == high == 2


def test_the_interval_of_a_score_is_that_of_the_empirical_likelihood() -> None:
    # by brute force: the extreme means of weights on the values and both ends of the scale
    values, c = np.array([40.0, 90, 95, 70]), scipy.stats.chi2.ppf(0.95, 1) / 2
    support = np.array([*values, 0.0, 100.0])

    def extreme(sign: int) -> float:
        found = scipy.optimize.minimize(
            lambda weights: sign * weights @ support,
            np.full(6, 1 / 6),
            bounds=[(1e-9, 1)] * 4 + [(0, 1)] * 2,
            constraints=[
                {"type": "eq", "fun": lambda weights: weights.sum() - 1},
                {"type": "ineq", "fun": lambda weights: np.log(4 * weights[:4]).sum() + c},
            ],
        )
        return float(found.x @ support)

    interval = mean_interval(values.tolist(), scale=(0, 100))
    assert (interval.low, interval.high) == pytest.approx((extreme(1), extreme(-1)), abs=0.01)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        # exp(-1.9207 / 8) = 0.787: 21% of the responses may fail, although none of the eight does
        pytest.param([92.0] * 8, 92 * 0.7865, 100 - 8 * 0.7865, id="equal"),
        pytest.param([0.0] * 8, 0, 100 * (1 - 0.7865), id="at-the-floor"),
        pytest.param([100.0] * 8, 100 * 0.7865, 100, id="at-the-ceiling"),
        pytest.param([0.0, 100.0], 3.807, 96.193, id="both-ends"),
        pytest.param([1e-300, 100.0], 3.807, 96.193, id="as-good-as-zero"),
    ],
)
def test_the_interval_of_a_score_counts_on_values_that_no_response_has(
    values: list[float], low: float, high: float
) -> None:
    interval = mean_interval(values, scale=(0, 100))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.01)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=40))
def test_the_interval_of_a_score_contains_its_mean_and_stays_on_the_scale(
    values: list[float],
) -> None:
    interval = mean_interval(values, scale=(0, 100))
    assert 0 <= interval.low <= interval.mean + 1e-9
    assert interval.mean - 1e-9 <= interval.high <= 100
    flipped = mean_interval([100 - value for value in values], scale=(0, 100))
    assert (100 - flipped.high, 100 - flipped.low) == pytest.approx(
        (interval.low, interval.high), abs=1e-5
    )


def test_scores_of_version_1_0_keep_the_intervals_of_their_version(tmp_path: Path) -> None:
    log = Log(answers(12, lambda i: Answer(words(90 + i), (1 + i % 5,))))
    scores = score_samples(log.load(tmp_path).samples)
    older = [replace(score, sample=replace(score.sample, version=1.0)) for score in scores]
    quality = [float(score.quality_score or 0) for score in scores]
    expected = scipy.stats.t.interval(0.95, 11, np.mean(quality), scipy.stats.sem(quality))
    found = metric_interval(older, "quality_score")
    assert (found.low, found.high) == pytest.approx(expected)
    assert metric_interval(scores, "quality_score") != found


@pytest.mark.parametrize("n", [5, 30])
def test_95_percent_of_the_intervals_contain_the_true_mean(n: int) -> None:
    # scores like a judge's: multiples of 25, skewed towards the upper end
    rng = np.random.default_rng(n)
    grades, shares = np.array([0.0, 25, 50, 75, 100]), np.array([0.05, 0.1, 0.25, 0.4, 0.2])
    truth, trials = grades @ shares, 300
    intervals = [mean_interval(rng.choice(grades, n, p=shares)) for _ in range(trials)]
    covered = sum(interval.low <= truth <= interval.high for interval in intervals)
    # with 300 trials and a true coverage of 95%, a value outside these has probability 0.001
    assert 0.905 <= covered / trials <= 0.985


@pytest.mark.parametrize("n", [3, 40])
def test_the_interval_of_a_fault_that_never_occurred_is_exact(tmp_path: Path, n: int) -> None:
    log = Log(answers(n, lambda _: Answer(words(90), None)))
    refusal = rows(log, tmp_path)["all", "all"].metrics["refusal"]
    # Clopper-Pearson for 0 of n: 1 - 0.025^(1/n)
    assert (refusal.mean, refusal.low) == (0, 0)
    assert refusal.high == pytest.approx(1 - 0.025 ** (1 / n))


def rows(log: Log, folder: Path) -> dict[tuple[str, str], TableRow]:
    scores = score_samples(log.load(folder).samples)
    return {(row.kind, row.name): row for row in score_table(scores)}


def test_the_score_table_has_a_row_per_bucket_language_and_type(tmp_path: Path) -> None:
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
    table = rows(log, tmp_path)
    buckets = ["[0,500)", "[500,2k)", "[2k,4k)", "[4k,20k]"]
    assert [name for kind, name in table if kind == "bucket"] == buckets
    assert {name: row.n for (_, name), row in table.items()} == {
        "all": 24, **dict.fromkeys(buckets, 6), "en": 16, "zh": 8, "Monograph": 12,
        "News Report": 12,
    }  # fmt: skip
    scores = score_samples(log.load(tmp_path).samples)
    for metric in METRICS:
        values = [value(score, metric) for score in scores]
        assert table["all", "all"].metrics[metric].mean == pytest.approx(Mean(values))


@pytest.mark.parametrize(
    ("missing", "coverage", "is_nan"),
    [pytest.param(2, 0.95, False, id="95%"), pytest.param(3, 0.925, True, id="92.5%")],
)
def test_quality_is_nan_below_95_percent_coverage(
    tmp_path: Path, missing: int, coverage: float, is_nan: bool
) -> None:
    log = Log(answers(40, lambda i: Answer(words(90), "refused" if i < missing else (4,))))
    row = rows(log, tmp_path)["all", "all"]
    assert row.coverage == pytest.approx(coverage)
    assert math.isnan(row.metrics["quality_score"].mean) is is_nan
    assert not math.isnan(row.metrics["length_score"].mean)


def test_coverage_is_nan_without_a_judge(tmp_path: Path) -> None:
    log = Log(answers(3, lambda _: Answer(words(90), None)))
    assert math.isnan(rows(log, tmp_path)["all", "all"].coverage)


def test_intervals_stay_on_the_scale_of_the_metric(tmp_path: Path) -> None:
    log = Log(answers(3, lambda i: Answer(words(1 + 400 * i), (1 + 2 * i,), required=100)))
    metrics = rows(log, tmp_path)["all", "all"].metrics
    assert 0 < metrics["quality_score"].low < metrics["quality_score"].high < 100
    assert (metrics["output_words"].low, metrics["length_score"].low) == (0, 0)
    assert metrics["output_words"].high > 1000


def ruler_log(rng: np.random.Generator) -> Log:
    """Eight instructions at six lengths; an instruction's responses are short or long together."""
    habits = rng.uniform(0.4, 1.3, 8)
    return Log(
        {
            f"longwrite_ruler/{i:03d}": Answer(
                words(round(100 * (i // 8 + 1) * habits[i % 8])), None,
                prompt=f"Write {100 * (i // 8 + 1)} words about {'abcdefgh'[i % 8]}.",
                required=100 * (i // 8 + 1),
            )
            for i in range(48)
        },
        "longwrite_ruler",
    )  # fmt: skip


def test_the_rulers_intervals_count_instructions_not_responses(tmp_path: Path) -> None:
    log = ruler_log(np.random.default_rng(2))
    table = rows(log, tmp_path)
    scores = score_samples(log.load(tmp_path).samples)
    by_instruction = [
        np.mean([s.length_score for s in scores if s.sample.prompt.endswith(f" {letter}.")])
        for letter in "abcdefgh"
    ]
    found = table["all", "all"].metrics["length_score"]
    expected = mean_interval([float(mean) for mean in by_instruction], scale=(0, 100))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.n == 48
    # lm-eval's group standard error counts instructions too
    errors = StandardError([value(score, "length_score") for score in scores])
    assert errors == pytest.approx(scipy.stats.sem(by_instruction))
    # at one length, each instruction occurs once
    assert table["bucket", "0.1k"].metrics["length_score"].n == 8
    # 0 of 48 responses to 8 instructions is no stronger evidence than 0 of 8
    assert table["all", "all"].metrics["empty"].high == pytest.approx(1 - 0.025 ** (1 / 8))


def test_the_overall_score_is_the_mean_of_the_two_scores_shown(tmp_path: Path) -> None:
    # the unjudged responses are the worst in length, so leaving them out would raise the mean
    log = Log(
        answers(
            40,
            lambda i: Answer(words(20 if i < 2 else 95), "refused" if i < 2 else (1 + i % 5,)),
        )
    )
    metrics = rows(log, tmp_path)["all", "all"].metrics
    shown = (metrics["length_score"].mean + metrics["quality_score"].mean) / 2
    assert metrics["overall_score"].mean == pytest.approx(shown)
    scores = score_samples(log.load(tmp_path).samples)
    assert Mean([value(s, "overall_score") for s in scores]) == pytest.approx(shown)
    # the interval includes the variation of S_l over all responses
    assert metrics["overall_score"].low < shown < metrics["overall_score"].high


def test_the_standard_error_of_the_overall_score_is_that_of_its_estimate() -> None:
    rng, estimates, errors = np.random.default_rng(0), [], []
    for _ in range(400):
        length, quality = rng.normal(80, 10, 100), rng.normal(60, 30, 100)
        quality[rng.choice(100, 5, replace=False)] = NAN
        values = [
            DocumentValue((pair[0] + pair[1]) / 2, parts=pair)
            for pair in zip(length.tolist(), quality.tolist(), strict=True)
        ]
        estimates.append(float(Mean(values)))
        errors.append(float(StandardError(values)))
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.1)
