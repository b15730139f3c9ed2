"""Judging a sample again: honest scores pass, forged scores fail, and no call is made twice."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import KEY
from support.endpoint import Endpoint, verdict
from support.submissions import hand_in, log

from longwriter_core.errors import InputError
from longwriter_core.mock_server.answers import judge as say
from longwriter_core.mock_server.server import JUDGE
from longwriter_eval.cli.main import main
from longwriter_eval.judge.verdict import read_verdict
from longwriter_eval.stats.inference import paired_permutation_test
from longwriter_eval.stats.thresholds import REJUDGE_ALPHA
from longwriter_eval.submission.archive import read
from longwriter_eval.submission.rejudging import rejudge
from longwriter_eval.submission.verification import verify


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWRITER_JUDGE_API_KEY", KEY)


@pytest.fixture
def judge() -> Iterator[Endpoint]:
    with Endpoint(judge_reasoning_tokens=0) as server:
        yield server


def _claiming(folder: Path, grades: list[int]) -> Path:
    run = log(grade=lambda number: grades[number], judge=JUDGE).load(folder / "runs")
    return hand_in(run, folder / "mine.zip")


def _honest(folder: Path) -> Path:
    """A submission with verdicts from the mock judge, drawn with other seeds."""
    run = log(judge=JUDGE).load(folder / "runs")
    for number, sample in enumerate(run.samples):
        raw = say("", random.Random(number))
        entry = sample.row["doc"]["judgement"]["verdicts"][0]
        entry.update(raw=raw, scores=read_verdict(raw))
    return hand_in(run, folder / "mine.zip")


def test_an_honest_submission_is_consistent_and_a_rerun_makes_no_calls(
    tmp_path: Path, judge: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _honest(tmp_path)
    command = ["verify", str(path), "--rejudge", "12", "--judge-base-url", judge.base_url]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "judged again: 12 responses" in printed.out
    assert ": consistent" in printed.out
    asked = judge.requests
    assert asked == 13  # including the preflight request
    again = printed.err.split("to resume: longwriter ")[1].splitlines()[0].split()
    assert main(again) == 0
    assert judge.requests == asked


def test_inflated_scores_are_detected(
    tmp_path: Path, judge: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _claiming(tmp_path, [5] * 12)
    options = ["--rejudge", "12", "--seed", "1", "--judge-base-url", judge.base_url, "--json"]
    assert main(["verify", str(path), *options]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["status"] == "verified"  # the scores follow from the evidence
    assert report["rejudged"]["consistent"] is False
    assert report["rejudged"]["p_value"] < REJUDGE_ALPHA
    assert report["rejudged"]["difference"]["low"] > 10


def test_missing_verdicts_are_reported_with_the_command_that_retries_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _claiming(tmp_path, [3] * 12)
    good = {"choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": verdict(3)}}],
            "id": "1", "object": "chat.completion", "created": 1, "model": JUDGE}  # fmt: skip
    bad = json.loads(json.dumps(good).replace("Relevance", "Nothing"))
    answers = [(200, good)] * 11 + [(200, bad)] * 30
    with Endpoint(judge_reasoning_tokens=0, answers=answers) as judge:
        options = ["--rejudge", "12", "--seed", "1", "--judge-base-url", judge.base_url]
        assert main(["verify", str(path), *options, "--judge-concurrency", "1"]) == 1
    printed = capsys.readouterr()
    assert "judged again: 10 responses" in printed.out
    assert "2 of 12 have no new verdict; to retry: longwriter verify" in printed.err


def test_an_answer_from_another_judge_model_is_not_consistent(tmp_path: Path) -> None:
    verification = verify(read(_claiming(tmp_path, [3] * 12)))
    answer = {"choices": [{"index": 0, "finish_reason": "stop",
                           "message": {"role": "assistant", "content": verdict(3)}}],
              "id": "1", "object": "chat.completion", "created": 1, "model": "cheaper"}  # fmt: skip
    with Endpoint(judge_reasoning_tokens=0, answers=[(200, answer)]) as judge:
        result = rejudge(verification, 10, 1, {"judge_base_url": judge.base_url})
    assert result.p_value == 1
    assert result.other_judges == {"cheaper": 10}
    assert not result.is_consistent


@pytest.mark.parametrize("number", [0, 9, 13])
def test_too_small_or_too_large_samples_are_refused(tmp_path: Path, number: int) -> None:
    verification = verify(read(_claiming(tmp_path, [3] * 12)))
    with pytest.raises(InputError, match="choose between 10 and 12 responses"):
        rejudge(verification, number, 1, {"judge_base_url": "http://127.0.0.1:9/v1"})


def test_the_test_has_its_nominal_level_and_detects_large_inflation() -> None:
    rng = random.Random(3)

    def p_value(inflation: float) -> float:
        quality = [rng.gauss(70, 15) for _ in range(12)]
        claimed = [q + rng.gauss(inflation, 8) for q in quality]
        return paired_permutation_test(claimed, [q + rng.gauss(0, 8) for q in quality])

    honest = [p_value(0) for _ in range(100)]
    assert sum(p < 0.05 for p in honest) <= 12  # 5 are expected
    assert sum(p < REJUDGE_ALPHA for p in honest) <= 4
    assert all(p_value(25) < REJUDGE_ALPHA for _ in range(10))


def test_the_p_value_is_exact() -> None:
    new = [float(x) for x in range(10)]
    assert paired_permutation_test([x + 1 for x in new], new) == pytest.approx(2 / 2**10)
