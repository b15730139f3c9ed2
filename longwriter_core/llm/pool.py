"""Several endpoints of one model, with the store behind them."""

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from longwriter_core.llm.budget import Budget
from longwriter_core.llm.client import Endpoint, Reply
from longwriter_core.llm.errors import (
    BudgetError,
    CallError,
    ContextOverflowError,
    EndpointError,
    RefusedError,
    SkippedError,
)
from longwriter_core.llm.store import Store

_log = logging.getLogger(__name__)

RETRIES = 10  # of one call, after its first try
# Seconds during which other endpoints are preferred to one that failed; each further failure
# doubles them. Then one call tries it, and the others wait for what becomes of that.
_COOLDOWN, _MAX_COOLDOWN = 60.0, 3_600.0


@dataclass
class Usage:
    """Calls that were made, and so paid for, with their tokens by the endpoint's count."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, reply: Reply) -> None:
        """Count a call."""
        self.calls += 1
        self.prompt_tokens += reply.prompt_tokens or 0
        self.completion_tokens += reply.completion_tokens or 0


@dataclass
class _Member:
    """An endpoint, and whether it is worth asking."""

    endpoint: Endpoint
    fatal: str | None = None  # why no further call to it is worth making
    cooldown_until: float = 0.0  # on the monotonic clock
    failures: int = 0  # since its last reply
    failed_at: float = 0.0

    def ready_in(self) -> float:
        """Seconds until the endpoint should be asked before others; 0 if it can be asked now."""
        return max(0.0, self.cooldown_until - time.monotonic(), self.endpoint.limiter.pause_left)

    def begin_try(self) -> None:
        """While one call finds out whether a failed endpoint is back, others ask elsewhere."""
        if self.failures and not self.ready_in():
            self.cooldown_until = math.inf

    def succeeded(self) -> None:
        """The endpoint has replied."""
        self.failures, self.cooldown_until = 0, 0.0

    def failed(self, sent_at: float) -> None:
        """Prefer others for a while. Calls that failed together count once."""
        if sent_at >= self.failed_at:
            self.failures, self.failed_at = self.failures + 1, time.monotonic()
        pause = min(_COOLDOWN * 2 ** min(self.failures - 1, 10), _MAX_COOLDOWN)
        self.cooldown_until = time.monotonic() + pause


class ChatPool:
    """OpenAI-compatible endpoints, with a store in front: `async with ChatPool(...) as pool`.

    `api_key`, or one for each base URL, never appears in a message, a reply or a file. `timeout` is
    the seconds that a reply of up to 4,096 tokens may take; longer ones have longer. `retries`
    bounds the tries of one call beyond the first. Several base URLs serve the same model and share
    the calls; where one fails, the next is asked. No call is made that could exceed `budget`.
    """

    def __init__(
        self,
        store: Store,
        *,
        base_url: str | Sequence[str] | None,
        api_key: str | Sequence[str],
        retries: int = RETRIES,
        timeout: float | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._store, self._budget = store, budget
        self.usage = Usage()
        self._fatal: str | None = None  # why no further call is worth making
        self._in_flight: dict[str, asyncio.Future[Reply]] = {}  # by the store's key
        given = [base_url] if base_url is None or isinstance(base_url, str) else base_url
        urls = list(given) or [None]
        keys = [api_key] * len(urls) if isinstance(api_key, str) else api_key
        self._members = [
            _Member(Endpoint(url, key, retries, timeout))
            for url, key in zip(urls, keys, strict=True)
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        for member in self._members:
            await member.endpoint.close()

    @property
    def is_fatal(self) -> bool:
        """Whether no further call will be made: every endpoint refuses, or the disk is full."""
        return bool(self._fatal)

    async def stored(self, *keys: str) -> Reply | None:
        """The reply under the first of `keys` that the store has, or None."""
        return await self._store.fetch(*keys)

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        """Make one chat completion call, and return once its reply is in the store under `key`.

        `request` holds the call's own fields (model, messages, temperature, …). `affinity` chooses
        among several endpoints: calls of one affinity share the prefix cache of one server. Raises
        CallError. After an EndpointError of every endpoint, or a store that cannot be written, no
        further call is made.
        """
        while key in self._in_flight:  # the same call is made once, however many wait for it
            try:
                return await asyncio.shield(self._in_flight[key])
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) and task.cancelling():
                    raise
                # not this task was cancelled, but the one that made the call: make it here
        future = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            reply = await self._ask_and_save(key, request, affinity)
            future.set_result(reply)
            return reply
        except CallError as error:
            future.set_exception(error)
            future.exception()  # nobody needs to be waiting: without this, asyncio would complain
            raise
        finally:
            del self._in_flight[key]
            future.cancel()  # no effect once it is done

    async def _ask_and_save(self, key: str, request: Mapping[str, Any], affinity: int) -> Reply:
        if self._fatal:
            raise SkippedError(self._fatal)
        if self._budget:
            try:
                reply = await self._budget.spend(
                    request, lambda: self._ask_in_order(request, affinity)
                )
            except BudgetError as error:
                self.give_up(str(error))
                raise
        else:
            reply = await self._ask_in_order(request, affinity)
        self.usage.add(reply)
        try:
            await self._store.save(key, reply)
        except OSError as error:
            # The reply is paid for, so the caller gets it; further ones would be lost.
            self.give_up(
                f"cannot write to {self._store.folder} ({error.strerror}): {self._store.advice}"
            )
        return reply

    def give_up(self, why: str) -> None:
        """Make no further call; say so once, though many calls in flight may find out."""
        if not self._fatal:
            _log.error("no further call is made: %s", why)
        self._fatal = why

    async def _ask_in_order(self, request: Mapping[str, Any], affinity: int) -> Reply:
        """The reply of the first endpoint that gives one; those that just failed come last."""
        first = affinity % len(self._members)
        in_order = [*self._members[first:], *self._members[:first]]
        failure: CallError | None = None
        for member in sorted(in_order, key=_Member.ready_in):
            if member.fatal:
                continue
            others = (other for other in self._members if other is not member)
            has_other = any(not other.fatal and not other.ready_in() for other in others)
            sent_at = time.monotonic()
            member.begin_try()
            try:
                reply = await member.endpoint.ask(request, _COOLDOWN if has_other else math.inf)
                member.succeeded()
                return reply
            except (ContextOverflowError, RefusedError):
                member.succeeded()
                raise  # any other would say the same
            except asyncio.CancelledError:
                if member.cooldown_until == math.inf:
                    member.failed(sent_at)
                raise
            except EndpointError as error:
                failure, member.fatal = error, str(error)
                if all(member.fatal for member in self._members):
                    self.give_up(str(error))
                    raise
                _log.error("%s is not asked any more: %s", member.endpoint.url, error)
            except CallError as error:
                failure = error
                member.failed(sent_at)
        raise failure or SkippedError(self._fatal or "no endpoint is left")
