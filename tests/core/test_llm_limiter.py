"""The rate limiter: 429s lower the concurrency, successes raise it, Retry-After pauses calls."""

import asyncio
import math
import time

import pytest
from support.endpoint import KEY, completion, request

from longwriter_core.llm import ChatPool, Store, call_key, for_each, run_async
from longwriter_core.llm.answers import retry_after
from longwriter_core.llm.limiter import RateLimiter
from longwriter_core.mock_server import MockReply, MockRequest, MockServer


def in_flight(limiter: RateLimiter, number: int) -> list[float]:
    """Start `number` calls; return the times at which they were sent."""

    async def run() -> list[float]:
        return [await limiter.acquire() for _ in range(number)]

    return run_async(run())


def test_without_a_429_nothing_is_limited() -> None:
    limiter = RateLimiter("server")
    in_flight(limiter, 1000)
    limiter.succeeded()
    assert limiter.limit == math.inf


def test_every_429_takes_a_slot_down_to_half_of_the_calls_in_flight() -> None:
    limiter = RateLimiter("server")
    sent = in_flight(limiter, 100)
    for sent_at in sent[:30]:
        limiter.refused(sent_at)
    assert limiter.limit == 70
    for sent_at in sent[30:]:
        limiter.refused(sent_at)
    assert limiter.limit == 50


def test_the_limit_never_falls_below_one() -> None:
    limiter = RateLimiter("server")
    for _ in range(10):
        (sent_at,) = in_flight(limiter, 1)
        limiter.refused(sent_at)
        limiter.release()
    assert limiter.limit == 1


def test_successes_raise_the_limit_again() -> None:
    limiter = RateLimiter("server")
    for sent_at in in_flight(limiter, 100):
        limiter.refused(sent_at)
    for _ in range(500):
        limiter.succeeded()
    assert 75 < limiter.limit < 100


def test_a_waiting_call_starts_when_a_slot_is_free_and_passes_it_on_when_cancelled() -> None:
    async def run() -> int:
        limiter = RateLimiter("server")
        limiter.limit = 1
        await limiter.acquire()
        waiting = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await asyncio.sleep(0)
        limiter.release()
        waiting[0].cancel()  # it was woken, but has not yet run
        await asyncio.sleep(0.01)
        return sum(task.done() and not task.cancelled() for task in waiting)

    assert run_async(run()) == 1


def test_retry_after_pauses_all_calls_with_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limiter = RateLimiter("http://host/v1")
    for _ in range(50):
        limiter.pause(5400)
    assert caplog.text.count("http://host/v1 asks to wait for 90 minutes") == 1
    assert len(caplog.records) == 1
    assert limiter.pause_left == pytest.approx(5400, abs=5)


def test_a_pause_ends_for_all_calls_when_retry_after_says_so() -> None:
    refusals = 1

    def on_request(_: MockRequest) -> MockReply | None:
        nonlocal refusals
        refusals -= 1
        return MockReply(status=429, headers={"Retry-After": "1"}) if refusals >= 0 else None

    async def run(url: str) -> list[float]:
        ends: list[float] = []
        async with ChatPool(Store(), base_url=url, api_key=KEY) as pool:

            async def work(number: int) -> None:
                asked = request(f"{number}")
                await pool.ask(call_key(request=asked), asked)
                ends.append(time.monotonic())

            await work(0)
            await for_each(range(1, 5), work, 4)
        return ends

    with MockServer(on_request=on_request) as server:
        start = time.monotonic()
        ends = run_async(run(server.base_url))
    assert len(ends) == 5
    assert ends[0] - start >= 1


def test_more_calls_than_the_endpoint_allows_all_succeed_with_few_429s() -> None:
    in_flight = refused = 0

    async def run(url: str) -> int:
        async with ChatPool(Store(), base_url=url, api_key=KEY) as pool:

            async def work(number: int) -> None:
                asked = request(f"{number}")
                await pool.ask(call_key(request=asked), asked)

            await for_each(range(80), work, 40)
            return pool.usage.calls

    def on_request(_: MockRequest) -> MockReply | None:
        nonlocal in_flight, refused
        in_flight = server.stats().in_flight
        refused += in_flight > 10
        return MockReply(status=429) if in_flight > 10 else None

    with MockServer(on_request=on_request, delay=0.05) as server:
        assert run_async(run(server.base_url)) == 80
    assert 0 < refused < 160


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5, id="milliseconds-first"),
        pytest.param({"Retry-After": "86400"}, 86_400, id="a-day"),
        pytest.param({"retry-after-ms": "soon", "Retry-After": "3"}, 3, id="bad-milliseconds"),
        pytest.param(
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3.5s"},
            3_723.5, id="reset-of-requests",
        ),
        pytest.param(
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"},
            0.02, id="reset-of-tokens",
        ),
        pytest.param(
            {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "1m0s"},
            None, id="not-used-up",
        ),
        pytest.param(
            {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "later"},
            None, id="unreadable-reset",
        ),
    ],
)  # fmt: skip
def test_the_headers_of_a_refused_call_say_how_long_to_wait(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers) == seconds


def test_a_limit_that_a_success_has_used_up_pauses_the_next_call() -> None:
    used_up = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}
    replies = iter([{}, {"x-ratelimit-remaining-requests": "0"}, used_up])

    async def pauses(url: str) -> list[float]:
        async with ChatPool(Store(), base_url=url, api_key=KEY) as pool:
            left = []
            for number in range(3):
                await pool.ask(call_key(number=number), request())
                left.append(pool._members[0].endpoint.limiter.pause_left)
            return left

    def answer(_: MockRequest) -> MockReply:
        return MockReply(body=completion("Good."), headers=next(replies))

    with MockServer(on_request=answer, judge_reasoning_tokens=0) as server:
        *free, last = run_async(pauses(server.base_url))
    assert max(free) <= 0
    assert 300 < last <= 360


def test_pools_of_one_account_share_a_limiter_and_other_accounts_have_their_own() -> None:
    with MockServer() as server:

        async def ask() -> list[RateLimiter]:
            limiters = []
            for number, key in enumerate((KEY, KEY, "another")):
                chat = ChatPool(Store(), base_url=server.base_url, api_key=key)
                async with chat:
                    await chat.ask(call_key(number=number), request())
                    limiters.append(chat._members[0].endpoint.limiter)
            return limiters

        first, second, other = run_async(ask())
    assert first is second
    assert first is not other


@pytest.mark.slow
def test_thirty_calls_a_minute_are_enough_for_120_calls() -> None:
    """A minute of 3 seconds: 120 calls take three of them, and none is lost."""
    with MockServer(calls_per_minute=30, minute=3.0) as server:

        async def ask() -> list[str]:
            chat = ChatPool(Store(), base_url=server.base_url, api_key=KEY)
            texts: list[str] = []

            async def one(number: int) -> None:
                reply = await chat.ask(call_key(number=number), request(f"Text {number}."))
                texts.append(reply.text)

            async with chat:
                await for_each(range(120), one, 32)
            return texts

        start = time.monotonic()
        assert len(run_async(ask())) == 120
        elapsed = time.monotonic() - start
        assert server.stats().finished == 120
        refused = len(server.history) - 120
    assert 9 < elapsed < 16
    assert refused < 120
