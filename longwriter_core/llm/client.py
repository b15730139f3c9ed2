"""One OpenAI-compatible endpoint over HTTP: a call, its retries, and what its failures mean.

aiohttp, not the openai library: with hundreds of calls in flight that one takes seven times the
processor time for each, and its import alone takes a second.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import logging
import os
import random
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from longwriter_core.errors import InputError
from longwriter_core.llm.errors import (
    CallError,
    ContextOverflowError,
    EndpointError,
    RefusedError,
)
from longwriter_core.redact import NOT_A_URL, public_url, remove_secret
from longwriter_core.text.special_tokens import encodable
from longwriter_core.text.thinking import split_message

_log = logging.getLogger(__name__)

_OPENAI = "https://api.openai.com/v1"
# Seconds for a reply of up to so many tokens: from a slow server it takes minutes. Longer replies
# have longer.
_TIMEOUT, _TIMEOUT_TOKENS = 600.0, 4_096
_CONNECT_TIMEOUT = 30.0  # seconds until a host that does not answer at all counts as down
# uvicorn, and so vLLM, hangs up after 5 idle seconds: a call sent just then would be lost.
_KEEP_ALIVE = 4.0  # seconds
_LONGEST_WAIT = 120.0  # seconds that a Retry-After is obeyed; a longer one is taken for a slip
_HEADER = 65_536  # bytes of a header's line: some gateways send more than aiohttp's 8 KiB
_FILES = 4_096  # open files: a connection for each call in flight, and the store
_TROUBLE = 4  # tries of one call that fail before the user is told, after about 4 seconds

# As OpenAI, vLLM, llama.cpp, Anthropic and their gateways word it.
_OVERFLOW_SIGNS = (
    "context_length_exceeded",
    "context length",
    "context size",
    "context window",
    "prompt is too long",
    "too many tokens",
)
# Of a reply that the server broke off: OpenRouter's word, and vLLM's.
_BROKEN_OFF = ("error", "abort")
_FILTER_SIGNS = ("content_filter", "content_policy", "content management policy", "moderation")


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

    @property
    def is_cut(self) -> bool:
        """Whether the reply ended at its token limit."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class _Failure:
    """A try that gave no reply, whether another may, and when the endpoint says to try it."""

    error: CallError
    may_pass: bool
    wait: float | None = None  # seconds


class Endpoint:
    """One base URL, None for OpenAI's own.

    A user and password in the URL are sent in the place of the key. Proxies are those that the
    environment names. Raises InputError for a URL, a key or a proxy that cannot be used.
    """

    def __init__(self, base_url: str | None, api_key: str, retries: int) -> None:
        base_url = base_url or _OPENAI
        self.url = public_url(base_url)
        if self.url == NOT_A_URL:  # it may hold a password, so it is not shown
            raise InputError("cannot use the endpoint: it must be a URL like https://host/v1")
        if not api_key.isprintable():
            raise InputError(f"the key for {self.url} has a line break, or the like, in it")
        parts = urlsplit(base_url)
        user, _, host = parts.netloc.rpartition("@")
        path = f"{parts.path.rstrip('/')}/chat/completions"
        self._target = URL(urlunsplit((parts.scheme, host, path, parts.query, "")))
        # as it was given, as it is sent, and as a server may repeat it
        queries = {parts.query, self._target.raw_query_string, self._target.query_string}
        self._queries = sorted(filter(None, queries), key=len, reverse=True)
        self._secret = unquote(user.partition(":")[2]) if user else api_key
        self._headers = {
            "Authorization": f"Basic {_basic(user)}" if user else f"Bearer {api_key}",
            "Content-Type": "application/json",
            "User-Agent": "longwriter",
        }
        if base_url == _OPENAI and (organization := os.environ.get("OPENAI_ORG_ID")):
            self._headers["OpenAI-Organization"] = organization
        if base_url == _OPENAI and (project := os.environ.get("OPENAI_PROJECT_ID")):
            self._headers["OpenAI-Project"] = project
        self._proxy = _proxy(self._target)
        self._retries = retries
        self._limit = "max_tokens"  # what the endpoint calls it
        self._has_answered = self._is_in_trouble = False

    async def ask(self, session: aiohttp.ClientSession, request: Mapping[str, Any]) -> Reply:
        """Make one chat completion call. Raises CallError.

        Rate limits, 5xx, time-outs, dropped connections, and answers that are no completion, such
        as a gateway's error page, are tried again: after 0.5, 1, 2, 4, 8, 8 … seconds, or as long
        as Retry-After says if that is longer, and up to a quarter more, so that calls which fail
        together do not come back together. Ten retries ride out about a minute of a server that
        is down.
        """
        limit = request.get("max_tokens")
        tokens = max(limit if isinstance(limit, int) else 0, _TIMEOUT_TOKENS)
        timeout = aiohttp.ClientTimeout(
            None, _CONNECT_TIMEOUT, sock_read=_TIMEOUT * tokens / _TIMEOUT_TOKENS
        )
        for retries in itertools.count():
            outcome = await self._try(session, self._renamed(request), timeout, retries)
            if isinstance(outcome, Reply):
                self._has_answered, self._is_in_trouble = True, False
                return outcome
            if retries >= self._retries or not outcome.may_pass:
                raise outcome.error
            if retries + 1 == _TROUBLE and not self._is_in_trouble:  # once, not for every call
                self._is_in_trouble = True
                _log.warning("%s: %s; trying again", self.url, outcome.error)
            wait = max(min(0.5 * 2**retries, 8), outcome.wait or 0)
            await asyncio.sleep(wait * random.uniform(1, 1.25))
        raise AssertionError  # count() has no end

    def _renamed(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The request, with its limit of tokens as the endpoint calls it."""
        if self._limit == "max_tokens" or "max_tokens" not in request:
            return request
        rest = {name: value for name, value in request.items() if name != "max_tokens"}
        return {**rest, self._limit: request["max_tokens"]}

    async def _try(
        self,
        session: aiohttp.ClientSession,
        request: Mapping[str, Any],
        timeout: aiohttp.ClientTimeout,
        retries: int,
    ) -> Reply | _Failure:
        # half a surrogate pair cannot be sent; "?" takes its place
        body = json.dumps(request, ensure_ascii=False).encode("utf-8", "replace")
        try:
            async with session.post(
                self._target,
                data=body,
                headers=self._headers,
                proxy=self._proxy,
                timeout=timeout,
            ) as response:
                answer, status, headers = await response.read(), response.status, response.headers
        except ValueError as error:  # a certificate or a host's name that no retry makes good
            return _Failure(EndpointError(self._scrubbed(f"{error}")), may_pass=False)
        except (aiohttp.ClientError, OSError) as error:
            # some errors show the URL, that of a proxy with its password: only what they say
            what = error.message if isinstance(error, aiohttp.ClientResponseError) else f"{error}"
            return _Failure(
                CallError(self._scrubbed(f"Connection error: {what or type(error).__name__}")),
                may_pass=True,
            )
        if status < 400:
            reply = self._reply(answer, retries)
            if reply and reply.finish_reason not in _BROKEN_OFF:
                return reply
            if reply:
                why = f"{self.url} broke off its reply (finish_reason {reply.finish_reason})"
                return _Failure(CallError(why), may_pass=True)
            said = _error_of(answer)[1]
            message = (
                f"{self.url} answered with {headers.get('content-type', 'no content type')} "
                "instead of a chat completion: "
                f"{said or 'is the base URL right (most end in /v1)?'}"
            )
            return _Failure(CallError(self._scrubbed(message)), may_pass=True)
        # models that think have another name for it, and take no other
        if status == 400 and "max_tokens" in request and b"max_completion_tokens" in answer:
            self._limit = "max_completion_tokens"
            return _Failure(_translated(status, answer, self._scrubbed), may_pass=True)
        failure = _translated(status, answer, self._scrubbed)
        if status == 403 and self._has_answered and isinstance(failure, EndpointError):
            # not the key, then, but something in between that dislikes this one prompt
            failure = CallError(str(failure))
        may_pass = type(failure) is CallError and (status in (408, 409, 429) or status >= 500)
        return _Failure(failure, may_pass, _retry_after(headers))

    def _reply(self, answer: bytes, retries: int) -> Reply | None:
        """The reply in an answer, or None where it is no chat completion."""
        try:
            completion = json.loads(answer)
            choice, usage = completion["choices"][0], completion.get("usage") or {}
            message = choice["message"]
            (_, text), refusal = split_message(message), message.get("refusal")
            return Reply(
                text=self._without_secret(text),
                model=self._without_secret(str(completion.get("model") or "")),
                finish_reason=choice.get("finish_reason"),
                refusal=None if refusal is None else self._without_secret(refusal),
                prompt_tokens=_count(usage.get("prompt_tokens")),
                completion_tokens=_count(usage.get("completion_tokens")),
                retries=retries,
            )
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
            return None

    def _without_secret(self, text: str) -> str:
        """`text` without the key, which some servers echo, and fit to be written to a file."""
        return encodable(remove_secret(text, self._secret))

    def _scrubbed(self, message: str) -> str:
        """An error's message on one line that a terminal can show, without what may be secret."""
        for query in self._queries:
            message = message.replace(f"?{query}", "")
        start = self._without_secret(message)[:10_000]
        shown = "".join(each if each.isprintable() else " " for each in start)
        return " ".join(shown.split())[:500]


def new_session() -> aiohttp.ClientSession:
    """Connections for any number of calls to any endpoints; close it in the same event loop."""
    _allow_files()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=_HEADER,
        max_field_size=_HEADER,
    )


def _allow_files() -> None:
    """Raise this process's limit of open files, 256 on macOS and often 1,024, where it may."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _basic(user_and_password: str) -> str:
    return base64.b64encode(unquote(user_and_password).encode()).decode()


def _proxy(target: URL) -> str | None:
    """What HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say of a URL.

    Asked once: aiohttp itself would ask, in another thread, at every call. Raises InputError for
    what is no HTTP proxy.
    """
    host = target.host or ""
    if any(map(urllib.request.proxy_bypass, (host, f"{host}:{target.port}"))):
        return None
    proxies = urllib.request.getproxies()
    name = target.scheme if proxies.get(target.scheme) else "all"
    proxy = proxies.get(name)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if public_url(proxy) == NOT_A_URL:  # it may hold a password, so it is not shown
        raise InputError(
            f"cannot use the proxy in {name.upper()}_PROXY: it must be a URL like "
            "http://host:port (SOCKS is not supported)"
        )
    return proxy


def _count(tokens: object) -> int | None:
    return tokens if isinstance(tokens, int) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the endpoint says, in seconds or as a date; None where it does not."""
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if 0 <= seconds <= _LONGEST_WAIT else None


def _error_of(answer: bytes) -> tuple[object, str]:
    """The code and the message of an error in JSON, as APIs send it; of all else, nothing."""
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        body = json.loads(answer)
        error = body.get("error", body)
        if isinstance(error, dict):
            return error.get("code"), str(error.get("message") or "")
        return None, str(error or "")
    return None, ""


def _translated(status: int, answer: bytes, scrubbed: Callable[[str], str]) -> CallError:
    """The CallError that stands for an answer of status 400 or more."""
    text = answer.decode("utf-8", "replace")
    code, said = _error_of(answer)
    message = scrubbed(f"HTTP {status}: {said or text}")
    if code == "insufficient_quota":
        return EndpointError(message)
    if status in (400, 403, 413, 422):  # 403: how gateways report moderation
        signs = f"{code} {text}".lower()
        if any(sign in signs for sign in _OVERFLOW_SIGNS):
            return ContextOverflowError(message)
        if any(sign in signs for sign in _FILTER_SIGNS):
            return RefusedError(message)
    # bad key, no credit, forbidden, unknown model or path, not an API
    vain = status in (401, 402, 403, 404, 405)
    return EndpointError(message) if vain else CallError(message)
