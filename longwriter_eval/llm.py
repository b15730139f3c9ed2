"""The one chat client, and the on-disk store of finished calls.

A call that has finished is on disk before anything else happens, under a key that says what was
asked; asking the same again reads it back and pays nothing.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from longwriter_eval.assets import cache_dir, sha256, write_atomically
from longwriter_eval.endpoint import (
    NOT_A_URL,
    CallError,
    ContextOverflowError,
    Endpoint,
    EndpointError,
    NotAskedError,
    RefusedError,
    Reply,
    new_session,
    public_url,
)
from longwriter_eval.errors import InputError

__all__ = [
    "NOT_A_URL",
    "CallError",
    "Chat",
    "ContextOverflowError",
    "EndpointError",
    "NotAskedError",
    "RefusedError",
    "Reply",
    "Store",
    "Usage",
    "call_key",
    "for_each",
    "public_url",
    "run_async",
]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_RETRIES = 10
_REST = 60.0  # seconds that an endpoint which failed is asked last, where there are others


def call_key(**parts: Any) -> str:
    """The store's key for what was asked: a SHA-256 over its parts."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True))


class Store:
    """Finished calls, one small file each, below `folder`.

    Files, not a database: they are written whole or not at all, several processes may share them,
    they work on network file systems, and one bad file spoils one call.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_dir() / "calls"
        # what to do where it cannot be written
        self.advice = "free space there" if folder else "free space there, or set LONGWRITER_CACHE"

    def check(self) -> None:
        """Raise InputError unless calls can be written and read here."""
        probe = self.folder / ".probe"
        try:
            write_atomically(probe, b"")
            probe.read_bytes()
        except OSError as error:
            raise InputError(
                f"cannot keep finished calls in {self.folder} ({error.strerror}): free or repair "
                "it, or set LONGWRITER_CACHE to a folder that can be written"
            ) from error

    def get(self, key: str) -> Reply | None:
        """The reply kept under `key`, or None. A file that cannot be read counts as none."""
        path = self._path(key)
        try:
            kept = json.loads(path.read_bytes())
            reply = Reply(**{name: kept[name] for name in Reply.__dataclass_fields__})
            if not isinstance(reply.text, str) or not isinstance(reply.refusal, str | None):
                raise TypeError("not a reply")
            return reply
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            _log.warning("cannot read %s (%s): the call is made again", path, error)
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep `reply` under `key`. Raises OSError, as when the disk is full."""
        kept = {**vars(reply), "stored": True}
        write_atomically(self._path(key), json.dumps(kept).encode())

    async def fetch(self, key: str) -> Reply | None:
        """As `get`: a small file is read before another task would have begun."""
        return self.get(key)

    async def keep(self, key: str, reply: Reply) -> None:
        """As `put`, while other calls go on, and to its end even where this is cancelled."""
        # Not to_thread: its task, and so what waits for a thread, is cancelled by Ctrl-C. What is
        # in the executor is written before the loop closes.
        writing = asyncio.get_running_loop().run_in_executor(None, self.put, key, reply)
        await asyncio.shield(writing)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


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
class _Turn:
    """An endpoint, and whether it is worth asking."""

    endpoint: Endpoint
    vain: str | None = None  # why no further call to it is worth making
    rests_until: float = 0.0  # on the monotonic clock


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
        self._vain: str | None = None  # why no further call is worth making
        urls = [base_url] if base_url is None or isinstance(base_url, str) else base_url
        self._turns = [_Turn(Endpoint(url, api_key, retries)) for url in urls or [None]]

    async def __aenter__(self) -> Self:
        self._session = new_session()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    @property
    def is_vain(self) -> bool:
        """Whether no further call will be made: every endpoint refuses, or the disk is full."""
        return bool(self._vain)

    async def kept(self, key: str) -> Reply | None:
        """The reply that the store has under `key`, or None."""
        return await self._store.fetch(key)

    async def ask(self, key: str, request: Mapping[str, Any], *, turn: int = 0) -> Reply:
        """Make one chat completion call, and return once its reply is in the store under `key`.

        `request` holds the call's own fields (model, messages, temperature, …). `turn` chooses
        among several endpoints: calls of one turn share the prefix cache of one server. Raises
        CallError. After an EndpointError of every endpoint, or a store that cannot be written, no
        further call is made.
        """
        if self._vain:
            raise NotAskedError(self._vain)
        reply = await self._ask_in_turn(request, turn)
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
        if not self._vain:
            _log.error("no further call is made: %s", why)
        self._vain = why

    async def _ask_in_turn(self, request: Mapping[str, Any], turn: int) -> Reply:
        """The reply of the first endpoint that gives one; those that just failed come last."""
        first, now = turn % len(self._turns), time.monotonic()
        in_turn = [*self._turns[first:], *self._turns[:first]]
        failure: CallError | None = None
        for each in sorted(in_turn, key=lambda each: each.rests_until > now):
            if each.vain:
                continue
            try:
                return await each.endpoint.ask(self._session, request)
            except (ContextOverflowError, RefusedError):
                raise  # any other would say the same
            except EndpointError as error:
                failure, each.vain = error, str(error)
                if all(other.vain for other in self._turns):
                    self.give_up(str(error))
                    raise
                _log.error("%s is not asked any more: %s", each.endpoint.url, error)
            except CallError as error:
                failure, each.rests_until = error, time.monotonic() + _REST
        raise failure or NotAskedError(self._vain or "no endpoint is left")


async def for_each(
    items: Iterable[_T], work: Callable[[_T], Awaitable[None]], concurrency: int
) -> None:
    """Run `work` on every item, `concurrency` at a time, drawing items only as workers free up.

    What `work` raises first ends the others and is raised here.
    """
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker())
                await asyncio.sleep(0)  # the first call is sent before the last worker begins
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def run_async(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, also from inside a running event loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    started: Future[Callable[[], Any]] = Future()  # how to cancel, from another thread
    outcome: Future[_T] = Future()

    async def run() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task
        started.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        return await coroutine

    def work() -> None:
        try:
            outcome.set_result(asyncio.run(run()))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        thread.join()
    except BaseException:  # Ctrl-C must not leave calls going on, and being paid for
        started.result()()
        thread.join()
        raise
    return outcome.result()
