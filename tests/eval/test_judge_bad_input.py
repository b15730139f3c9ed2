"""Bad judges and bad settings: one clear line, the right exit code, and nothing is paid twice."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.commands import KEY
from support.endpoint import Endpoint
from support.logs import Answer, Log

from longwriter_core.llm import Store
from longwriter_core.llm import batch as batch_module
from longwriter_core.mock_server import JUDGE, MockReply, MockRequest
from longwriter_eval.cli.main import main

TEXTS = {f"{number}": Answer(f"A text about tea, number {number}.", "not_asked")
         for number in range(8)}  # fmt: skip
LATE = [f"number {number}." for number in range(3, 8)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGWRITER_JUDGE_API_KEY", KEY)
    monkeypatch.setattr(batch_module, "QUIET", 0.05)


@pytest.fixture
def judge() -> Iterator[Endpoint]:
    with Endpoint() as server:
        yield server


def score(folder: Path, *more: str) -> int:
    run = folder / "run"
    if not run.is_dir():
        Log(TEXTS, judge=JUDGE).write(run)
    return main(["score", str(run), "--judge-prompt", "longwriter", *more])


def thinking(judge: Endpoint) -> list[str]:
    return [
        "--judge-base-url", judge.base_url, "--judge-model", JUDGE, "--judge-temperature", "none",
        "--judge-max-tokens", "4096",
    ]  # fmt: skip


def is_late(request: MockRequest) -> bool:
    return request.is_chat and any(text in request.prompt for text in LATE)


PROFILE = '[profiles.mine]\nmodel = "mock-judge"\n'


@pytest.mark.parametrize(
    ("profiles", "judge_name", "says"),
    [
        pytest.param("", "gpt-6-lunna", "did you mean gpt-6-luna?", id="unknown-profile"),
        pytest.param(PROFILE + "tokenfield = 3", "mine", "tokenfield: unknown key (did you mean "
                     "token_field?)", id="unknown-key"),
        pytest.param("[profiles.mine\n", "mine", "is no TOML file", id="malformed-TOML"),
        pytest.param(PROFILE + "max_tokens = 0", "mine", "[profiles.mine] max_tokens",
                     id="bad-value"),
        pytest.param("\xff", "mine", "profiles.toml", id="no-profile-of-that-name"),
    ],
)  # fmt: skip
def test_a_bad_profile_is_one_line_and_costs_nothing(
    profiles: str, judge_name: str, says: str, tmp_path: Path, judge: Endpoint,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "profiles.toml"
    path.write_text(profiles, encoding="utf-8")
    monkeypatch.setenv("LONGWRITER_PROFILES", str(path))
    assert score(tmp_path, "--judge", judge_name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("longwriter: error: ")
    assert says in line
    assert judge.requests == 0


def test_a_judge_that_answers_html_is_one_line_before_anything_is_judged(
    tmp_path: Path, judge: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    judge.on_request = lambda _: MockReply(body="<html>Sign in</html>", fault="html")
    assert score(tmp_path, *thinking(judge)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "answered with text/html" in line
    assert "is the base URL right (most end in /v1)?" in line


def test_an_expired_batch_keeps_what_is_done_and_a_rerun_pays_for_the_rest(
    tmp_path: Path, judge: Endpoint, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    asked: Counter[str] = Counter()

    def expire(request: MockRequest) -> MockReply | None:
        if is_late(request):
            return MockReply(fault="expired")
        asked[request.prompt if request.is_chat else ""] += 1
        return None

    judge.on_request = expire
    assert score(tmp_path, *thinking(judge), "--batch") == 1
    printed = capsys.readouterr().err
    assert "5 of 8 verdicts are missing (transport_error 5); to retry: longwriter score" in printed
    assert "expired; 2 of 7 calls are done and kept" in caplog.text
    before = {prompt: n for prompt, n in asked.items() if "tea, number" in prompt}
    assert len(before) == 3
    judge.on_request = lambda request: asked.update([request.prompt] if request.is_chat else [])
    assert score(tmp_path, *thinking(judge), "--batch") == 0
    verdicts = {prompt: n for prompt, n in asked.items() if "tea, number" in prompt}
    assert len(verdicts) == 8
    assert all(verdicts[prompt] == n for prompt, n in before.items())


@pytest.mark.parametrize("batch", [[], ["--batch"]], ids=["direct", "batch"])
def test_a_full_disk_is_one_line_and_a_rerun_pays_for_nothing_twice(
    batch: list[str], tmp_path: Path, judge: Endpoint, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    put = Store.put
    written: list[str] = []

    def fill_up(store: Store, key: str, reply: object) -> None:
        if len(written) == 4:  # the preflight request and three verdicts
            raise OSError(28, "No space left on device")
        put(store, key, reply)  # type: ignore[arg-type]
        written.append(key)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", fill_up)
        assert score(tmp_path, *thinking(judge), "--judge-concurrency", "1", *batch) == 1
    assert caplog.text.count("No space left on device") == 1
    assert "free space there" in caplog.text
    assert score(tmp_path, *thinking(judge), *batch) == 0
    assert judge.stats().calls == {JUDGE: 8 + 2}  # and the preflight of each command
