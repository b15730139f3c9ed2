"""Several endpoints that serve one model, with a store of finished calls."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from longwriter_core.errors import InputError
from longwriter_core.llm.batch import DISCOUNT, BatchQueue
from longwriter_core.llm.budget import Budget, cost_of, max_cost_of
from longwriter_core.llm.client import Endpoint, Reply
from longwriter_core.llm.errors import (
    BudgetError,
    CallError,
    ContextOverflowError,
    EndpointError,
    RefusedError,
    SkippedError,
)
from longwriter_core.llm.profiles import Prices, prices_of
from longwriter_core.llm.store import Store

_log = logging.getLogger(__name__)

RETRIES = 10  # of one call, after its first try
# Seconds during which other endpoints are preferred to one that failed; each further failure
# doubles the time. After it, one call tries the endpoint while other calls still avoid it.
_COOLDOWN, _MAX_COOLDOWN = 60.0, 3_600.0
_BeforeRetry = Callable[[CallError], Awaitable[None]]  # called with the failure


@dataclass
class Usage:
    """The calls made (and therefore paid for), and their tokens as counted by the endpoint."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0  # by list prices; 0 where they are unknown
    cached_tokens: int = 0  # of the prompts', where the endpoint has a prefix cache and says so

    def add(self, reply: Reply, usd: float) -> None:
        """Count a call that has cost `usd`."""
        prompt, completion = reply.prompt_tokens or 0, reply.completion_tokens or 0
        self.merge(Usage(1, prompt, completion, usd, reply.cached_tokens or 0))

    def merge(self, other: "Usage") -> None:
        """Add the calls of another pool."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class _Member:
    """An endpoint and its state."""

    endpoint: Endpoint
    fatal: str | None = None  # why every further call to it would fail
    cooldown_until: float = 0.0  # on the monotonic clock
    failures: int = 0  # since its last reply
    failed_at: float = 0.0

    def ready_in(self) -> float:
        """Seconds until the endpoint should be asked before others; 0 if it is ready now."""
        return max(0.0, self.cooldown_until - time.monotonic(), self.endpoint.limiter.pause_left)

    def begin_try(self) -> None:
        """Make other calls avoid a failed endpoint while one call tests whether it is back."""
        if self.failures and not self.ready_in():
            self.cooldown_until = math.inf

    def succeeded(self) -> None:
        """The endpoint has replied."""
        self.failures, self.cooldown_until = 0, 0.0

    def failed(self, sent_at: float) -> None:
        """Prefer other endpoints for a while. Calls that failed together count as one failure."""
        if sent_at >= self.failed_at:
            self.failures, self.failed_at = self.failures + 1, time.monotonic()
        pause = min(_COOLDOWN * 2 ** min(self.failures - 1, 10), _MAX_COOLDOWN)
        self.cooldown_until = time.monotonic() + pause


class ChatPool:
    """OpenAI-compatible endpoints, with a store in front: `async with ChatPool(...) as pool`.

    `api_key` is one key, or one per base URL; keys never appear in a message, a reply or a file.
    `timeout` is the seconds that a reply of up to 4,096 tokens may take; longer replies get more
    time. `retries` is the maximum number of retries per call. Several base URLs must serve the same
    model: they share the calls, and if one fails, the next is used. A call that could exceed
    `budget` at the list prices is not made; `prices` gives those of a model. With `batch`, the
    calls go through the batch API of the only endpoint. Only the first is direct, so that a wrong
    key or request shows at once and not in a day. Without `batch`, calls that an earlier run has
    submitted in one are still taken from there.
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
        prices: Callable[[str], Prices | None] = prices_of,
        batch: bool = False,
    ) -> None:
        self._store, self._budget, self._prices = store, budget, prices
        self.usage = Usage()
        self._fatal: str | None = None  # why every further call would fail
        self._fatal_since = 0.0  # on the monotonic clock
        self._in_flight: dict[str, asyncio.Future[Reply]] = {}  # by the store's key
        given = [base_url] if base_url is None or isinstance(base_url, str) else base_url
        urls = list(given) or [None]
        keys = [api_key] * len(urls) if isinstance(api_key, str) else api_key
        self._members = [
            _Member(Endpoint(url, key, retries, timeout))
            for url, key in zip(urls, keys, strict=True)
        ]
        if batch and len(urls) > 1:
            raise InputError("the batch API is used with one base URL, not with several")
        self._is_batch, self._is_proven = batch, False
        self._first_call = asyncio.Lock()
        self.batches = BatchQueue(self._members[0].endpoint, store)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.batches.close()
        for member in self._members:
            await member.endpoint.close()

    @property
    def is_busy(self) -> bool:
        """Whether calls are in flight."""
        return bool(self._in_flight)

    @property
    def refuses_schema(self) -> bool:
        """Whether an endpoint has refused a `response_format`, so that none is sent to it."""
        return not all(member.endpoint.takes_schema for member in self._members)

    @property
    def is_fatal(self) -> bool:
        """Whether the pool has stopped making calls: all endpoints refuse, or the disk is full."""
        return bool(self._fatal)

    @property
    def fatal(self) -> str | None:
        """Why the pool has stopped making calls, or None."""
        return self._fatal

    async def stored(self, *keys: str) -> Reply | None:
        """The reply under the first of `keys` that the store has, or None."""
        return await self._store.fetch(*keys)

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        """Make one chat completion call and return its reply, which is then stored under `key`.

        `request` holds the call's fields (model, messages, temperature, …). `affinity` chooses one
        of several endpoints: calls with the same affinity share one server's prefix cache. Raises
        CallError. The pool makes no further calls once every endpoint has raised an EndpointError
        or the store cannot be written.
        """
        while key in self._in_flight:  # identical calls in flight share one request
            try:
                return await asyncio.shield(self._in_flight[key])
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) and task.cancelling():
                    raise
                # the task that made the call was cancelled, not this one: make the call here
        future = self._in_flight[key] = asyncio.get_running_loop().create_future()
        try:
            reply = await self._ask_and_save(key, request, affinity)
            future.set_result(reply)
            return reply
        except CallError as error:
            future.set_exception(error)
            future.exception()  # otherwise asyncio warns if no task waits for the future
            raise
        finally:
            del self._in_flight[key]
            future.cancel()  # no effect once it is done

    async def _ask_and_save(self, key: str, request: Mapping[str, Any], affinity: int) -> Reply:
        if self._fatal:
            raise SkippedError(self._fatal)
        is_submitted = self._is_submitted(key)
        if self._is_batch and not is_submitted and not self._is_proven:
            async with self._first_call:
                if self._fatal:
                    raise SkippedError(self._fatal)
                if not self._is_proven:
                    return await self._prove(key, request)
        return await self._spend_and_save(key, request, affinity, self._is_batch or is_submitted)

    async def _prove(self, key: str, request: Mapping[str, Any]) -> Reply:
        """Make the first call of a batch directly; without its reply, there is no batch."""
        try:
            reply = await self._spend_and_save(key, request, 0, is_batch=False)
        except (ContextOverflowError, RefusedError):
            self._is_proven = True  # they concern this prompt alone
            raise
        except CallError as error:
            self.give_up(str(error))
            raise
        self._is_proven = True
        return reply

    async def _spend_and_save(
        self, key: str, request: Mapping[str, Any], affinity: int, is_batch: bool
    ) -> Reply:
        async def send(before_retry: _BeforeRetry | None = None) -> Reply:
            if is_batch:
                return await self._ask_in_batch(key, request)
            return await self._ask_in_order(request, affinity, before_retry)

        prices = self._prices(request["model"])
        if prices and is_batch:
            prices = prices.scaled(DISCOUNT)
        if self._budget and prices:
            maximum, paid = max_cost_of(request, prices), partial(cost_of, request, prices=prices)
            try:
                reply = await self._budget.spend(maximum, send, paid)
            except BudgetError as error:
                self.give_up(str(error))
                raise
        else:
            reply = await send()
        self.usage.add(reply, cost_of(request, reply, prices) if prices else 0.0)
        if is_batch:
            return reply  # the batch's replies are stored already
        try:
            await self._store.save(key, reply)
        except OSError as error:
            # Return this reply, because it is paid for. Make no more calls: replies would be lost.
            self.give_up(self._unwritable(error))
        return reply

    def _is_submitted(self, key: str) -> bool:
        try:
            return self.batches.has(key)
        except EndpointError as error:
            self.give_up(str(error))
            raise

    async def _ask_in_batch(self, key: str, request: Mapping[str, Any]) -> Reply:
        try:
            return await self.batches.ask(key, request)
        except EndpointError as error:
            self.give_up(str(error))
            raise
        except OSError as error:  # the batch's replies stay at the endpoint until the next run
            self.give_up(self._unwritable(error))
            raise SkippedError(self._unwritable(error)) from error

    def _unwritable(self, error: OSError) -> str:
        return f"cannot write to {self._store.folder} ({error.strerror}): {self._store.advice}"

    def give_up(self, why: str) -> None:
        """Make no further calls, and log the reason once, even if many calls in flight fail."""
        if not self._fatal:
            _log.error("no further call is made: %s", why)
            self._fatal_since = time.monotonic()
        self._fatal = why

    def revive(self, after: float = 0.0) -> None:
        """Make calls again, if the pool has made none for `after` seconds.

        For servers, which outlive an outage. A key that is still wrong, or a budget that is still
        spent, ends the calls again at the next one.
        """
        if self._fatal and time.monotonic() - self._fatal_since >= after:
            self._fatal = None
            for member in self._members:
                member.fatal = None
                member.succeeded()

    async def _ask_in_order(
        self, request: Mapping[str, Any], affinity: int, before_retry: _BeforeRetry | None
    ) -> Reply:
        """The first reply of any endpoint; endpoints that failed recently are tried last."""
        first = affinity % len(self._members)
        in_order = [*self._members[first:], *self._members[:first]]
        failure: CallError | None = None
        for member in sorted(in_order, key=_Member.ready_in):
            if member.fatal:
                continue
            if failure and before_retry:
                await before_retry(failure)
            others = (other for other in self._members if other is not member)
            has_other = any(not other.fatal and not other.ready_in() for other in others)
            sent_at = time.monotonic()
            member.begin_try()
            try:
                patience = _COOLDOWN if has_other else math.inf
                reply = await member.endpoint.ask(request, patience, before_retry)
                member.succeeded()
                return reply
            except (ContextOverflowError, RefusedError):
                member.succeeded()
                raise  # every other endpoint would return the same error
            except asyncio.CancelledError:
                if member.cooldown_until == math.inf:
                    member.failed(sent_at)
                raise
            except SkippedError:
                member.failed(sent_at)  # by its last try, after which the budget is used up
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
