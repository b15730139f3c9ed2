"""The batch API against a real server: nothing is lost, and nothing is submitted twice."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.endpoint import KEY, Endpoint, request

from longwriter_core.errors import InputError
from longwriter_core.llm import (
    CallError,
    ChatPool,
    EndpointError,
    Reply,
    Store,
    call_key,
    run_async,
)
from longwriter_core.llm import batch as batch_module
from longwriter_core.llm.batch import BatchQueue
from longwriter_core.mock_server import JUDGE, MockReply, MockRequest
from longwriter_core.mock_server.batches import EXPIRED

TEXTS = [f"Text {number}." for number in range(12)]
BATCHES = "/v1/batches"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "QUIET", 0.05)
    monkeypatch.setattr(batch_module, "_FIRST_POLL", 0.02)
    monkeypatch.setattr(batch_module, "_LISTED_AFTER", 0.2)


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with Endpoint() as started:
        yield started


def key_of(text: str) -> str:
    return call_key(text=text)


def answers(
    server: Endpoint,
    texts: list[str] = TEXTS,
    *,
    batch: bool = True,
    key: str = KEY,
    use: Callable[[BatchQueue], None] = lambda _queue: None,
) -> dict[str, Reply | CallError]:
    """The outcomes of calls made together through one pool."""

    async def ask_all() -> list[Any]:
        pool = ChatPool(Store(), base_url=server.base_url, api_key=key, batch=batch)
        pool._is_proven = True  # all calls in the batch, the first one, too
        async with pool as chat:
            use(chat.batches)
            calls = (chat.ask(key_of(text), request(text)) for text in texts)
            return await asyncio.gather(*calls, return_exceptions=True)

    return dict(zip(texts, run_async(ask_all()), strict=True))


def texts_of(outcomes: dict[str, Reply | CallError]) -> dict[str, str]:
    return {key: reply.text for key, reply in outcomes.items() if isinstance(reply, Reply)}


def creations(server: Endpoint) -> int:
    return sum(each.method == "POST" and each.path == BATCHES for each in server.history)


def records() -> list[Path]:
    return list((Store().folder / "batches").glob("*.json"))


def on_creation(answer: Callable[[int], MockReply | int | None]) -> Callable[[MockRequest], Any]:
    """A hook that chooses the answer to the first, second, … creation of a batch."""
    numbers = iter(range(1, 100))

    def hook(asked: MockRequest) -> MockReply | int | None:
        is_creation = asked.method == "POST" and asked.path == BATCHES
        return answer(next(numbers)) if is_creation else None

    return hook


# What a batch gives


def test_a_batch_stores_the_same_replies_under_the_same_keys_as_direct_calls(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    batched = texts_of(answers(server))
    stored = {path.name for path in Store().folder.glob("??/*.json")}
    assert (len(batched), creations(server), server.stats().in_flight) == (12, 1, 0)
    assert not records()
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "other"))
    assert texts_of(answers(server, batch=False)) == batched
    assert {path.name for path in Store().folder.glob("??/*.json")} == stored


def test_a_batch_keeps_to_the_limits_of_rows_bytes_and_models(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "MAX_BYTES", 1_000)
    assert len(texts_of(answers(server))) == 12
    sizes = [len(content) for about, content in server._batches.files.values()
             if about["purpose"] == "batch"]  # fmt: skip
    assert len(sizes) > 1
    assert max(sizes) <= 1_000
    monkeypatch.undo()
    monkeypatch.setattr(batch_module, "QUIET", 0.05)
    monkeypatch.setattr(batch_module, "MAX_ROWS", 5)
    before = creations(server)
    assert len(texts_of(answers(server, [f"Row {n}." for n in range(11)]))) == 11
    assert creations(server) - before == 3


def test_a_batch_waits_for_calls_while_it_is_held(server: Endpoint) -> None:
    until = time.monotonic() + 0.5
    answers(server, use=lambda queue: setattr(queue, "is_held", lambda: time.monotonic() < until))
    assert time.monotonic() > until
    assert creations(server) == 1


def test_the_state_of_a_batch_is_shown(server: Endpoint) -> None:
    shown: list[str] = []
    answers(server, use=lambda queue: setattr(queue, "show", shown.append))
    assert shown[0] == "submitting 12 calls"
    assert shown[-1] == "1 batch completed, 12 of 12 done"


@pytest.mark.parametrize("status", [None, 400, 401])
def test_the_first_call_is_direct_and_there_is_no_batch_if_it_fails(
    server: Endpoint, status: int | None
) -> None:
    server.on_request = lambda asked: status if asked.is_chat else None

    async def ask_all() -> list[Any]:
        pool = ChatPool(Store(), base_url=server.base_url, api_key=KEY, batch=True)
        async with pool as chat:
            calls = (chat.ask(key_of(text), request(text)) for text in TEXTS)
            return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run_async(ask_all())
    assert sum(asked.is_chat for asked in server.history) == 1
    assert creations(server) == (status is None)
    assert all(isinstance(outcome, CallError) == bool(status) for outcome in outcomes)


# Failures of single calls


def test_a_call_that_fails_is_asked_again_in_the_next_batch(server: Endpoint) -> None:
    seen: Counter[str] = Counter()

    def fail_once(asked: MockRequest) -> int | None:
        if not asked.is_chat:
            return None
        seen[asked.prompt] += 1
        return 500 if asked.prompt in TEXTS[:3] and seen[asked.prompt] == 1 else None

    server.on_request = fail_once
    assert len(texts_of(answers(server))) == 12
    assert creations(server) == 2
    assert [seen[text] for text in TEXTS] == [2] * 3 + [1] * 9


def test_a_call_that_fails_in_three_batches_or_for_good_keeps_its_reason(server: Endpoint) -> None:
    def fail(asked: MockRequest) -> MockReply | int | None:
        if asked.is_chat and asked.prompt == TEXTS[0]:
            return 500
        if asked.is_chat and asked.prompt == TEXTS[1]:
            error = {"error": {"code": "context_length_exceeded", "message": "Too long."}}
            return MockReply(status=400, body=error)
        return None

    server.on_request = fail
    outcomes = answers(server)
    assert len(texts_of(outcomes)) == 10
    assert str(outcomes[TEXTS[0]]) == "HTTP 500: The request failed."
    assert getattr(outcomes[TEXTS[1]], "reason", "") == "context_overflow"
    assert creations(server) == 3


def test_a_model_that_wants_the_limit_under_another_name_gets_it_in_the_next_batch() -> None:
    with Endpoint(judge_reasoning_tokens=5) as server:

        async def ask() -> Reply:
            pool = ChatPool(Store(), base_url=server.base_url, api_key=KEY, batch=True)
            pool._is_proven = True
            async with pool as chat:
                return await chat.ask("k" * 64, {**request(), "max_tokens": 2_000})

        assert run_async(ask()).text
    assert creations(server) == 2


# Batches that do not complete


def test_what_an_expired_batch_has_done_is_kept_and_the_rest_is_submitted_again(
    server: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    seen: Counter[str] = Counter()

    def expire(asked: MockRequest) -> MockReply | None:
        if not asked.is_chat:
            return None
        seen[asked.prompt] += 1
        is_late = asked.prompt in TEXTS[4:] and seen[asked.prompt] == 1
        return MockReply(fault="expired") if is_late else None

    server.on_request = expire
    assert len(texts_of(answers(server))) == 12
    assert creations(server) == 2
    assert [seen[text] for text in TEXTS] == [1] * 4 + [2] * 8
    assert "expired; 4 of 12 calls are done and kept" in caplog.text
    assert EXPIRED not in caplog.text


def test_a_batch_that_expires_three_times_says_so(server: Endpoint) -> None:
    server.on_request = lambda asked: MockReply(fault="expired") if asked.is_chat else None
    outcomes = answers(server, TEXTS[:2])
    assert creations(server) == 3
    assert all(str(outcome).endswith(" expired") for outcome in outcomes.values())


def test_a_cancelled_batch_is_not_submitted_again(server: Endpoint) -> None:
    server._batches.seconds = 60

    def cancel(_: str) -> None:
        for batch in server._batches.batches.values():
            batch["end"] = "cancelled"

    outcomes = answers(server, use=lambda queue: setattr(queue, "show", cancel))
    assert {type(outcome) for outcome in outcomes.values()} == {CallError}
    assert "was cancelled" in str(outcomes[TEXTS[0]])
    assert creations(server) == 1


def test_batches_are_halved_if_the_account_may_not_queue_so_many_tokens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Endpoint(batch_tokens=200) as server:
        assert len(texts_of(answers(server))) == 12
    failed = [batch for batch in server._batches.batches.values() if batch["end"] == "failed"]
    assert len(failed) >= 1
    assert server.stats().calls == {JUDGE: 12}
    assert "Enqueued token limit reached" in caplog.text


def test_an_endpoint_without_a_batch_api_says_what_to_do(server: Endpoint) -> None:
    server.on_request = lambda asked: 404 if asked.path.startswith("/v1/files") else None
    outcomes = answers(server)
    assert {type(outcome) for outcome in outcomes.values()} == {EndpointError}
    assert "has no batch API" in str(outcomes[TEXTS[0]])
    assert "leave out --batch" in str(outcomes[TEXTS[0]])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(MockReply(body="<html>Sign in</html>", fault="html"), id="html"),
        pytest.param(MockReply(body="text"), id="a-text"),
        pytest.param(MockReply(body=None), id="null"),
        pytest.param(MockReply(body=[1]), id="a-list"),
        pytest.param(MockReply(body=b"{"), id="bytes"),
    ],
)
@pytest.mark.parametrize("part", ["/v1/files", BATCHES])
def test_an_endpoint_that_answers_nonsense_says_so(
    answer: MockReply, part: str, server: Endpoint
) -> None:
    server.on_request = lambda asked: answer if asked.path.startswith(part) else None
    assert "did not answer like a batch API" in str(answers(server)[TEXTS[0]])


def test_several_base_urls_are_refused() -> None:
    with pytest.raises(InputError, match="one base URL"):
        ChatPool(Store(), base_url=["http://a/v1", "http://b/v1"], api_key=KEY, batch=True)


# Nothing is submitted twice


@pytest.mark.parametrize("status", [500, 503], ids=["error-500", "error-503"])
def test_a_batch_whose_receipt_is_lost_is_found_by_its_metadata(
    server: Endpoint, status: int
) -> None:
    def lose(number: int) -> int | None:
        if number > 1:
            return None
        create(server)
        return status

    server.on_request = on_creation(lose)
    assert len(texts_of(answers(server))) == 12
    assert creations(server) == 1
    assert server.stats().calls == {JUDGE: 12}


def create(server: Endpoint) -> None:
    """Create the batch that is asked for, although the answer gets lost."""
    server._batches._create(server.history[-1].body)


def test_a_creation_that_did_not_happen_is_tried_again(server: Endpoint) -> None:
    server.on_request = on_creation(lambda number: 500 if number == 1 else None)
    assert len(texts_of(answers(server))) == 12
    assert creations(server) == 2
    assert server.stats().calls == {JUDGE: 12}


def test_a_refused_creation_ends_the_run_and_leaves_no_record(server: Endpoint) -> None:
    body = {"error": {"code": "billing_hard_limit_reached", "message": "Billing hard limit."}}
    server.on_request = on_creation(lambda _: MockReply(status=400, body=body))
    outcomes = answers(server)
    assert {str(outcome) for outcome in outcomes.values()} == {"HTTP 400: Billing hard limit."}
    assert (creations(server), records()) == (1, [])


KILLED = """
import asyncio, sys
from longwriter_core.llm import ChatPool, Store, call_key
async def main():
    async with ChatPool(Store(), base_url=sys.argv[1], api_key="k", batch=True) as chat:
        chat._is_proven = True
        body = lambda text: {"model": "mock-judge", "messages": [{"role": "user", "content": text}]}
        await asyncio.gather(*(
            chat.ask(call_key(text=text), body(text)) for text in sys.argv[2:]
        ))
asyncio.run(main())
"""
MOMENTS = {
    "before the upload": ("POST", "/v1/files", False),
    "after the upload": ("POST", "/v1/files", True),
    "before the batch is created": ("POST", BATCHES, False),
    "between submission and receipt": ("POST", BATCHES, True),
    "while it waits": ("GET", BATCHES + "/", False),
    "before the replies are read": ("GET", "/content", False),
    "while the replies are read": ("GET", "/content", True),
}


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(
            each, marks=[] if each == "between submission and receipt" else pytest.mark.slow
        )
        for each in MOMENTS
    ],
)
def test_a_run_killed_at_any_moment_pays_for_nothing_twice(moment: str) -> None:
    method, part, is_done = MOMENTS[moment]
    process: list[subprocess.Popen[bytes]] = []

    def kill(asked: MockRequest) -> MockReply | None:
        if process and asked.method == method and part in asked.path and not asked.is_chat:
            if is_done and asked.path == BATCHES:
                create(endpoint)
            os.kill(process.pop().pid, signal.SIGKILL)
            return None if is_done and asked.path != BATCHES else MockReply(status=503)
        return None

    with Endpoint(on_request=kill) as endpoint:
        command = [sys.executable, "-c", KILLED, endpoint.base_url, *TEXTS]
        killed = subprocess.Popen(command)
        process.append(killed)
        assert killed.wait(30) == -signal.SIGKILL
        assert len(texts_of(answers(endpoint))) == 12
    assert endpoint.stats().calls == {JUDGE: 12}
    assert not records()


def test_direct_calls_take_the_replies_of_a_batch_that_an_earlier_run_submitted(
    server: Endpoint,
) -> None:
    submit_only(server)
    server._batches.seconds = 0
    for batch in server._batches.batches.values():
        batch["completed_at"] = time.time()
    assert len(texts_of(answers(server, batch=False))) == 12
    assert server.stats().calls == {JUDGE: 12}


def submit_only(server: Endpoint) -> None:
    """Submit a batch that takes a minute, and end the run without its replies."""
    server._batches.seconds = 60

    async def stop() -> None:
        async with ChatPool(Store(), base_url=server.base_url, api_key=KEY, batch=True) as chat:
            chat._is_proven = True
            calls = [asyncio.create_task(chat.ask(key_of(text), request(text))) for text in TEXTS]
            while not any(json.loads(path.read_bytes())["batch"] for path in records()):
                await asyncio.sleep(0.02)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    run_async(stop())


def test_a_batch_that_the_key_cannot_read_is_not_submitted_again(server: Endpoint) -> None:
    submit_only(server)
    server._batches.batches.clear()  # as another account sees it
    outcomes = answers(server)
    assert {type(outcome) for outcome in outcomes.values()} == {EndpointError}
    assert "rerun with the key that submitted it, or delete" in str(outcomes[TEXTS[0]])
    assert (creations(server), len(records())) == (1, 1)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<html>gateway</html>", id="html"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"custom_id": "', id="cut"),
    ],
)
def test_replies_that_cannot_be_read_are_not_paid_for_twice(
    content: bytes, server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "_FIRST_POLL", 0.001)
    replaced = MockReply(body=content)
    server.on_request = lambda asked: replaced if asked.path.endswith("/content") else None
    (said,) = {str(outcome) for outcome in answers(server).values()}
    assert said.startswith("cannot read batch_")
    assert len(records()) == 1
    left = iter([True])  # the first answer in the next run is also a gateway's
    server.on_request = lambda asked: (
        replaced if asked.path.endswith("/content") and next(left, False) else None
    )
    assert len(texts_of(answers(server))) == 12
    assert (creations(server), server.stats().calls) == (1, {JUDGE: 12})
    assert not records()


def test_a_damaged_record_of_a_batch_is_never_ignored(server: Endpoint) -> None:
    submit_only(server)
    (record,) = records()
    record.write_text("{")
    assert "repair it, or delete it" in str(answers(server)[TEXTS[0]])
    assert creations(server) == 1


def test_a_full_disk_loses_no_reply_of_a_batch(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", full)
        outcomes = answers(server)
    assert "No space left on device" in str(outcomes[TEXTS[0]])
    assert len(records()) == 1
    assert len(texts_of(answers(server))) == 12
    assert server.stats().calls == {JUDGE: 12}
