"""Chosen and rejected answers, compared with pairs computed by hand."""

from collections import Counter
from dataclasses import replace

import pytest

from agentwrite.data.pairs import Pair, ScoredAnswer, choose_pair
from agentwrite.thresholds import PairOptions
from longwriter_core.llm import Rejected


def sample(text: str, length: float, quality: float, **fields: object) -> ScoredAnswer:
    return replace(ScoredAnswer(text, False, 1_000, 800, length, quality), **fields)  # type: ignore[arg-type]


# scores by hand: (90+70)/2 = 80, (60+50)/2 = 55, (100+56)/2 = 78, (20+40)/2 = 30
A, B, C, D = (
    sample("a", 90, 70),
    sample("b", 60, 50),
    sample("c", 100, 56),
    sample("d", 20, 40),
)


def pair(*samples: ScoredAnswer, id: str = "p", **choice: object) -> tuple[str, str, float]:
    found = choose_pair(id, samples, PairOptions(**choice))  # type: ignore[arg-type]
    assert isinstance(found, Pair), found
    return found.chosen.text, found.rejected.text, found.margin


def reason(*samples: ScoredAnswer, **choice: object) -> str:
    found = choose_pair("p", samples, PairOptions(**choice))  # type: ignore[arg-type]
    assert isinstance(found, Rejected), found
    return found.reason


def test_the_score_is_the_mean_of_length_and_quality() -> None:
    assert [each.score for each in (A, B, C, D)] == [80, 55, 78, 30]


def test_worst_rejects_the_lowest_score() -> None:
    assert pair(A, B, C, D, rejected="worst") == ("a", "d", 50)
    assert pair(D, C, B, A, rejected="worst") == ("a", "d", 50)


def test_random_rejects_each_worse_answer_about_as_often() -> None:
    drawn = Counter(pair(A, B, C, D, id=f"p-{n}", min_margin=0)[1] for n in range(600))
    assert set(drawn) == {"b", "c", "d"}
    assert all(150 < times < 250 for times in drawn.values())


def test_the_draw_depends_on_the_seed_and_the_id_alone() -> None:
    draws = [[pair(A, B, C, D, id=f"p-{n}", seed=s)[1] for n in range(40)] for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    backwards = [pair(A, B, C, D, id=f"p-{n}", seed=1)[1] for n in reversed(range(40))]
    assert backwards[::-1] == draws[0]


def test_only_answers_that_are_worse_by_the_margin_are_drawn() -> None:
    assert {pair(A, B, C, D, id=str(n), min_margin=5)[1] for n in range(60)} == {"b", "d"}
    assert {pair(A, B, C, D, id=str(n), min_margin=25)[1] for n in range(60)} == {"b", "d"}
    assert {pair(A, B, C, D, id=str(n), min_margin=25.5)[1] for n in range(60)} == {"d"}


def test_no_pair_where_no_answer_is_worse_by_the_margin() -> None:
    assert reason(A, C, min_margin=5) == "margin"
    assert reason(A, B, C, D, min_margin=51) == "margin"


def test_the_first_of_equal_answers_is_chosen_and_no_equal_is_rejected() -> None:
    twin = sample("twin", 70, 90)  # 80, as A
    assert pair(A, twin, D, rejected="worst") == ("a", "d", 50)
    assert pair(twin, A, D, rejected="worst") == ("twin", "d", 50)
    assert {pair(A, twin, D, id=str(n), min_margin=0)[1] for n in range(40)} == {"d"}
    assert reason(A, twin, min_margin=0) == "margin"


def test_answers_that_are_all_the_same_make_no_pair() -> None:
    assert reason(A, A, A, A, min_margin=0) == "identical"


def test_an_answer_that_was_cut_off_is_never_chosen_but_may_be_rejected() -> None:
    best, worst = replace(A, cut=True), replace(D, cut=True)
    assert pair(best, B, C, D, rejected="worst") == ("c", "d", 48)
    assert pair(A, B, worst, rejected="worst") == ("a", "d", 50)
    # the cut one scores higher than the best whole one: it is not worse, so not rejected either
    assert {pair(best, B, C, D, id=str(n))[1] for n in range(40)} == {"b", "d"}
    assert reason(best, worst) == "cut"


def test_answers_that_exceed_the_sequence_length_are_ignored() -> None:
    long = replace(A, tokens=32_768)  # leaves no room for the token that ends the turn
    assert pair(long, B, C, D, rejected="worst") == ("c", "d", 48)
    assert pair(replace(A, tokens=32_767), B, rejected="worst") == ("a", "b", 25)
    assert reason(long, long) == "too_long"
    assert pair(long, B, rejected="worst", sequence_len=40_000) == ("a", "b", 25)


@pytest.mark.parametrize("rejected", ["random", "worst"])
def test_the_chosen_answer_is_never_the_rejected_one(rejected: str) -> None:
    again = replace(A, quality_score=10.0)  # the same text with another verdict
    assert pair(A, again, B, rejected=rejected) == ("a", "b", 25)
