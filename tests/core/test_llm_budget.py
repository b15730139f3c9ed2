"""One cost limit for all pools that share it: calls in flight count at their maximum."""

import asyncio
from dataclasses import replace

import pytest
from support.endpoint import KEY, Endpoint, completion, request

from longwriter_core.llm import Budget, BudgetError, CallError, ChatPool, Reply, Store, run_async
from longwriter_core.llm.budget import cost_of, max_cost_of
from longwriter_core.llm.profiles import Prices
from longwriter_core.mock_server import MockReply

PRICES = Prices(prompt=1_000, cached=100, completion=1_000)  # $0.001 per token, cached $0.0001
REPLY = Reply("Good.", "m", "stop", None, 1_000, 50)


def pool(server: Endpoint, budget: Budget, *, batch: bool = False, retries: int = 0) -> ChatPool:
    return ChatPool(
        Store(), base_url=server.base_url, api_key=KEY, retries=retries, budget=budget,
        prices=lambda _model: PRICES, batch=batch,
    )  # fmt: skip


async def spend(chat: ChatPool, *texts: str, limit: int = 100) -> list[Reply | BaseException]:
    asked = ({**request(text), "max_tokens": limit} for text in texts)
    calls = (chat.ask(text.ljust(64, "-"), body) for text, body in zip(texts, asked, strict=True))
    async with chat:
        return await asyncio.gather(*calls, return_exceptions=True)


def test_cached_prompt_tokens_cost_their_own_price() -> None:
    whole = cost_of(request(), REPLY, PRICES)
    assert whole == pytest.approx(1.05)
    assert cost_of(request(), replace(REPLY, cached_tokens=800), PRICES) == pytest.approx(0.33)


def test_without_token_counts_a_call_costs_its_maximum() -> None:
    body = {**request("Hello."), "max_tokens": 100}
    uncounted = replace(REPLY, prompt_tokens=None, completion_tokens=None)
    assert cost_of(body, uncounted, PRICES) > 0.1


def test_pools_that_share_a_budget_stay_below_it_together() -> None:
    budget = Budget(1.0)
    with Endpoint(judge_reasoning_tokens=0, answers=[(200, completion("Good."))]) as server:
        first = run_async(spend(pool(server, budget), "a", "b"))
        spent = budget.spent
        second = run_async(spend(pool(server, budget), "c", "d", "e", "f"))
    assert all(isinstance(outcome, Reply) for outcome in first)
    assert 0 < spent < budget.spent <= 1.0
    assert {type(outcome) for outcome in second} == {Reply, BudgetError}


def test_a_call_that_does_not_fit_waits_for_cheaper_ones_in_flight() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    with Endpoint(judge_reasoning_tokens=0, delay=0.1) as server:
        server.on_request = lambda _: MockReply(body={**completion("Good."), "usage": usage})
        budget = Budget(0.5)  # two calls in flight at their maximum; each costs $0.015
        outcomes = run_async(spend(pool(server, budget), *"abcdef"))
        assert server.stats().max_in_flight <= 2
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    assert budget.spent == pytest.approx(6 * 0.015)


@pytest.mark.parametrize(
    ("answer", "is_charged"),
    [
        pytest.param(MockReply(status=400), False, id="an-error-is-free"),
        pytest.param(MockReply(fault="reset"), True, id="a-lost-reply-may-be-charged"),
    ],
)
def test_a_failed_call_counts_if_it_may_have_been_charged(
    answer: MockReply, is_charged: bool
) -> None:
    budget = Budget(10)
    with Endpoint(judge_reasoning_tokens=0, on_request=lambda _: answer) as server:
        (outcome,) = run_async(spend(pool(server, budget), "a"))
    assert isinstance(outcome, CallError)
    assert (budget.spent > 0) == is_charged


def test_every_try_whose_answer_is_lost_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longwriter_core.llm.client.random.uniform", lambda *_: 0)  # no pauses
    maximum = max_cost_of({**request("a"), "max_tokens": 100}, PRICES)
    lost, good = MockReply(fault="reset"), MockReply(body=completion("Good."))

    def outcome(limit: float) -> tuple[Reply | BaseException, float, int]:
        replies = iter([lost, MockReply(status=500), lost, good])
        budget = Budget(limit)
        with Endpoint(judge_reasoning_tokens=0, on_request=lambda _: next(replies)) as server:
            (reply,) = run_async(spend(pool(server, budget, retries=5), "a"))
        assert budget.spent <= limit
        Store()._path("a".ljust(64, "-")).unlink(missing_ok=True)
        return reply, budget.spent, server.requests

    reply, spent, tries = outcome(3 * maximum)
    assert isinstance(reply, Reply)
    assert (spent > 2 * maximum, tries) == (True, 4)
    reply, spent, tries = outcome(2.9 * maximum)
    assert isinstance(reply, BudgetError)
    assert (spent, tries) == (2 * maximum, 3)


def test_a_call_without_a_connection_is_free() -> None:
    with Endpoint() as server:
        pass
    budget = Budget(10)
    (outcome,) = run_async(spend(pool(server, budget), "a"))
    assert isinstance(outcome, CallError)
    assert budget.spent == 0


def test_a_call_of_a_batch_counts_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longwriter_core.llm.batch.QUIET", 0.05)
    usage = {"prompt_tokens": 100, "completion_tokens": 0}
    with Endpoint(judge_reasoning_tokens=0) as server:
        server.on_request = lambda asked: (
            MockReply(body={**completion("Good."), "usage": usage}) if asked.is_chat else None
        )
        chat = pool(server, Budget(100), batch=True)
        run_async(spend(chat, "a", "b", "c"))
    assert chat.usage.usd == pytest.approx(0.1 + 2 * 0.05)  # the first call is direct
