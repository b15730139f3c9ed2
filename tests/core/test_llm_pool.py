"""The chat pool against a real server, and the store of finished calls: no paid reply is lost."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.endpoint import KEY, Endpoint, ask, ask_all, completion, refusal, request

from longwriter_core import files
from longwriter_core.errors import InputError
from longwriter_core.llm import (
    CallError,
    CallId,
    ChatPool,
    ContextOverflowError,
    EndpointError,
    Reply,
    SkippedError,
    Store,
    call_key,
    for_each,
    run_async,
)
from longwriter_core.llm import client as endpoint_module
from longwriter_core.mock_server import JUDGE, Faults, MockReply

REPLY = Reply("Good. 好。\ud800", "m", "stop", None, 10, 2, retries=1)


def stored() -> list[Path]:
    return [path for path in Store().folder.rglob("*") if path.is_file()]


# The store


def test_a_stored_reply_is_read_back_and_marked_as_stored() -> None:
    key = call_key(model="m", prompt="p")
    Store().put(key, REPLY)
    kept = Store().get(key)
    assert kept == Reply("Good. 好。\ud800", "m", "stop", None, 10, 2, retries=1, stored=True)
    assert Store().get(call_key(model="m", prompt="q")) is None


def test_the_key_depends_on_every_part_and_not_on_their_order() -> None:
    assert call_key(a=1, b="x") == call_key(b="x", a=1)
    assert len({call_key(a=1), call_key(a=2), call_key(b=1), call_key(a="1")}) == 4


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"text": "Go', id="cut"),
        pytest.param(b"\xff\xfe", id="not-UTF-8"),
        pytest.param(b"[1]", id="a-list"),
        pytest.param(b'{"text": "Good."}', id="fields-missing"),
        pytest.param(json.dumps({**vars(REPLY), "text": None}).encode(), id="text-is-null"),
        pytest.param(json.dumps({**vars(REPLY), "text": 5}).encode(), id="text-is-a-number"),
        pytest.param(b"[" * 100_000, id="nested-without-end"),
    ],
)
def test_a_damaged_file_counts_as_missing_with_a_warning_and_can_be_replaced(
    damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store, key = Store(), call_key(prompt="p")
    store.put(key, REPLY)
    (file,) = stored()
    file.write_bytes(damage)
    assert store.get(key) is None
    assert f"cannot read {file}" in caplog.text
    store.put(key, REPLY)
    assert store.get(key)


def test_a_store_is_checked_before_it_is_needed(tmp_path: Path) -> None:
    Store(tmp_path / "new" / "calls").check()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="LONGWRITER_CACHE") as refused:
        Store(tmp_path / "file" / "calls").check()
    assert str(tmp_path / "file") in str(refused.value)


def test_processes_that_check_a_store_at_the_same_moment_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_atomically

    def write_while_another_checks(path: Path, data: bytes) -> None:
        write(path, data)
        with monkeypatch.context() as patch:
            patch.setattr("longwriter_core.llm.store.write_atomically", write)
            Store(tmp_path).check()

    monkeypatch.setattr("longwriter_core.llm.store.write_atomically", write_while_another_checks)
    Store(tmp_path).check()
    assert not list(tmp_path.iterdir())


# Calls that succeed in the end


@pytest.mark.parametrize("kind", ["429", "500", "reset", "html", "hang"])
def test_a_temporary_fault_is_retried(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "_TIMEOUT", 1.0)
    with Endpoint(faults=Faults(0.5, (kind,))) as server:  # every second call
        first, second = run_async(ask_all(server.base_url, request("1"), request("2")))
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert (first.retries, second.retries) == (0, 1)
    assert server.requests == 3
    assert first.text != second.text


def test_the_store_keeps_every_field_of_a_reply() -> None:
    with Endpoint() as server:
        reply = ask(server.base_url)
    assert isinstance(reply, Reply)
    assert (reply.model, reply.finish_reason, reply.refusal) == (JUDGE, "stop", None)
    assert reply.prompt_tokens
    assert reply.completion_tokens
    kept = Store().get(call_key(request=request()))
    assert kept == Reply(**{**vars(reply), "stored": True})


def test_an_empty_reply_and_a_refusal_are_replies() -> None:
    answers = [(200, completion(None)), (200, completion(None, refusal="No."))]
    with Endpoint(answers=answers) as server:
        nothing, declined = run_async(ask_all(server.base_url, request("1"), request("2")))
    assert isinstance(nothing, Reply)
    assert isinstance(declined, Reply)
    assert (nothing.text, nothing.refusal, nothing.prompt_tokens) == ("", None, None)
    assert (declined.text, declined.refusal) == ("", "No.")


# Concurrency


def test_for_each_works_on_every_item_and_never_exceeds_its_concurrency() -> None:
    drawn, done = 0, 0

    def requests() -> Iterator[dict[str, Any]]:
        nonlocal drawn
        for number in range(40):
            drawn += 1
            assert drawn - done <= 7  # items are drawn only when a worker is free
            yield request(str(number))

    async def run(url: str) -> None:
        async with ChatPool(Store(), base_url=url, api_key=KEY) as chat:

            async def work(request: dict[str, Any]) -> None:
                nonlocal done
                await chat.ask(call_key(request=request), request)
                done += 1

            await for_each(requests(), work, 7)

    with Endpoint(delay=0.05) as server:
        run_async(run(server.base_url))
    assert (done, server.stats().finished, server.stats().max_in_flight) == (40, 40, 7)
    assert len(stored()) == 40


def test_a_received_reply_is_stored_even_if_its_task_is_cancelled(tmp_path: Path) -> None:
    class Slow(Store):
        def put(self, key: str, reply: Reply) -> None:
            time.sleep(0.1)
            super().put(key, reply)

    async def run(url: str) -> int:
        async with ChatPool(Slow(tmp_path), base_url=url, api_key=KEY) as chat:

            async def work(number: int) -> None:
                asked = request(str(number))
                await chat.ask(call_key(request=asked), asked)

            calls = asyncio.create_task(for_each(range(30), work, 30))
            while chat.usage.calls < 30:
                await asyncio.sleep(0.01)
            calls.cancel()  # like Ctrl-C, or a client of `agentwrite serve` that disconnects
            with contextlib.suppress(asyncio.CancelledError):
                await calls
            return chat.usage.calls

    with Endpoint() as server:
        assert run_async(run(server.base_url)) == 30
    assert len(list(tmp_path.rglob("*.json"))) == 30


def test_run_async_works_inside_a_running_loop_as_in_a_notebook() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    async def fail() -> None:
        raise InputError("no")

    async def cell(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return run_async(coroutine)

    assert run_async(answer()) == 42
    assert asyncio.run(cell(answer())) == 42
    for run in (run_async, lambda coroutine: asyncio.run(cell(coroutine))):
        with pytest.raises(InputError, match="no"):
            run(fail())


def test_a_workers_exception_ends_the_other_workers_and_is_raised_unchanged() -> None:
    async def work(item: int) -> None:
        if item == 1:
            raise InputError("this one")
        await asyncio.sleep(60)

    with pytest.raises(InputError, match="this one"):
        asyncio.run(for_each(range(3), work, 2))


def test_ctrl_c_in_a_notebook_ends_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    async def call() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def cell() -> None:
        run_async(call())

    join = threading.Thread.join

    def interrupted(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "join", join)
        join(thread, 0.2)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cell())
    assert ended == [True]


# Several endpoints


def share(urls: list[str], calls: int, retries: int = 0) -> list[Reply | CallError]:
    async def run() -> list[Reply | CallError]:
        outcomes: list[Reply | CallError] = []
        async with ChatPool(Store(), base_url=urls, api_key=KEY, retries=retries) as chat:
            for turn in range(calls):
                asked = request(str(turn))
                try:
                    outcomes.append(await chat.ask(call_key(request=asked), asked, affinity=turn))
                except CallError as error:
                    outcomes.append(error)
        return outcomes

    return run_async(run())


def test_endpoints_share_the_calls_by_affinity() -> None:
    with Endpoint() as one, Endpoint() as other:
        assert len(share([one.base_url, other.base_url], 6)) == 6
    assert (one.requests, other.requests) == (3, 3)


def test_an_endpoint_that_is_down_is_skipped_and_then_tried_last() -> None:
    with Endpoint(faults=Faults(1.0, ("500",))) as down, Endpoint() as up:
        outcomes = share([down.base_url, up.base_url], 6)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert (down.requests, up.requests) == (1, 6)


def test_an_endpoint_that_refuses_every_call_is_not_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Endpoint(api_key="another") as wrong, Endpoint(api_key=KEY) as right:
        outcomes = share([wrong.base_url, right.base_url], 4)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert (wrong.requests, right.requests) == (1, 4)
    assert f"{wrong.base_url} is not asked any more" in caplog.text
    assert KEY not in caplog.text


def test_when_every_endpoint_refuses_no_further_call_is_made() -> None:
    with Endpoint(api_key="another") as one, Endpoint(api_key="other") as two:
        first, *others = share([one.base_url, two.base_url], 3)
    assert isinstance(first, EndpointError)
    assert all(isinstance(other, SkippedError) for other in others)
    assert (one.requests, two.requests) == (1, 1)


def test_an_error_that_every_endpoint_would_return_is_requested_once() -> None:
    overflow = [refusal(400, "context_length_exceeded", "Too long.")]
    with Endpoint(answers=overflow) as one, Endpoint() as two:
        (outcome,) = share([one.base_url, two.base_url], 1)
    assert isinstance(outcome, ContextOverflowError)
    assert two.requests == 0


# The same call twice


def test_the_same_call_in_flight_twice_is_made_once() -> None:
    async def run(url: str) -> tuple[list[Reply], int]:
        async with ChatPool(Store(), base_url=url, api_key=KEY) as pool:
            key = call_key(request=request())
            replies = await asyncio.gather(*(pool.ask(key, request()) for _ in range(5)))
            return replies, pool.usage.calls

    with Endpoint(delay=0.1) as server:
        replies, calls = run_async(run(server.base_url))
    assert server.requests == calls == 1
    assert len({reply.text for reply in replies}) == 1


def test_an_error_is_raised_for_every_task_that_waits_for_the_call() -> None:
    async def run(url: str) -> list[Reply | BaseException]:
        async with ChatPool(Store(), base_url=url, api_key=KEY, retries=0) as pool:
            calls = (pool.ask("key", request()) for _ in range(3))
            return await asyncio.gather(*calls, return_exceptions=True)

    with Endpoint(answers=[refusal(400, None, "no such field")]) as server:
        outcomes = run_async(run(server.base_url))
    assert all(isinstance(outcome, CallError) for outcome in outcomes)
    assert server.requests == 1


def test_a_waiting_task_makes_the_call_if_the_calling_task_is_cancelled() -> None:
    async def run(url: str) -> Reply:
        async with ChatPool(Store(), base_url=url, api_key=KEY) as pool:
            first = asyncio.create_task(pool.ask("key", request()))
            second = asyncio.create_task(pool.ask("key", request()))
            while not server.requests:
                await asyncio.sleep(0.01)
            first.cancel()
            return await second

    with Endpoint(delay=0.2) as server:
        assert run_async(run(server.base_url)).text


# Release 0.1.0


def test_a_reply_stored_by_release_0_1_0_is_read() -> None:
    fields = "text model finish_reason refusal prompt_tokens completion_tokens retries stored"
    old = {name: vars(REPLY)[name] for name in fields.split()}
    key = call_key(prompt="p")
    Store().put(key, REPLY)
    (file,) = stored()
    file.write_text(json.dumps(old))
    assert Store().get(key) == Reply("Good. 好。\ud800", "m", "stop", None, 10, 2, retries=1)


def test_a_call_is_found_under_its_key_or_under_that_of_release_0_1_0() -> None:
    call = CallId({"judge": "m"}, legacy={"base_url": "http://host:1/v1"})
    assert call.keys(2) == (
        call_key(judge="m", ask=2),
        call_key(judge="m", base_url="http://host:1/v1", ask=2),
    )
    Store().put(call.keys(1)[1], REPLY)
    Store().put(call.keys(2)[0], REPLY)
    assert len(list(Store().replies(call))) == 2


# Rate limits of several endpoints


def test_a_long_pause_of_one_endpoint_sends_its_calls_to_the_others() -> None:
    slow_down = MockReply(status=429, headers={"Retry-After": "3600"})
    with Endpoint(on_request=lambda _: slow_down) as limited, Endpoint() as free:
        outcomes = share([limited.base_url, free.base_url], 4, retries=3)
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert (limited.requests, free.requests) == (1, 4)


# Many calls, few answers


def outcomes_of(pool_options: dict[str, Any], calls: int) -> tuple[list[Any], float]:
    """The outcomes of `calls` simultaneous calls, and the seconds they took."""

    async def work() -> list[Any]:
        async with ChatPool(Store(), api_key=KEY, **pool_options) as chat:
            asked = (
                chat.ask(call_key(n=n), request(f"Prompt {n}."), affinity=n) for n in range(calls)
            )
            return await asyncio.gather(*asked, return_exceptions=True)

    start = time.monotonic()
    outcomes = run_async(work())
    return outcomes, time.monotonic() - start


def test_every_call_succeeds_at_a_busy_endpoint() -> None:
    """Refusals far exceed the retries, but do not count while the endpoint answers other calls."""
    answered: list[float] = []

    def busy(_: Any) -> MockReply | None:
        now = time.monotonic()
        if sum(at > now - 0.1 for at in answered) >= 4:  # 40 a second
            headers = {"Retry-After": "0.1"}
            return MockReply(status=429, body={"error": {"message": "Slow."}}, headers=headers)
        answered.append(now)
        return None

    with Endpoint(on_request=busy) as server:
        outcomes, _ = outcomes_of({"base_url": server.base_url, "retries": 2}, 80)
        assert all(isinstance(outcome, Reply) for outcome in outcomes)


def test_a_hanging_url_costs_one_timeout_in_total() -> None:
    hanging, working = Endpoint(faults=Faults(1.0, ("hang",))), Endpoint()
    with hanging, working:
        urls = [hanging.base_url, working.base_url]

        async def rounds() -> list[Any]:
            async with ChatPool(Store(), base_url=urls, api_key=KEY, timeout=0.5) as chat:
                done = []
                for batch in range(5):
                    asked = (
                        chat.ask(call_key(n=(batch, n)), request(f"{batch} {n}"), affinity=n)
                        for n in range(8)
                    )
                    done += await asyncio.gather(*asked, return_exceptions=True)
                return done

        start = time.monotonic()
        outcomes = run_async(rounds())
        assert time.monotonic() - start < 2
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert hanging.requests == 4  # the calls of the first round that it was sent


def test_a_dead_url_costs_no_waiting() -> None:
    with Endpoint() as working:
        urls = ["http://127.0.0.1:9/v1", working.base_url]
        outcomes, seconds = outcomes_of({"base_url": urls}, 20)
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert seconds < 5


def test_one_url_that_never_answers_ends_all_calls_after_two_timeouts() -> None:
    with Endpoint(faults=Faults(1.0, ("hang",))) as hanging:

        async def work() -> list[Any]:
            async with ChatPool(
                Store(), base_url=hanging.base_url, api_key=KEY, timeout=0.3
            ) as chat:
                first = await asyncio.gather(
                    *(chat.ask(call_key(n=n), request(f"{n}")) for n in range(4)),
                    return_exceptions=True,
                )
                assert chat.is_fatal
                with pytest.raises(SkippedError):
                    await chat.ask(call_key(n=9), request("9"))
                return first

        assert {type(outcome) for outcome in run_async(work())} == {EndpointError}


def test_each_url_gets_its_own_key() -> None:
    with Endpoint(api_key="one") as first, Endpoint(api_key="two") as second:
        urls = [first.base_url, second.base_url]

        async def work() -> list[Any]:
            async with ChatPool(Store(), base_url=urls, api_key=["one", "two"]) as chat:
                asked = (chat.ask(call_key(n=n), request(f"{n}"), affinity=n) for n in range(4))
                return await asyncio.gather(*asked)

        assert len(run_async(work())) == 4
        assert (first.requests, second.requests) == (2, 2)
