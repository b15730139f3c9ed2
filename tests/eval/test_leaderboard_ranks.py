"""Ranks: the leaderboard claims what `longwriter compare` claims, and not more."""

from collections.abc import Sequence

import numpy as np
import pytest
from support.boards import NO_FAULT, run_of

from longwriter_eval.leaderboard.ranks import Rank, Scope, prompt_scores, scopes
from longwriter_eval.pairwise.differences import corrected, metric_differences
from longwriter_eval.runs import Sample
from longwriter_eval.scoring import Score

Grades = Sequence[float | None]


def board(*runs: Sequence[Score]) -> dict[str, Scope]:
    """The scopes of a ranking of these runs, by name."""
    benchmark = runs[0][0].benchmark
    entries = [{"benchmark": benchmark, "prompt_scores": prompt_scores(run)} for run in runs]
    return {scope.name: scope for scope in scopes(entries)}


def ranks(*runs: Sequence[Score], scope: str = "all") -> list[Rank | None]:
    return board(*runs)[scope].ranks()


def noisy(mean: float, seed: int, number: int = 40) -> list[float]:
    grades = mean + np.random.default_rng(seed).normal(0, 12, number)
    return [float(grade) for grade in np.clip(grades, 0, 100)]


def test_a_rank_is_the_range_of_places_that_the_tests_leave_open() -> None:
    runs = [run_of(noisy(80, 1)), run_of(noisy(79, 2)), run_of(noisy(40, 3))]
    found = ranks(*runs)
    assert found == [Rank(1, 2), Rank(1, 2), Rank(3, 3)]
    assert [rank.is_tie for rank in found if rank] == [True, True, False]


def test_ranks_are_paired_by_prompt() -> None:
    # the prompts differ by far more than the models, whose intervals overlap
    hard = np.random.default_rng(0).uniform(0, 90, 40)
    better = [float(x) + 4 + n % 2 for n, x in enumerate(hard)]
    assert ranks(run_of(hard.tolist()), run_of(better)) == [Rank(2, 2), Rank(1, 1)]


def test_dropping_the_worst_verdict_gains_no_rank() -> None:
    grades: list[float | None] = list(noisy(60, 4))
    honest = run_of([min(100.0, (grade or 0) + 3) for grade in grades])
    worst = min(grade or 0 for grade in grades)
    dropped = run_of([None if grade == worst else grade for grade in grades])
    assert ranks(honest, run_of(grades)) == [Rank(1, 1), Rank(2, 2)]
    found = ranks(honest, dropped)[1]
    assert found
    assert found.worst == 2


def test_an_entry_with_too_few_verdicts_in_a_bucket_has_no_rank_there() -> None:
    grades: list[float | None] = list(noisy(60, 5))
    grades[0] = None  # one of ten in the first bucket, one of forty overall
    found = board(run_of(grades), run_of(noisy(60, 6)))
    assert found["[0,500)"].ranks() == [None, Rank(1, 1)]
    assert None not in found["all"].ranks()


def test_a_single_entry_is_first_and_equal_entries_share_all_ranks() -> None:
    same = run_of(noisy(60, 7))
    assert ranks(same) == [Rank(1, 1)]
    assert ranks(same, same, same) == [Rank(1, 3)] * 3


def test_the_ruler_ranks_by_length_and_counts_instructions() -> None:
    def ruler(gain: float) -> list[Score]:
        found = []
        for n in range(48):
            required, subject = (
                (1000, 2000, 5000, 10_000, 20_000, 30_000)[n % 6],
                "abcdefgh"[n // 6],
            )
            prompt = f"Write {required} words on {subject}."
            sample = Sample("t", f"longwrite_ruler/{n:03d}", prompt, "t", required, "en", "", {})
            length = 60 + n % 6 + (gain if subject in "abcdef" else -gain)
            found.append(Score(sample, "", f"{required // 1000}k", 9, length, NO_FAULT, None))
        return found

    # six of eight instructions gain: far from significant, but 36 of 48 responses would be
    assert ranks(ruler(0), ruler(5)) == [Rank(1, 2)] * 2
    assert board(ruler(0), ruler(5))["all"].p[0, 1] == 74 / 256  # exact, by hand: P(|X - 4| >= 2)


# Every pair: the leaderboard against compare


def varied_runs(number: int, prompts: int) -> list[list[Score]]:
    """Runs with equal scores, tiny differences, clear differences, and missing verdicts."""
    rng = np.random.default_rng(number)
    steps = 100 / 24  # of one grade in one dimension
    base = np.round(rng.uniform(8, 22, prompts)) * steps
    found = []
    for n in range(number):
        quality = base + steps * rng.integers(-2, 3, prompts) * (n % 3 > 0)
        quality = np.clip(quality + (n // 3) * 1.5 * steps * rng.integers(0, 2), 0, 100)
        if n == 1:
            quality = base + 1e-6  # a tiny difference in every prompt
        grades: list[float | None] = quality.tolist()
        for missing in range(n % 3 if n > 3 else 0):  # stays above 95% in each
            grades[(7 * n + 13 * missing) % prompts] = None
        lengths = np.clip(70 + 2.0 * (n % 4) + rng.normal(0, 9, prompts) * (n % 2), 0, 100)
        found.append(run_of(grades, lengths.tolist()))
    return found


def claims_of_compare(a: Sequence[Score], b: Sequence[Score]) -> dict[str, str | None]:
    pairs = list(zip(a, b, strict=True))
    return {
        difference.bucket: difference.winner
        for difference in corrected(list(metric_differences(pairs)))
        if difference.metric == "overall_score"
    }


@pytest.mark.parametrize(
    ("number", "prompts"), [(4, 48), pytest.param(14, 60, marks=pytest.mark.slow)]
)
def test_the_leaderboard_and_compare_claim_the_same_of_every_pair(
    number: int, prompts: int
) -> None:
    runs, said = varied_runs(number, prompts), []
    found = board(*runs)
    for a in range(number):
        for b in range(a + 1, number):
            for bucket, winner in claims_of_compare(runs[a], runs[b]).items():
                above = found[bucket].is_above
                claimed = "A" if above[a, b] else "B" if above[b, a] else None
                assert winner == claimed, (a, b, bucket)
                said.append(claimed)
    assert {None} < set(said)


def test_what_others_enter_does_not_change_the_claims_about_a_pair() -> None:
    runs = varied_runs(6, 48)
    alone, among = board(*runs[:2]), board(*runs)
    for name, scope in alone.items():
        assert scope.is_above.tolist() == among[name].is_above[:2, :2].tolist()


@pytest.mark.parametrize("missing", [0.0, 0.03], ids=["all-judged", "3%-without-a-verdict"])
@pytest.mark.parametrize("prompts", [8, 27, pytest.param(120, marks=pytest.mark.slow)])
def test_at_most_one_in_twenty_pairs_of_equal_models_is_claimed_to_differ(
    prompts: int, missing: float
) -> None:
    rng = np.random.default_rng(prompts)
    claimed = total = 0
    for _ in range(6):
        models: list[list[Score]] = []
        for _ in range(12):
            quality = np.where(rng.random(prompts) < missing, np.nan, rng.beta(5, 2, prompts) * 100)
            length = np.where(rng.random(prompts) < 0.05, 0.0, rng.beta(8, 1, prompts) * 100)
            grades = [None if np.isnan(grade) else float(grade) for grade in quality]
            models.append(run_of(grades, length.tolist()))
        above = board(*models)["all"].is_above
        claimed, total = claimed + int(above.sum()), total + 66
    assert claimed / total <= 0.05
