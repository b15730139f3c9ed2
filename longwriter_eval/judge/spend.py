"""A chat pool that enforces a limit on the cost of judging."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from longwriter_core.llm import ChatPool, Reply, SkippedError
from longwriter_core.llm.profiles import Prices

# If the judge's first replies are all cut, its token limit is too low, and further replies would
# cost money without giving a verdict.
CUT_REPLIES = 10


def max_tokens_of(text: str) -> int:
    """An upper bound on the tokens in `text`: tokenizers make at most one token per byte."""
    return len(text.encode("utf-8", "surrogatepass"))


def estimate_tokens(text: str) -> int:
    """A rough token count of `text`: one per 4 ASCII characters, one per other character."""
    others = len(text) - (ascii_characters := sum(map(str.isascii, text)))
    return ascii_characters // 4 + others


class JudgePool(ChatPool):
    """A judge's endpoint, which stops at the spending limit or when every reply is cut.

    Calls in flight count at their maximum cost. A call that might exceed the limit waits for the
    calls in flight, which may turn out cheaper. Judging stops if it still exceeds the limit.
    """

    def __init__(
        self,
        *args: Any,
        prices: Prices | None = None,
        max_cost: float | None = None,
        limit: int = 0,  # tokens of a reply
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._prices, self._max_cost, self._limit = prices, max_cost, limit
        self.spent = 0.0  # USD
        self._reserved = 0.0
        self._settled = asyncio.Condition()
        self._cut = self._whole = 0

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        """Like ChatPool.ask; raises SkippedError if the call might cost more than is left."""
        if self._max_cost is None or not self._prices:
            reply = await super().ask(key, request, affinity=affinity)
            self._count(reply)
            return reply
        prompt = max_tokens_of(json.dumps(request, ensure_ascii=False))
        most = self._prices.cost(prompt, self._limit)
        async with self._settled:
            while self.spent + self._reserved + most > self._max_cost:
                if not self._reserved:
                    self.give_up(
                        f"${self.spent:.4f} of max_cost ${self._max_cost:g} are spent, and the "
                        f"next call may cost ${most:.4f}; everything is kept, and a rerun with a "
                        "higher max_cost continues"
                    )
                    raise SkippedError("max_cost is reached")
                await self._settled.wait()
            self._reserved += most
        cost = most  # a failed call may have been charged, so it counts at its maximum
        try:
            reply = await super().ask(key, request, affinity=affinity)
            cost = self._cost(reply, prompt)
            self._count(reply)
            return reply
        except SkippedError:
            cost = 0.0
            raise
        finally:
            self._reserved = max(0.0, self._reserved - most)
            if self._reserved < 1e-12:
                self._reserved = 0.0
            self.spent += cost
            # a new task takes the condition's lock, because a cancelled task must not wait here
            asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self) -> None:
        async with self._settled:
            self._settled.notify_all()

    def _cost(self, reply: Reply, prompt: int) -> float:
        assert self._prices
        prompt = prompt if reply.prompt_tokens is None else reply.prompt_tokens
        written = self._limit if reply.completion_tokens is None else reply.completion_tokens
        return self._prices.cost(prompt, written, reply.cached_tokens or 0)

    def _count(self, reply: Reply) -> None:
        self._cut, self._whole = self._cut + reply.is_cut, self._whole + (not reply.is_cut)
        if self._cut >= CUT_REPLIES and not self._whole:
            self.give_up(
                f"the first {self._cut} replies were all cut at the limit of {self._limit} tokens: "
                "raise judge_max_tokens, or choose a profile that leaves room for thinking "
                "(`longwriter judges`)"
            )
