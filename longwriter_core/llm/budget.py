"""A cost limit for calls. It also covers calls that are still in flight."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from longwriter_core.llm.client import Reply
from longwriter_core.llm.errors import BudgetError, CallError, SkippedError
from longwriter_core.llm.profiles import Prices, money

_UNLIMITED_REPLY = 32_768  # tokens counted for a reply where the request sets no limit


class Budget:
    """At most `usd` for the calls of all pools that share it, by list prices.

    A call in flight counts at its maximum: its prompt, and a reply up to its token limit. A call
    that does not fit waits, because calls in flight may cost less than their maximum. If it still
    does not fit when no call is in flight, it raises BudgetError. A try whose answer was lost may
    have been charged: it counts at its maximum, and the next try of the call must fit as well.
    `option` is its name in messages.
    """

    def __init__(self, usd: float, option: str = "--max-cost") -> None:
        self.limit, self.spent = usd, 0.0
        self._option = option
        self._reserved: dict[object, float] = {}  # by call in flight
        self._changed = asyncio.Event()

    async def spend(
        self,
        maximum: float,
        call: Callable[[Callable[[CallError], Awaitable[None]]], Awaitable[Reply]],
        cost: Callable[[Reply], float],
    ) -> Reply:
        """Make the call once `maximum`, the most that it can cost, fits; record its `cost`.

        `call` gets a function to await before it repeats a try that has failed.
        """
        key = object()

        async def before_retry(error: CallError) -> None:
            if error.may_be_charged:
                self._settle(key, maximum)
                await self._reserve(key, maximum)

        await self._reserve(key, maximum)
        paid = maximum  # a call without an answer may have been charged
        try:
            reply = await call(before_retry)
            paid = cost(reply)
            return reply
        except SkippedError:
            paid = 0.0
            raise
        except CallError as error:
            paid = maximum if error.may_be_charged else 0.0
            raise
        finally:
            self._settle(key, paid)

    async def _reserve(self, key: object, maximum: float) -> None:
        """Wait until a call fits. Raises BudgetError if it never will."""
        while self.spent + sum(self._reserved.values()) + maximum > self.limit:
            if not self._reserved:
                raise BudgetError(
                    f"{self._option} {money(self.limit)}: {money(self.spent)} are spent, and the "
                    f"next call could cost {money(maximum)}; everything is kept, and a rerun with "
                    "a higher limit continues"
                )
            await self._changed.wait()
        self._reserved[key] = maximum

    def _settle(self, key: object, paid: float) -> None:
        """Replace what is reserved for a call, if anything is, by what it has cost."""
        if self._reserved.pop(key, None) is not None:
            self.spent += paid
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def max_tokens_of(text: str) -> int:
    """An upper bound on the tokens in `text`: tokenizers make at most one token per byte."""
    return len(text.encode("utf-8", "surrogatepass"))


def max_cost_of(request: Mapping[str, Any], prices: Prices) -> float:
    """The most that a call can cost, in USD."""
    prompt = max_tokens_of(json.dumps(request, ensure_ascii=False))
    return prices.cost(prompt, _max_reply(request))


def cost_of(request: Mapping[str, Any], reply: Reply, prices: Prices) -> float:
    """What a call has cost, in USD: the maximum, where the endpoint counts no tokens."""
    prompt, written = reply.prompt_tokens, reply.completion_tokens
    if prompt is None:
        prompt = max_tokens_of(json.dumps(request, ensure_ascii=False))
    if written is None:
        written = _max_reply(request)
    return prices.cost(prompt, written, reply.cached_tokens or 0)


def _max_reply(request: Mapping[str, Any]) -> int:
    limit = request.get("max_tokens") or request.get("max_completion_tokens")
    return limit if isinstance(limit, int) else _UNLIMITED_REPLY
