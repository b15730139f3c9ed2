"""`agentwrite cache` lists the stored calls and trims the oldest; models never share a call."""

import json
import os
import time
from pathlib import Path

import pytest

from agentwrite import write_text
from agentwrite.cli.main import main
from longwriter_core.llm import Store
from longwriter_core.mock_server import MockServer

DAY = 86_400


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    return Store()


def write(server: MockServer, model: str) -> str:
    return write_text("Write 900 words on tea.", model=model, base_url=server.base_url).text


def test_calls_are_listed_by_use_and_model(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with MockServer(models={"one": None, "two": None}) as server:
        for model in ("one", "two"):
            write(server, model)
    assert main(["cache", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["calls"]
    assert [(row["use"], row["model"]) for row in rows] == [("writing", "one"), ("writing", "two")]
    assert sum(row["calls"] for row in rows) == len(server.prompts) == len(list(store.calls()))
    assert main(["cache"]) == 0
    assert "writing  two" in capsys.readouterr().out


def test_calls_of_different_models_never_mix(store: Store) -> None:
    with MockServer(models={"one": None, "two": None}) as server:
        first, second = write(server, "one"), write(server, "two")
        asked = len(server.prompts)
        assert write(server, "one") == first
        assert write(server, "two") == second
    assert first != second
    assert asked == len(server.prompts)
    assert {call.model for call in store.calls()} == {"one", "two"}


def fill(store: Store) -> None:
    with MockServer(models={"one": None, "two": None}) as server:
        for model in ("one", "two"):
            write(server, model)
    for days, call in enumerate(store.calls()):
        os.utime(call.path, (time.time() - days * DAY,) * 2)


def test_the_oldest_calls_are_trimmed_first(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(store)
    calls = sorted(store.calls(), key=lambda call: -call.time)
    kept = calls[:2]
    keep = str(sum(call.size for call in kept))
    assert main(["cache", "--trim", keep, "--dry-run"]) == 0
    assert len(list(store.calls())) == len(calls)
    assert main(["cache", "--trim", keep]) == 0
    assert {call.path for call in store.calls()} == {call.path for call in kept}
    assert f"deleted {len(calls) - 2} of {len(calls)} calls" in capsys.readouterr().err


def test_only_the_chosen_calls_are_trimmed(store: Store) -> None:
    fill(store)
    ones = sum(call.model == "one" for call in store.calls())
    assert main(["cache", "--model", "two", "--trim", "0"]) == 0
    assert {call.model for call in store.calls()} == {"one"}
    assert main(["cache", "--older-than", "1000", "--trim", "0"]) == 0
    assert main(["cache", "--use", "judging", "--trim", "0"]) == 0
    assert len(list(store.calls())) == ones


def test_calls_of_earlier_releases_and_damaged_files_are_listed(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("aa", '{"text": "Tea.", "model": "old"}'), ("bb", "{"), ("cc", "[1]")):
        (store.folder / name).mkdir(parents=True)
        (store.folder / name / f"{name * 32}.json").write_text(text)
    assert main(["cache", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["calls"]
    assert [(row["use"], row["model"], row["calls"]) for row in rows] == [
        ("unknown", "old", 1), ("unknown", "unknown", 2),
    ]  # fmt: skip


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("arguments", [["--trim", "lots"], ["no-such-folder"]])
def test_bad_arguments_give_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.usefixtures("store")
def test_an_empty_cache_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    assert "0 calls, 0 B" in capsys.readouterr().out
