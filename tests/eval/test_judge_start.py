"""Before judging: the preflight request, and the verdicts of an earlier log."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.endpoint import KEY, Endpoint, completion, verdict
from support.judging import ITEMS, ONE, judge_at, judged, papers_judge_at

from longwriter_core import files
from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.llm import Store, call_key, run_async
from longwriter_core.mock_server.server import JUDGE, Faults
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.verdict import Item

# The check


def complaint(judge: Judge) -> str:
    """The one-line error of a judge's failed check."""
    with pytest.raises(InputError) as refused:
        run_async(judge.check())
    (line,) = str(refused.value).splitlines()
    assert KEY not in line
    return line


def test_checking_a_working_judge_takes_one_call() -> None:
    with Endpoint(api_key=KEY) as server:
        run_async(judge_at(server).check())
    assert server.requests == 1


@pytest.mark.parametrize(
    ("server", "model", "says"),
    [
        pytest.param(Endpoint(api_key="another"), JUDGE, "Incorrect API key", id="wrong-key"),
        pytest.param(Endpoint(), "gpt-unheard-of", "does not exist", id="unknown-model"),
    ],
)
def test_the_check_fails_at_once(server: Endpoint, model: str, says: str) -> None:
    with server:
        line = complaint(judge_at(server, model=model))
    assert f"the judge {model} at {server.base_url} cannot be used" in line
    assert says in line
    assert server.requests == 1


def test_the_check_detects_html() -> None:
    with Endpoint(faults=Faults(1.0, ("html",))) as server:
        assert "answered with text/html" in complaint(judge_at(server))


def test_the_check_detects_a_dead_port() -> None:
    with Endpoint() as server:
        pass
    assert f"{server.base_url} cannot be used" in complaint(judge_at(server))


def test_the_check_detects_an_unwritable_store_before_making_a_call(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    with Endpoint() as server:
        line = complaint(judge_at(server, Store(tmp_path / "file" / "calls")))
    assert "cannot keep finished calls" in line
    assert server.requests == 0


def test_the_check_detects_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_atomically

    def write_few_bytes(path: Path, data: bytes, **options: bool) -> None:
        if data:  # a full disk still takes empty files
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, **options)

    monkeypatch.setattr("longwriter_core.llm.store.write_atomically", write_few_bytes)
    with Endpoint() as server:
        line = complaint(judge_at(server, Store(tmp_path)))
    assert "cannot keep finished calls" in line
    assert "No space left on device" in line
    assert server.requests == 0


def test_the_check_detects_a_disk_that_fills_up_while_it_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "put", fail)
    with Endpoint() as server:
        line = complaint(judge_at(server, Store(tmp_path)))
    assert "cannot be used: cannot write to" in line
    assert "free space there" in line
    assert server.requests == 1


# Verdicts in a log


def record_of(server: Endpoint) -> dict[str, Any]:
    """The judgement's record in the log of a run with one item."""
    (found,) = judged(judge_at(server), ONE).values()
    return found.record()


def reused(judge: Judge, item: Item, record: dict[str, Any]) -> Item:
    """The item with the verdicts of `record` that the judge reuses."""
    return replace(item, verdicts=tuple(judge.recorded_verdicts(item, record).values()))


def test_the_verdicts_in_a_log_are_used_without_a_call(tmp_path: Path) -> None:
    with Endpoint(faults=Faults(0.4, ("broken_json",))) as server:
        first = judged(judge_at(server, concurrency=1))
        paid = server.requests
        elsewhere = judge_at(server, Store(tmp_path / "elsewhere"))
        items = [reused(elsewhere, item, first[item.id].record()) for item in ITEMS]
        assert all(map(elsewhere.has_verdicts, items))
        found = judged(elsewhere, items)
    assert server.requests == paid
    assert found == first


def test_only_missing_repeats_are_judged(tmp_path: Path) -> None:
    with Endpoint() as server:
        record = record_of(server)
        twice = judge_at(server, Store(tmp_path / "elsewhere"), repeats=2)
        item = reused(twice, ONE[0], record)
        assert not twice.has_verdicts(item)
        (found,) = judged(twice, [item]).values()
    assert server.requests == 2
    assert [verdict.repeat for verdict in found.verdicts] == [0, 1]
    assert found.record()["verdicts"][0] == record["verdicts"][0]


@pytest.mark.parametrize("field", ["instruction", "response"])
def test_a_verdict_on_another_text_is_not_reused(field: str, tmp_path: Path) -> None:
    with Endpoint() as server:
        elsewhere = judge_at(server, Store(tmp_path / "elsewhere"))
        changes: dict[str, Any] = {field: "Tampered."}
        tampered = replace(ONE[0], **changes)
        assert not elsewhere.recorded_verdicts(tampered, record_of(server))


@pytest.mark.parametrize("change", ["model", "prompt"])
def test_another_judges_verdict_is_not_reused(change: str, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Judge $INST$ $RESPONSE$", encoding="utf-8")
    with Endpoint() as server:
        other = {
            "model": "other-judge",
            "prompt": str(tmp_path / "prompt.txt"),
        }[change]
        elsewhere = judge_at(server, Store(tmp_path / "elsewhere"), **{change: other})
        assert not elsewhere.recorded_verdicts(ONE[0], record_of(server))


def test_a_verdict_from_another_address_is_reused(tmp_path: Path) -> None:
    with Endpoint() as server:
        elsewhere = judge_at(
            server,
            Store(tmp_path / "elsewhere"),
            base_url=server.base_url.replace("127.0.0.1", "localhost"),
        )
        assert elsewhere.recorded_verdicts(ONE[0], record_of(server))


def test_a_verdict_stored_by_release_0_1_0_is_reused(tmp_path: Path) -> None:
    with Endpoint(judge_reasoning_tokens=0) as server:
        judge, item = papers_judge_at(server), ONE[0]
        judgement = judged(judge, ONE)[item.id]
        parts: dict[str, Any] = {
            "judge": JUDGE,
            "temperature": 0.5,
            "max_tokens": 1024,
            "prompt": judge.prompt.sha256,
            "instruction": sha256(item.instruction),
            "response": sha256(item.response),
            "repeat": 0,
            "ask": 1,
        }
        reply = Store().get(call_key(**parts))
        assert reply
        old = Store(tmp_path / "old")
        old.put(
            call_key(base_url=server.base_url, **parts), reply
        )  # 0.1.0 included the address in the key
        requests = server.requests
        assert judged(papers_judge_at(server, old), ONE)[item.id].quality == judgement.quality
        assert server.requests == requests


def test_a_reply_that_reached_its_token_limit_is_not_reused(tmp_path: Path) -> None:
    with Endpoint(answers=[(200, completion(verdict(4), "length"))]) as server:
        elsewhere = judge_at(server, Store(tmp_path / "elsewhere"))
        assert not elsewhere.recorded_verdicts(ONE[0], record_of(server))


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda entry: entry.update(raw="Fine."), id="no-verdict-in-raw"),
        pytest.param(lambda entry: entry.update(call="0" * 64), id="another-call"),
        pytest.param(lambda entry: entry.update(call=None), id="no-call"),
        pytest.param(lambda entry: entry.update(repeat=1), id="another-repeat"),
    ],
)
def test_a_tampered_entry_is_not_reused(
    tamper: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    with Endpoint() as server:
        record = record_of(server)
        tamper(record["verdicts"][0])
        elsewhere = judge_at(server, Store(tmp_path / "elsewhere"))
        assert not elsewhere.recorded_verdicts(ONE[0], record)


def test_scores_are_parsed_from_the_raw_reply(tmp_path: Path) -> None:
    with Endpoint(answers=[(200, completion(verdict(1)))]) as server:
        record = record_of(server)
        record["verdicts"] = [{**record["verdicts"][0], "scores": {"relevance": 5}}]
        elsewhere = judge_at(server, Store(tmp_path / "elsewhere"))
        (found,) = elsewhere.recorded_verdicts(ONE[0], record).values()
    assert found.scores == dict.fromkeys(found.scores or (), 1)
