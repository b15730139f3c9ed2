"""How many responses to judge again, and the record of the outcome on the leaderboard."""

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.commands import KEY
from support.endpoint import Endpoint
from support.submissions import hand_in, log

from longwriter_core.mock_server.server import JUDGE
from longwriter_eval.cli.main import main
from longwriter_eval.stats.inference import paired_test
from longwriter_eval.stats.power import difference_sd, paired_power, pairs_needed
from longwriter_eval.stats.thresholds import ASSUMED_RETEST_SD, REJUDGE_ALPHA
from longwriter_eval.submission import rejudged
from longwriter_eval.submission.rejudging import recommended

SHA = "a" * 64


@pytest.mark.parametrize("sd", [3.0, 8.0, 12.0])
def test_the_recommended_number_is_the_smallest_with_the_power(sd: float) -> None:
    n = pairs_needed(5.0, sd, 0.01, 0.9)
    assert paired_power(n, 5.0, sd, 0.01) >= 0.9
    assert n == 10 or paired_power(n - 1, 5.0, sd, 0.01) < 0.9


def test_the_power_agrees_with_the_textbook() -> None:
    # a two-sided paired t-test at 5% needs 34 pairs for half a standard deviation at 80% power
    assert pairs_needed(0.5, 1.0, 0.05, 0.8) == 34
    assert paired_power(34, 0.5, 1.0, 0.05) == pytest.approx(0.808, abs=0.002)
    assert paired_power(50, 0.0, 1.0, 0.05) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("pairs", "gain", "sd", "power"), [(1, 5, 1, 0), (5, 5, 0, 0), (12, 5, 0, 1), (12, 0, 0, 0)]
)
def test_the_power_of_odd_samples(pairs: int, gain: float, sd: float, power: float) -> None:
    assert paired_power(pairs, gain, sd, 0.01) == power


def test_more_verdicts_need_fewer_responses() -> None:
    needed = [pairs_needed(5.0, difference_sd(6.0, k), 0.01, 0.9) for k in (1, 2, 4, 16)]
    assert needed == sorted(needed, reverse=True)
    assert needed[0] == 62


@pytest.mark.slow
def test_the_permutation_test_has_the_computed_power() -> None:
    rng = np.random.default_rng(1)
    sd = difference_sd(ASSUMED_RETEST_SD, 1)
    n = pairs_needed(5.0, sd, REJUDGE_ALPHA, 0.9)
    found = [paired_test(list(rng.normal(5, sd, n)))[0] < REJUDGE_ALPHA for _ in range(500)]
    assert statistics.fmean(found) == pytest.approx(0.9, abs=0.04)


def _verification(spreads: list[float | None], judges: int = 1, repeats: int = 1) -> Any:
    judge = {"judges": [{}] * judges, "repeats": repeats}
    scores = [
        SimpleNamespace(quality_score=80.0, judgement=SimpleNamespace(spread=spread))
        for spread in spreads
    ]
    return SimpleNamespace(scores=scores, submission=SimpleNamespace(manifest={"judge": judge}))


def test_repeats_tell_how_much_a_verdict_varies() -> None:
    assert recommended(_verification([None] * 120)).responses == 62
    assert recommended(_verification([None] * 120)).sd == pytest.approx(math.sqrt(72 + 25))
    steady, erratic = (
        recommended(_verification([spread] * 120, repeats=2)).responses for spread in (1.0, 15.0)
    )
    assert steady < 62 < erratic
    assert recommended(_verification([None] * 120, judges=3)).responses < 62


def test_all_responses_are_recommended_if_they_are_too_few() -> None:
    advice = recommended(_verification([None] * 12))
    assert advice.responses == 12
    assert advice.power < 0.9


def _outcome(**values: Any) -> rejudged.Outcome:
    given = {
        "date": "2026-11-22", "judge": "j", "endpoints": ["a private endpoint"], "seed": 1,
        "pairs": 20, "difference": 0.5, "low": -1.0, "high": 2.0, "p_value": 0.4,
        "consistent": True,
    }  # fmt: skip
    return rejudged.Outcome.model_validate({**given, **values})


def test_an_inconsistent_outcome_cannot_be_replaced_by_another_sample(tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"
    rejudged.add(path, SHA, _outcome(seed=1, consistent=False))
    rejudged.add(path, SHA, _outcome(seed=2))
    found = rejudged.load(path, SHA)
    assert found
    assert found.newest.consistent
    assert not found.is_consistent
    rejudged.add(path, SHA, _outcome(seed=1))  # the same sample, after missing verdicts arrived
    assert len((rejudged.load(path, SHA) or found).outcomes) == 2


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[" * 100_000, id="nested"),
        pytest.param("null", id="null"),
        pytest.param('{"schema": "longwriter-rejudged/1", "sha256": "x"}', id="fields-missing"),
        pytest.param("x" * (1 << 19), id="large"),
    ],
)
def test_an_unusable_record_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.rejudged.json").write_text(text)
    assert rejudged.load(tmp_path / "mine.zip", SHA) is None


@pytest.mark.parametrize(
    "values",
    [
        {"difference": float("nan")}, {"p_value": 2}, {"pairs": 0}, {"judge": "x" * 2000},
        {"date": "yesterday"}, {"extra": 1}, {"consistent": "perhaps"},
    ],
)  # fmt: skip
def test_an_outcome_is_typed_and_bounded(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        _outcome(**values)


def test_a_record_of_another_file_is_ignored(tmp_path: Path) -> None:
    rejudged.add(tmp_path / "mine.zip", SHA, _outcome())
    assert rejudged.load(tmp_path / "mine.zip", "b" * 64) is None


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("LONGWRITER_JUDGE_API_KEY", KEY)
    with Endpoint(judge_reasoning_tokens=0) as server:
        yield server


@pytest.mark.slow
def test_the_board_shows_who_judged_again_and_what_was_found(
    tmp_path: Path, judge: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    path = hand_in(log(grade=lambda _: 5, judge=JUDGE).load(tmp_path / "runs"), folder / "mine.zip")
    assert main(["verify", str(path)]) == 0
    assert "--rejudge 12, which finds claims 5 points too high with" in capsys.readouterr().out
    options = ["--rejudge", "12", "--seed", "1", "--judge-base-url", judge.base_url]
    assert main(["verify", str(path), *options]) == 1
    assert "recorded in" in capsys.readouterr().err
    assert main(["leaderboard", str(folder), "-o", str(tmp_path / "site")]) == 0
    data = json.loads((tmp_path / "site" / "leaderboard.json").read_text(encoding="utf-8"))
    (entry,) = data["rankings"][0]["entries"]
    assert entry["rejudged"]["consistent"] is False
    assert entry["rejudged"]["pairs"] == 12
    assert entry["rejudged"]["judge"] == JUDGE
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert f"rejudged {entry['rejudged']['date']} by <bdi>{JUDGE}</bdi> at a private" in page
    assert "not consistent" in page
