"""Several endpoints of one model, with the store behind them."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from longwriter_core.llm.client import (
    CallError,
    ContextOverflowError,
    Endpoint,
    EndpointError,
    RefusedError,
    Reply,
    SkippedError,
    new_session,
)
from longwriter_core.llm.store import Store

_log = logging.getLogger(__name__)

_RETRIES = 10
_REST = 60.0  # seconds that an endpoint which failed is asked last, where there are others


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


class Chat:
    """An OpenAI-compatible endpoint, with a store in front. Use as `async with Chat(...) as chat`.

    `api_key` never appears in a message, a reply or a file. `retries` bounds the tries of one call
    beyond the first. Several base URLs serve the same model and share the calls; where one fails,
    the next is asked.
    """

    def __init__(
        self,
        store: Store,
        *,
        base_url: str | Sequence[str] | None,
        api_key: str,
        retries: int = _RETRIES,
    ) -> None:
        self._store = store
        self.usage = Usage()
        self._fatal: str | None = None  # why no further call is worth making
        urls = [base_url] if base_url is None or isinstance(base_url, str) else base_url
        self._members = [_Member(Endpoint(url, api_key, retries)) for url in urls or [None]]

    async def __aenter__(self) -> Self:
        self._session = new_session()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    @property
    def is_fatal(self) -> bool:
        """Whether no further call will be made: every endpoint refuses, or the disk is full."""
        return bool(self._fatal)

    async def kept(self, key: str) -> Reply | None:
        """The reply that the store has under `key`, or None."""
        return await self._store.fetch(key)

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        """Make one chat completion call, and return once its reply is in the store under `key`.

        `request` holds the call's own fields (model, messages, temperature, …). `affinity` chooses
        among several endpoints: calls of one affinity share the prefix cache of one server. Raises
        CallError. After an EndpointError of every endpoint, or a store that cannot be written, no
        further call is made.
        """
        if self._fatal:
            raise SkippedError(self._fatal)
        reply = await self._ask_in_order(request, affinity)
        self.usage.add(reply)
        try:
            await self._store.keep(key, reply)
        except OSError as error:
            # The reply is paid for, so the caller gets it; further ones could not be kept.
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
        first, now = affinity % len(self._members), time.monotonic()
        in_order = [*self._members[first:], *self._members[:first]]
        failure: CallError | None = None
        for each in sorted(in_order, key=lambda each: each.cooldown_until > now):
            if each.fatal:
                continue
            try:
                return await each.endpoint.ask(self._session, request)
            except (ContextOverflowError, RefusedError):
                raise  # any other would say the same
            except EndpointError as error:
                failure, each.fatal = error, str(error)
                if all(other.fatal for other in self._members):
                    self.give_up(str(error))
                    raise
                _log.error("%s is not asked any more: %s", each.endpoint.url, error)
            except CallError as error:
                failure, each.cooldown_until = error, time.monotonic() + _REST
        raise failure or SkippedError(self._fatal or "no endpoint is left")
