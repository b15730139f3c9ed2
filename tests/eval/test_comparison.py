"""Comparing two runs: real differences are reported, and no others."""

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from support.logs import Answer, Log, answers, words

from longwriter_core.errors import InputError
from longwriter_core.text.diagnostics import diagnose
from longwriter_eval import scoring
from longwriter_eval.cli.main import main
from longwriter_eval.pairwise.comparison import Comparison, compare, in_words
from longwriter_eval.pairwise.differences import MetricDifference, corrected, metric_differences
from longwriter_eval.runs import Sample
from longwriter_eval.scoring import Score, score_response
from longwriter_eval.stats.estimates import DocumentValue
from longwriter_eval.stats.inference import gatekeeping, paired_permutation_test, paired_test

N = 40
NO_FAULT = diagnose("Write.", "One plain sentence.", reached_limit=False)


def log(
    number: int = N,
    *,
    seed: int = 0,
    longer: float = 1.0,
    better: int = 0,
    missing: Sequence[int] = (),
) -> Log:
    """Answers of 40 to 130 words to prompts that ask for 100; grades from 2 to 4."""
    rng = random.Random(seed)

    def answer(i: int) -> Answer:
        length, grade = rng.randint(40, 130), rng.randint(2, 4)
        grades = "refused" if i in missing else (grade + better,)
        return Answer(words(round(length * longer)), grades, required=100)

    return Log(answers(number, answer))


def compared(a: Log, b: Log, folder: Path, *, anyway: bool = False) -> Comparison:
    return compare(a.load(folder / "a"), b.load(folder / "b"), anyway=anyway)


def overall(comparison: Comparison, metric: str) -> MetricDifference:
    (result,) = [
        difference
        for difference in comparison.differences
        if (difference.bucket, difference.metric) == ("all", metric)
    ]
    return result


# Statistics


def test_identical_runs_have_no_difference(tmp_path: Path) -> None:
    result = compared(log(), log(), tmp_path)
    assert not [difference for difference in result.differences if difference.winner]
    assert {difference.p for difference in result.differences} == {1.0}
    assert in_words(result) == ["longwrite_demo: no difference in any metric"]


def test_a_longer_run_is_reported_as_longer(tmp_path: Path) -> None:
    result = compared(log(), log(longer=1.15), tmp_path)
    longer = overall(result, "output_words")
    assert longer.winner == "B"
    assert 0 < longer.difference.low < longer.difference.mean < longer.difference.high
    assert longer.difference.mean == pytest.approx(longer.b - longer.a)
    (summary, *_) = in_words(result)
    assert summary.endswith("; B writes longer; no significant difference in quality")


def test_swapping_the_runs_swaps_the_winner_and_nothing_else(tmp_path: Path) -> None:
    one, other = log(12), log(12, seed=1, longer=2, better=1)
    there, back = compared(one, other, tmp_path / "1"), compared(other, one, tmp_path / "2")
    for with_b, with_a in zip(there.differences, back.differences, strict=True):
        assert with_b.difference.mean == pytest.approx(-with_a.difference.mean)
        assert with_b.p == with_a.p
    assert overall(there, "output_words").winner == "B"
    assert overall(back, "output_words").winner == "A"


def test_the_paired_test_has_a_false_positive_rate_of_5_percent() -> None:
    rng = np.random.default_rng(0)
    trials = 400
    wrong = sum(
        paired_permutation_test(list(rng.gamma(1, 1, 9)), list(rng.gamma(1, 1, 9))) < 0.05
        for _ in range(trials)
    )
    assert 0.02 <= wrong / trials <= 0.085  # values outside these have probability 0.001


def test_holm_keeps_the_family_wise_error_rate_at_5_percent() -> None:
    rng = np.random.default_rng(0)
    families = rng.uniform(size=(2000, 32))
    result = [min(gatekeeping(list(family), [0] * 32)) < 0.05 for family in families]
    assert 0.03 <= np.mean(result) <= 0.065


@pytest.mark.parametrize("n", [8, 60], ids=["exact", "sampled"])
def test_the_paired_test_agrees_with_a_sign_flip_test(n: int) -> None:
    rng = np.random.default_rng(n)
    a = rng.normal(0, 1, n)
    b = a + rng.normal(0.3, 1, n)
    flips = scipy.stats.permutation_test(
        (b - a,), np.mean, permutation_type="samples", n_resamples=20000, rng=rng
    )
    assert paired_permutation_test(list(a), list(b)) == pytest.approx(flips.pvalue, abs=0.01)
    if n == 8:  # by hand: the share of all 256 sign flips with a mean as far from 0
        signs = np.array(np.meshgrid(*[[-1, 1]] * n)).reshape(n, -1)
        means = np.abs((b - a) @ signs) / n
        share = np.mean(means >= abs(np.mean(b - a)) - 1e-12)
        assert paired_permutation_test(list(a), list(b)) == pytest.approx(share)


def test_the_test_is_paired() -> None:
    # each response is one word longer, while lengths vary widely
    rng = random.Random(0)
    a = [float(rng.randint(10, 10_000)) for _ in range(30)]
    b = [words + 1 for words in a]
    assert paired_permutation_test(a, b) < 0.001
    assert scipy.stats.ttest_ind(a, b).pvalue > 0.9


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02], id="by-hand"),
        pytest.param([0.02, math.nan, 0.04], [0.04, math.nan, 0.04], id="nan-does-not-count"),
        pytest.param([0.6, 0.7], [1.0, 1.0], id="capped-at-1"),
        pytest.param([], [], id="none"),
    ],
)
def test_holm_matches_values_computed_by_hand(given: list[float], expected: list[float]) -> None:
    assert gatekeeping(given, [0] * len(given)) == pytest.approx(expected, nan_ok=True)


def test_the_main_scores_are_tested_as_if_there_were_no_other_metrics() -> None:
    minor = [0.6] * 60
    found = gatekeeping([0.02, 0.01, 0.9, *minor], [0, 0, 0, *[2] * 60])
    # Holm over three; Holm over all 63 would give 0.63. 0.02 is tested at half of what 0.01 leaves
    assert found[1] == pytest.approx(0.03)
    assert found[0] < 0.05
    assert min(found[3:]) > 0.5


def test_a_minor_metric_is_significant_only_after_a_main_score() -> None:
    families = [0, 0, 0, 1, 2]
    assert min(gatekeeping([0.4, 0.5, 0.6, 1e-5, 1e-5], families)) > 0.05
    after = gatekeeping([1e-4, 0.5, 0.6, 1e-5, 1e-5], families)
    assert max(after[0], after[3], after[4]) < 0.05


@pytest.mark.parametrize("true", [0, 1], ids=["all-equal", "one-main-score-differs"])
def test_families_keep_the_error_rate_at_5_percent(true: int) -> None:
    rng = np.random.default_rng(true)
    families, trials = [0] * 3 + [1] * 12 + [2] * 20, 800
    wrong = 0
    for p in rng.uniform(size=(trials, 35)):
        p[:true] = 1e-6
        wrong += min(gatekeeping(list(p), families)[true:]) < 0.05
    assert wrong / trials <= 0.075  # probability 0.001 above it, if the rate is 5%


@pytest.mark.parametrize("n", [6, 9, 13, 14, 40, 120])
def test_an_interval_excludes_zero_exactly_where_its_p_value_is_below_5_percent(n: int) -> None:
    rng, both = np.random.default_rng(n), set()
    for trial in range(60):
        steps = rng.integers(-3, 4, n) * 25.0 if trial % 2 else rng.gamma(1, 10, n) - 9
        p, interval = paired_test(list(steps + rng.uniform(-2, 2) * steps.std() / n**0.5))
        assert (p < 0.05) == (not interval.low <= 0 <= interval.high), (p, interval)
        assert interval.low <= interval.mean <= interval.high
        both.add(p < 0.05)
    assert both == {False, True}


VALUES = st.one_of(st.floats(-100, 100), st.sampled_from([0.0, 25.0, -25.0, math.nan, 1e-9]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(VALUES, VALUES, st.integers(0, 8)), min_size=1, max_size=40))
def test_interval_and_p_value_never_contradict_each_other(
    drawn: list[tuple[float, float, int]],
) -> None:
    for clustered in (True, False):
        for of_parts in (True, False):
            differences = [
                DocumentValue(
                    (length + quality) / 2,
                    cluster=f"c{cluster}" if clustered else "",
                    parts=(0.0 if math.isnan(length) else length, quality) if of_parts else None,
                )
                for length, quality, cluster in drawn
            ]
            p, interval = paired_test(differences)
            if math.isnan(p):
                assert interval.n == 0
            elif math.isnan(interval.low):  # too few independent pairs to exclude anything
                assert p >= 0.05
            else:
                assert (p < 0.05) == (not interval.low <= 0 <= interval.high)
                assert interval.low <= interval.mean <= interval.high


def test_under_six_pairs_no_difference_can_be_excluded() -> None:
    p, interval = paired_test([10.0, 11, 12, 13, 14])
    assert p == 2 / 32
    assert math.isnan(interval.low)


def test_a_metric_in_which_nothing_differs_takes_no_share_of_the_correction(
    tmp_path: Path,
) -> None:
    result = compared(log(), log(longer=1.15), tmp_path)  # the same verdicts in both
    quality = overall(result, "quality_score")
    assert (quality.p, quality.p_corrected, quality.winner) == (1, 1, None)
    length, mean = overall(result, "length_score"), overall(result, "overall_score")
    assert max(length.p_corrected, mean.p_corrected) < 2.01 * max(length.p, mean.p)


def test_the_means_and_differences_of_the_overall_score_are_those_of_its_parts(
    tmp_path: Path,
) -> None:
    result = compared(log(missing=[3]), log(seed=1, missing=[4]), tmp_path)
    s, s_l, s_q = (overall(result, f"{name}_score") for name in ("overall", "length", "quality"))
    for side in ("a", "b"):
        expected = (getattr(s_l, side) + getattr(s_q, side)) / 2
        assert getattr(s, side) == pytest.approx(expected)
    assert s.difference.mean == pytest.approx(s.b - s.a)


def equal_models(rng: np.random.Generator, ruler: bool) -> list[tuple[Score, Score]]:
    """Two models of the same skill: per instruction, each has its own length, at all targets."""
    pairs = []
    for i in range(48 if ruler else 40):
        group, required = (i // 6, (1, 2, 5, 10, 20, 30)[i % 6]) if ruler else (i, 100)
        if i % 6 == 0 or not ruler:
            shares = rng.uniform(0.3, 1.3, 2)
        scores = [
            score_response(
                Sample(
                    "t", f"longwrite_ruler/{i:03d}" if ruler else f"longwrite_demo/{i:03d}",
                    f"Write {required} words about {'abcdefgh'[group % 8]}.", "t",
                    required * 100, "en", "", {},
                ),
                "word " * max(1, round(100 * required * share * rng.uniform(0.9, 1.1))),
                reached_limit=False, judgement=None,
            )
            for share in shares
        ]  # fmt: skip
        pairs.append((scores[0], scores[1]))
    return pairs


@pytest.mark.parametrize(
    "ruler",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["ruler", "independent prompts"],
)
def test_two_equal_models_are_rarely_told_apart(
    ruler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        scoring, "diagnose", lambda *_, **__: NO_FAULT
    )  # diagnostics are not tested here
    rng, trials = np.random.default_rng(ruler), 60
    claims = sum(
        any(d.winner for d in corrected(list(metric_differences(equal_models(rng, ruler)))))
        for _ in range(trials)
    )
    assert claims <= 9  # of 60; probability 0.001 above it, if the rate is 5%


# Which prompts are compared


def test_prompts_in_one_run_only_are_excluded_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log(12).write(tmp_path / "a")
    log(10).write(tmp_path / "b")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    assert "Left out: 2 prompts that only A has, 0 that only B has" in printed
    assert "all prompts (10)" in printed


def test_prompts_judged_in_one_run_only_count_for_length_but_not_for_quality(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    log(missing=[3]).write(a)
    log(missing=[4], longer=1.2).write(b)
    assert main(["compare", str(a), str(b)]) == 1
    printed = capsys.readouterr()
    assert "38 pairs" in printed.out
    assert f"1 of 40 prompts have no verdict in {a}; to retry: longwriter score {a}" in (
        printed.err
    )


def test_quality_is_not_compared_with_too_few_verdicts(tmp_path: Path) -> None:
    result = compared(log(missing=range(3)), log(seed=1, better=1), tmp_path)
    quality = overall(result, "quality_score")
    assert (quality.pairs, quality.winner) == (37, None)
    assert math.isnan(quality.p)
    assert "overall score and quality not compared: too few verdicts" in in_words(result)[0]


def test_runs_without_a_judge_are_compared_by_length_only(tmp_path: Path) -> None:
    def alone(words_each: int) -> Log:
        return Log(answers(9, lambda i: Answer(words(words_each + i), None)))

    result = compared(alone(50), alone(70), tmp_path)
    assert overall(result, "output_words").winner == "B"
    assert not [difference for difference in result.differences if "quality" in difference.metric]


# Runs that are not comparable


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"data": "e" * 64}, "data: dddddddddddd vs. eeeeeeeeeeee", id="data"),
        pytest.param({"version": 2.0}, "task version: 1.1 vs. 2.0", id="task-version"),
        pytest.param({"judge": "other"}, "judge: gpt-judge vs. other", id="judge"),
        pytest.param(
            {"answered": "gpt-judge-2"},
            "judge model that answered: gpt-judge vs. gpt-judge-2",
            id="judge-that-answered",
        ),
        pytest.param({"judge_prompt": "q" * 64}, "judge prompt: pppp", id="judge-prompt"),
    ],
)
def test_incomparable_runs_are_refused_unless_anyway_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], says: str
) -> None:
    folders = [
        str(log(6).write(tmp_path / "a")),
        str(log(6).change(**change).write(tmp_path / "b")),
    ]
    assert main(["compare", *folders]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert "--anyway" in line
    assert main(["compare", *folders, "--anyway"]) == 0
    assert f"Compared anyway: longwrite_demo: {says}" in capsys.readouterr().out


def test_different_prompts_with_the_same_id_are_refused_and_never_paired(tmp_path: Path) -> None:
    a, b = log(6), log(6)
    other = {**b.answers, "longwrite_demo/002": Answer("Text.", prompt="Write of coffee.")}
    with pytest.raises(InputError, match="1 prompts have the same id but a different text"):
        compared(a, b.change(answers=other), tmp_path)
    assert len(compared(a, b.change(answers=other), tmp_path, anyway=True).pairs) == 5


def test_runs_with_no_prompt_in_common_are_refused(tmp_path: Path) -> None:
    ruler = Log(answers(3, lambda _: Answer("Text.", None), "longwrite_ruler"))
    with pytest.raises(InputError, match="no prompt in common"):
        compared(log(3), ruler, tmp_path, anyway=True)


def test_different_generation_settings_are_noted(tmp_path: Path) -> None:
    result = compared(log(6), log(6).change(generation={"temperature": 1.0}), tmp_path)
    assert result.notes == [
        "longwrite_demo: generation settings: {'temperature': 0.5} vs. {'temperature': 1.0}"
    ]


def test_a_judge_with_the_same_name_at_another_endpoint_is_noted(tmp_path: Path) -> None:
    result = compared(log(6), log(6).change(judge_url="http://localhost:1/v1"), tmp_path)
    assert result.notes == [
        "longwrite_demo: judge endpoint: OpenAI's default vs. http://localhost:1/v1"
    ]


# Output


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    log(12).write(tmp_path / "a")
    log(12, longer=1.3, better=1).write(tmp_path / "b")

    def call(*options: str) -> str:
        assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), *options]) == 0
        return capsys.readouterr().out

    return call


def test_json_output_matches_the_table(printed: Callable[..., str]) -> None:
    result = json.loads(printed("--json"))
    table = printed()
    (longer,) = [
        difference
        for difference in result["differences"]
        if (difference["metric"], difference["bucket"]) == ("output_words", "all")
    ]
    assert longer["winner"] == "B"
    (line, *_) = [line for line in table.splitlines() if line.startswith("  output_words")]
    assert f"{longer['difference']['mean']:+.0f}" in line
    assert f"{longer['p_corrected']:.4f}  B higher" in line
    assert result["in_words"][0] in table


def test_judge_options_without_judge_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(log(3).write(tmp_path / "a"))
    assert main(["compare", folder, folder, "--judge-extra", "{}"]) == 2
    assert "judge_extra: only with --judge or --judge-model" in capsys.readouterr().err
