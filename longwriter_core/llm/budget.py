"""A cost limit for calls. It also covers calls that are still in flight."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.llm.client import Reply
from longwriter_core.llm.errors import BudgetError
from longwriter_core.llm.profiles import cost, money

# Bytes of a request per token. Common tokenizers use more bytes per token, so the estimate is never
# below the number of prompt tokens that are charged.
_BYTES_PER_TOKEN = 2.5
_UNLIMITED_REPLY = 32_768  # tokens counted for a reply where the request sets no limit


class Budget:
    """At most `usd` for all calls, by list prices.

    A call in flight counts at its maximum: its prompt, and a reply up to its token limit. A call
    that does not fit waits, because calls in flight may cost less than their maximum. If it still
    does not fit when no call is in flight, it raises BudgetError. Raises InputError for a model
    without a price.
    """

    def __init__(self, usd: float, *models: str) -> None:
        self.limit, self.spent = usd, 0.0
        self._reserved: dict[object, float] = {}  # by call in flight
        self._changed = asyncio.Event()
        for model in models:
            if cost(model, 0, 0) is None:
                raise InputError(
                    f"--max-cost needs the price of {model}: name it in a file, and the file in "
                    'LONGWRITER_PRICES, like this:\n[mine.models]\n"MODEL" = [0.10, 0.40]'
                )

    async def spend(
        self, request: Mapping[str, Any], call: Callable[[], Awaitable[Reply]]
    ) -> Reply:
        """Make the call once it fits into the budget, and record its cost."""
        maximum, key = _maximum(request), object()
        while self.spent + sum(self._reserved.values()) + maximum > self.limit:
            if not self._reserved:
                raise BudgetError(
                    f"--max-cost {money(self.limit)}: {money(self.spent)} are spent, and the next "
                    f"call could cost {money(maximum)}"
                )
            await self._changed.wait()
        self._reserved[key] = maximum
        try:
            reply = await call()
            used = reply.prompt_tokens, reply.completion_tokens
            # without token counts from the endpoint, assume the maximum
            paid = None if None in used else cost(request["model"], used[0] or 0, used[1] or 0)
            self.spent += maximum if paid is None else paid
            return reply
        finally:
            del self._reserved[key]
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()


def _maximum(request: Mapping[str, Any]) -> float:
    """The maximum cost of a call, in USD."""
    prompt = len(json.dumps(request, ensure_ascii=False).encode("utf-8", "replace"))
    limit = request.get("max_tokens") or request.get("max_completion_tokens")
    reply = limit if isinstance(limit, int) else _UNLIMITED_REPLY
    return cost(request["model"], int(prompt / _BYTES_PER_TOKEN), reply) or 0.0
