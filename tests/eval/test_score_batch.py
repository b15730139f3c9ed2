"""`longwriter score --batch`: the verdicts of direct calls, at half the price, whatever happens."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import KEY, command, environment
from support.endpoint import Endpoint
from support.logs import Answer, Log

from longwriter_core.llm import Store
from longwriter_core.llm import batch as batch_module
from longwriter_core.mock_server import JUDGE, MockReply, MockRequest
from longwriter_eval.cli.main import main
from longwriter_eval.judge.panel import Panel, PanelSettings
from longwriter_eval.judge.settings import JudgeSettings
from longwriter_eval.runs import load_run

TEXTS = {
    f"{number}": Answer(f"A text about tea, number {number}.", "not_asked") for number in range(12)
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWRITER_JUDGE_API_KEY", KEY)
    monkeypatch.setattr(batch_module, "QUIET", 0.05)


@pytest.fixture
def judge() -> Iterator[Endpoint]:
    with Endpoint() as server:
        yield server


def options(folder: Path, judge: Endpoint, *more: str) -> list[str]:
    Log(TEXTS, judge=JUDGE).write(folder)
    return [
        "score", str(folder), "--judge-base-url", judge.base_url, "--judge-prompt", "longwriter",
        "--judge-temperature", "none", "--judge-max-tokens", "4096", *more,
    ]  # fmt: skip


def scores(folder: Path) -> dict[str, object]:
    return {sample.id: sample.row["quality_score"] for sample in load_run(folder).samples}


def direct_calls(judge: Endpoint) -> int:
    return sum(request.is_chat and request.was_accepted for request in judge.history)


def test_batched_verdicts_are_those_of_direct_calls_and_are_paid_for_once(
    tmp_path: Path, judge: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(tmp_path / "batched", judge, "--batch", "--judge-repeats", "2")) == 0
    shown = capsys.readouterr().err
    assert "1 batch completed, 23 of 23 done" in shown
    # the preflight request and the first verdict are direct
    assert (direct_calls(judge), judge.stats().calls) == (2, {JUDGE: 25})
    assert main(options(tmp_path / "direct", judge, "--judge-repeats", "2")) == 0
    assert judge.stats().calls == {JUDGE: 25}  # all verdicts came from the store
    assert scores(tmp_path / "direct") == scores(tmp_path / "batched")
    verdicts = load_run(tmp_path / "direct").samples[0].judgement["verdicts"]  # type: ignore[index]
    assert [Store().get(verdict["call"]) is not None for verdict in verdicts] == [True, True]


def test_unreadable_verdicts_of_a_batch_are_asked_for_again(
    tmp_path: Path, judge: Endpoint
) -> None:
    first: set[str] = set()

    def reply(request: MockRequest) -> MockReply | None:
        if not request.is_chat or "number 3" not in request.prompt or request.prompt in first:
            return None
        first.add(request.prompt)
        return MockReply("I rather like it.")

    judge.on_request = reply
    assert main(options(tmp_path / "run", judge, "--batch")) == 0
    assert judge.stats().calls == {JUDGE: 14}


def test_a_batch_costs_half() -> None:
    given = {"judge": "gpt-6-luna"}
    direct, batch = (
        JudgeSettings.resolve({**given, "judge_batch": batch}, {}).prices()
        for batch in (False, True)
    )
    assert direct
    assert batch == direct.scaled(0.5)


def test_score_killed_between_submission_and_receipt_submits_nothing_twice(
    tmp_path: Path,
) -> None:
    process: list[subprocess.Popen[bytes]] = []

    def kill(request: MockRequest) -> MockReply | None:
        if process and request.method == "POST" and request.path == "/v1/batches":
            endpoint._batches._create(request.body)
            process.pop().send_signal(signal.SIGKILL)
            return MockReply(status=503)
        return None

    with Endpoint(on_request=kill) as endpoint:
        arguments = options(tmp_path / "run", endpoint, "--batch")
        killed = subprocess.Popen(
            command("longwriter", *arguments), env=environment(), stderr=subprocess.DEVNULL
        )
        process.append(killed)
        assert killed.wait(60) == -signal.SIGKILL
        assert main(arguments) == 0
    assert endpoint.stats().calls[JUDGE] <= 14  # twelve verdicts, and the preflight of each command
    assert sum(request.path == "/v1/batches" and request.method == "POST"
               for request in endpoint.history) == 1  # fmt: skip


def test_an_endpoint_without_batches_ends_with_one_line_and_no_verdict(
    tmp_path: Path, judge: Endpoint, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    judge.on_request = lambda request: 404 if request.path == "/v1/files" else None
    assert main(options(tmp_path / "run", judge, "--batch")) == 1
    assert caplog.text.count("leave out --batch") == 1
    assert "11 of 12 verdicts are missing" in capsys.readouterr().err
    assert main(options(tmp_path / "run", judge)) == 0
    assert len(json.dumps(scores(tmp_path / "run"))) > 12


def test_score_says_what_it_will_cost_at_most_before_it_asks(
    tmp_path: Path, judge: Endpoint, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    prices = tmp_path / "prices.toml"
    prices.write_text(f'[mock.models]\n"{JUDGE}" = [10, 30]\n')
    monkeypatch.setenv("LONGWRITER_PRICES", str(prices))
    assert main(options(tmp_path / "run", judge, "--max-cost", "0.25")) == 1
    printed = capsys.readouterr().err
    assert f"12 verdicts by {JUDGE} cost at most $" in printed
    assert "max_cost stops it at $0.25" in printed
    assert printed.index("cost at most") < printed.index("Judging with")
    # the calls in flight are below the limit, and the rest is left to a rerun that pays for no more
    done = judge.stats().calls[JUDGE]
    assert 1 < done < 13
    assert main(options(tmp_path / "run", judge, "--max-cost", "5")) == 0
    assert judge.stats().calls[JUDGE] == 14


def test_several_tasks_share_one_limit(
    tmp_path: Path, judge: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'[mock.models]\n"{JUDGE}" = [10, 30]\n')
    monkeypatch.setenv("LONGWRITER_PRICES", str(prices))
    settings = PanelSettings.resolve(
        {"judge_model": JUDGE, "judge_base_url": judge.base_url, "judge_max_cost": "1"}, {}
    )
    first = Panel(settings, {})
    assert Panel(settings, {}, first.budget).judges[0].budget is first.judges[0].budget
    share = settings.first.budget(processes=4)
    assert share
    assert share.limit == 0.25
