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
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import openai

from longwriter_eval.assets import cache_dir, sha256, write_atomically
from longwriter_eval.errors import InputError
from longwriter_eval.special_tokens import encodable

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Seconds for one reply: a section of 4,096 tokens from a slow server takes minutes.
_TIMEOUT, _TIMEOUT_TOKENS = 600.0, 4_096
_CONNECT_TIMEOUT = 30.0  # seconds until a host that does not answer at all counts as down
# The openai library waits 0.5, 1, 2, 4, 8, 8 … seconds between tries, or as long as Retry-After
# says, up to two minutes; ten retries ride out about a minute of a server that is down.
_RETRIES = 10
_REST = 60.0  # seconds that an endpoint which failed is asked last, where there are others

# As OpenAI, vLLM, llama.cpp, Anthropic and their gateways word it.
_OVERFLOW_SIGNS = (
    "context_length_exceeded",
    "context length",
    "context size",
    "context window",
    "prompt is too long",
    "too many tokens",
)
_FILTER_SIGNS = ("content_filter", "content_policy", "content management policy", "moderation")


class CallError(Exception):
    """A call that gave no reply. Everything that the openai library raises becomes one of these.

    CallError                 gave up after bounded retries; a later run may succeed
    ├── ContextOverflowError  the prompt does not fit the model's context
    ├── RefusedError          the endpoint's content filter declined
    ├── EndpointError         wrong key, unknown model, no such API: all calls would fail alike
    └── NotAskedError         not attempted, because an earlier call showed that it would be in vain
    """

    reason = "transport_error"


class ContextOverflowError(CallError):
    """The prompt does not fit the model's context."""

    reason = "context_overflow"


class RefusedError(CallError):
    """The endpoint's content filter declined."""

    reason = "refused"


class EndpointError(CallError):
    """Wrong key, unknown model, no credit, or not an API: every call would fail alike."""


class NotAskedError(CallError):
    """The call was not attempted."""

    reason = "not_asked"


@dataclass(frozen=True)
class Reply:
    """What an endpoint answered. Token counts are the endpoint's own, None where it gives none."""

    text: str
    model: str
    finish_reason: str | None
    refusal: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    retries: int = 0
    stored: bool = False  # read back from the store: no call was made


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
            reply = Reply(**{field.name: kept[field.name] for field in fields(Reply)})
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
        kept = asdict(replace(reply, stored=True))
        write_atomically(self._path(key), json.dumps(kept).encode())

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


@dataclass
class _Endpoint:
    """One base URL, and whether it is worth asking."""

    client: openai.AsyncOpenAI
    vain: str | None = None  # why no further call to it is worth making
    rests_until: float = 0.0  # on the monotonic clock

    @property
    def url(self) -> str:
        return public_url(str(self.client.base_url))


class Chat:
    """An OpenAI-compatible endpoint, with a store in front. Use as `async with Chat(...) as chat`.

    `api_key` never appears in a message, a reply or a file. `retries` bounds the openai library's
    own retries on 408, 409, 429, 5xx, time-outs and dropped connections. Several base URLs serve
    the same model and share the calls; where one fails, the next is asked.
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
        self._api_key = api_key
        self._vain: str | None = None  # why no further call is worth making
        urls = [base_url] if base_url is None or isinstance(base_url, str) else base_url
        self._endpoints = [_Endpoint(_client(url, api_key, retries)) for url in urls or [None]]

    async def __aenter__(self) -> "Chat":
        return self

    async def __aexit__(self, *exc: object) -> None:
        for endpoint in self._endpoints:
            await endpoint.client.close()

    @property
    def is_vain(self) -> bool:
        """Whether no further call will be made: every endpoint refuses, or the disk is full."""
        return bool(self._vain)

    def kept(self, key: str) -> Reply | None:
        """The reply that the store has under `key`, or None."""
        return self._store.get(key)

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
        try:
            await asyncio.to_thread(self._store.put, key, reply)
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
        first, now = turn % len(self._endpoints), time.monotonic()
        in_turn = [*self._endpoints[first:], *self._endpoints[:first]]
        failure: CallError | None = None
        for endpoint in sorted(in_turn, key=lambda each: each.rests_until > now):
            if endpoint.vain:
                continue
            try:
                return await self._call(endpoint, request)
            except (ContextOverflowError, RefusedError):
                raise  # any other would say the same
            except EndpointError as error:
                failure, endpoint.vain = error, str(error)
                if all(each.vain for each in self._endpoints):
                    self.give_up(str(error))
                    raise
                _log.error("%s is not asked any more: %s", endpoint.url, error)
            except CallError as error:
                failure, endpoint.rests_until = error, time.monotonic() + _REST
        raise failure or NotAskedError(self._vain or "no endpoint is left")

    async def _call(self, endpoint: _Endpoint, request: Mapping[str, Any]) -> Reply:
        retries = 0
        while True:
            try:
                raw = await endpoint.client.chat.completions.with_raw_response.create(**request)
            except (openai.OpenAIError, ValueError) as error:
                # "Connection error." alone does not tell a wrong host from a refused port
                cause = f" ({error.__cause__})" if error.__cause__ else ""
                raise _translated(error, self._scrub(f"{error}{cause}")) from error
            retries += raw.retries_taken
            if reply := _reply(raw, retries):
                return replace(
                    reply,
                    text=self._kept_out(reply.text),
                    model=self._kept_out(reply.model),
                    refusal=reply.refusal and self._kept_out(reply.refusal),
                )
            # Status 200 without a completion, such as a gateway's error page: the openai library
            # takes it for an answer, so the waiting and asking again is done here.
            if retries >= endpoint.client.max_retries:
                kind = raw.headers.get("content-type", "no content type")
                raise CallError(
                    f"{endpoint.url} answered with {kind} instead of a "
                    "chat completion: is the base URL right (most end in /v1)?"
                )
            await asyncio.sleep(min(0.5 * 2**retries, 8))
            retries += 1

    def _kept_out(self, text: str) -> str:
        """`text` without the key, which some servers echo, and fit to be written to a file."""
        return encodable(text.replace(self._api_key, "***"))

    def _scrub(self, message: str) -> str:
        """An error's message on one line, without the key."""
        return " ".join(self._kept_out(message).split())[:500]


def _client(base_url: str | None, api_key: str, retries: int) -> openai.AsyncOpenAI:
    """The openai library's client. Raises InputError for what is not a URL."""
    try:
        client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key,
            max_retries=retries,
            timeout=openai.Timeout(_TIMEOUT, connect=_CONNECT_TIMEOUT),
        )
        urlsplit(str(client.base_url)).port  # noqa: B018 - raises ValueError above 65535
    except Exception as error:  # a malformed URL raises the HTTP library's own types
        # the library's message may quote a password out of the URL
        raise InputError(
            f"cannot use {public_url(base_url or '')} as an endpoint "
            f"({type(error).__name__}): it must be a URL like https://host/v1"
        ) from error
    return client


def _reply(raw: Any, retries: int) -> Reply | None:
    """The reply that an endpoint's answer holds, or None where it is no chat completion.

    The openai library does not check what it parses: any field may be missing or of any type.
    """
    try:
        completion = raw.parse()
        choice, usage = completion.choices[0], completion.usage
        reply = Reply(
            text=choice.message.content or "",
            model=str(completion.model or ""),
            finish_reason=choice.finish_reason,
            refusal=choice.message.refusal,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            retries=retries,
        )
    except (openai.OpenAIError, ValueError, RecursionError, AttributeError, LookupError, TypeError):
        return None
    is_text = isinstance(reply.text, str) and isinstance(reply.refusal, str | None)
    return reply if is_text else None


def _translated(error: Exception, message: str) -> CallError:
    """The CallError that stands for what the openai library raised."""
    if not isinstance(error, openai.APIStatusError):
        return CallError(message)
    if error.code == "insufficient_quota":
        return EndpointError(message)
    if error.status_code in (400, 403, 413, 422):  # 403: how gateways report moderation
        signs = f"{error.code} {message}".lower()
        if any(sign in signs for sign in _OVERFLOW_SIGNS):
            return ContextOverflowError(message)
        if any(sign in signs for sign in _FILTER_SIGNS):
            return RefusedError(message)
    # bad key, no credit, forbidden, unknown model or path, not an API
    vain = error.status_code in (401, 402, 403, 404, 405)
    return EndpointError(message) if vain else CallError(message)


def reply_timeout(max_tokens: int) -> openai.Timeout:
    """How long to wait for a reply of so many tokens, as a request's `timeout`."""
    seconds = _TIMEOUT * max(1.0, max_tokens / _TIMEOUT_TOKENS)
    return openai.Timeout(seconds, connect=_CONNECT_TIMEOUT)


NOT_A_URL = "(not a URL)"


def public_url(url: str) -> str:
    """A URL without what may be secret: user, password and query. Of any other text, nothing."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:  # as where a password holds "/", so that part of it stands for a port
        pass
    return NOT_A_URL


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
