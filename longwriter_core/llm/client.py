"""One OpenAI-compatible endpoint: calls through the openai library, with retries and typed errors.

The library sends the requests over aiohttp. Its own retries are disabled, because the retries here
respect the rate limiter, handle gateways that answer with an error page, and skip useless retries.
"""

import asyncio
import base64
import contextlib
import importlib
import itertools
import json
import logging
import math
import random
import re
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from longwriter_core.errors import InputError
from longwriter_core.llm.answers import error_of, limit_reset, retry_after, translated
from longwriter_core.llm.errors import CallError, EndpointError
from longwriter_core.llm.limiter import RateLimiter
from longwriter_core.redact import NOT_A_URL, public_url, remove_secret
from longwriter_core.text.special_tokens import encodable
from longwriter_core.text.thinking import split_message

if TYPE_CHECKING:  # importing openai takes a second, so it is delayed until the first call
    import aiohttp
    import openai

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_OPENAI = "https://api.openai.com/v1"
_PATH = "/chat/completions"
# Timeout in seconds for a reply of up to this many tokens, which takes minutes on a slow server.
# Longer replies get a proportionally longer timeout.
_TIMEOUT, _TIMEOUT_TOKENS = 600.0, 4_096
_CONNECT_TIMEOUT = 30.0  # seconds until a host that does not answer at all counts as down
# uvicorn, and therefore vLLM, closes a connection after 5 idle seconds. A call sent at that moment
# would fail, so idle connections are closed earlier.
_KEEP_ALIVE = 4.0  # seconds
_HEADER = 65_536  # bytes per header line: some gateways exceed aiohttp's default of 8 KiB
_FILES = 4_096  # open files: one connection per call in flight, and the store's files
# Retries of a 429, about a minute: a preflight has fewer for other failures, but a small account
# may only be busy.
_RATE_LIMIT_RETRIES = 10
_TROUBLE = 4  # failed tries of one call before a warning is logged, after about 4 seconds

# Finish reasons of a reply that the server aborted, as OpenRouter and vLLM name them.
_BROKEN_OFF = ("error", "abort")
_SCHEMA_SIGNS = ("response_format", "json_schema", "guided", "grammar")


@dataclass(frozen=True)
class Reply:
    """An endpoint's reply. Token counts are the endpoint's own; None if it sends none."""

    text: str
    model: str
    finish_reason: str | None
    refusal: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    retries: int = 0
    stored: bool = False  # read back from the store: no call was made
    cached_tokens: int | None = None  # prompt tokens from the cache, which cost less
    reasoning: str | None = None  # the model's thinking, if the endpoint returns it separately

    @property
    def is_cut(self) -> bool:
        """Whether the reply ended at its token limit."""
        return self.finish_reason == "length"


@dataclass(frozen=True)
class Failure:
    """A try that gave no reply, and whether a retry may help."""

    error: CallError
    may_pass: bool
    wait: float = 0.0  # seconds, as Retry-After says
    is_rate_limit: bool = False
    is_unreachable: bool = False  # nothing answered: no connection, or no reply in time
    is_timeout: bool = False


class Endpoint:
    """One base URL, None for OpenAI's own.

    A user and password in the URL are sent instead of the key. Proxies come from the environment.
    Raises InputError for a URL, a key or a proxy that cannot be used.
    """

    def __init__(
        self, base_url: str | None, api_key: str, retries: int, timeout: float | None = None
    ) -> None:
        base_url = base_url or _OPENAI
        self.url = public_url(base_url)
        if self.url == NOT_A_URL:  # the error omits the URL, which may contain a password
            raise InputError("cannot use the endpoint: it must be a URL like https://host/v1")
        if not api_key.isprintable():
            raise InputError(f"the key for {self.url} has a line break, or the like, in it")
        parts = urlsplit(base_url)
        user, _, host = parts.netloc.rpartition("@")
        self._base_url = urlunsplit((parts.scheme, host, parts.path, "", ""))
        self._query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self._key = api_key
        self._login = unquote(user)
        self._secret = self._login.partition(":")[2] if user else api_key
        self._proxy = _proxy(self._base_url)
        self._retries, self._timeout = retries, timeout
        self.limiter = RateLimiter(self.url)  # until the first call, which shares one
        self._client: openai.AsyncOpenAI | None = None
        self._response_type: Any = None
        self._limit = "max_tokens"  # the endpoint's name for the token limit
        # until the endpoint refuses a response_format, which it can only do before it has taken one
        self.takes_schema, self._has_taken_schema = True, False
        self._has_answered = self._is_in_trouble = False
        self._successes = 0

    async def close(self) -> None:
        """Close the connections, in the event loop that made the calls."""
        if self._client:
            await self._client.close()
            self._client = None

    async def models(self) -> dict[str, object]:
        """The endpoint's models, with their shutdown dates as it gives them; None if it does not.

        Raises CallError.
        """

        async def get(client: "openai.AsyncOpenAI") -> Any:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                return await client.get("/models", cast_to=self._response_type)

        try:
            answer = await self.call(get)
            rows = json.loads(answer.content)["data"]
            return {str(row["id"]): row.get("shutdown_date") for row in rows}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CallError(f"{self.url} did not answer with a list of models") from error

    async def call(self, send: Callable[["openai.AsyncOpenAI"], Awaitable[_T]]) -> _T:
        """The result of `send`, which uses another part of the API. Raises CallError."""
        import aiohttp
        import openai

        self._client = self._client or self._open()
        try:
            return await send(self._client)
        except openai.APIStatusError as error:
            response = error.response
            raise translated(response.status_code, response.content, self._scrubbed) from error
        except (openai.OpenAIError, aiohttp.ClientError, OSError) as error:
            raise self._disconnected(error).error from error

    async def ask(
        self,
        request: Mapping[str, Any],
        max_wait: float = math.inf,
        before_retry: Callable[[CallError], Awaitable[None]] | None = None,
    ) -> Reply:
        """Make one chat completion call. Raises CallError, or what `before_retry` raises.

        Rate limits, 5xx, timeouts, dropped connections, and answers that are not a completion, such
        as a gateway's error page, are retried after 0.5, 1, 2, 4, 8, 8 … seconds. Up to a quarter
        is added at random, so that calls that fail together are not retried together. Ten retries
        bridge about a minute of server downtime. A 429 does not count as a failure while the
        endpoint answers other calls, so every call succeeds eventually, however many share the rate
        limit. If nothing answers at all, the call raises EndpointError, fatal for all calls.
        A Retry-After header pauses all calls to the endpoint for that time; a pause of more than
        `max_wait` seconds ends the call.
        """
        self.limiter = RateLimiter.shared(self.url, self._secret)
        failures = timeouts = 0
        successes_at_start = self._successes
        for retries in itertools.count():
            if self.limiter.pause_left > max_wait:
                raise CallError(f"{self.url} asks to wait for {self.limiter.pause_left:.0f} s")
            sent_at = await self.limiter.acquire()
            successes = self._successes
            try:
                outcome = await self._try(self.adapted(request), retries)
            finally:
                self.limiter.release()
            if isinstance(outcome, Reply):
                self.limiter.succeeded()
                self._has_answered, self._is_in_trouble = True, False
                self._successes += 1
                return outcome
            if outcome.is_rate_limit:
                self.limiter.refused(sent_at)
            # an endpoint that answers other calls is only busy, so it will answer this one later
            is_busy = outcome.is_rate_limit and self._successes > successes
            failures += not is_busy
            timeouts += outcome.is_timeout
            if self._is_useless(outcome, failures, timeouts, successes_at_start, max_wait):
                fatal = EndpointError(str(outcome.error))
                fatal.was_sent = outcome.error.was_sent
                raise fatal
            patience = self._retries
            if patience and outcome.is_rate_limit:
                patience = max(patience, _RATE_LIMIT_RETRIES)
            if failures > patience or not outcome.may_pass:
                raise outcome.error
            if outcome.is_unreachable and max_wait < math.inf:
                raise outcome.error  # the pool then uses another endpoint
            if outcome.wait:
                self.limiter.pause(outcome.wait)
            elif failures == _TROUBLE and not self._is_in_trouble:  # once, not for every call
                self._is_in_trouble = True
                _log.warning("%s: %s; trying again", self.url, outcome.error)
            if before_retry:
                await before_retry(outcome.error)
            await asyncio.sleep(min(0.25 * 2 ** max(failures, 1), 8) * random.uniform(1, 1.25))
        raise AssertionError  # count() has no end

    def _is_useless(
        self, failure: Failure, failures: int, timeouts: int, successes: int, max_wait: float
    ) -> bool:
        """Whether every further call would also wait without getting a reply.

        A timeout is retried once. If several endpoints share the calls, the pool uses another
        endpoint instead.
        """
        if not failure.is_unreachable or self._successes > successes or max_wait < math.inf:
            return False
        return 0 < self._retries < failures or timeouts > 1

    def adapted(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The request, adapted to what this endpoint accepts."""
        adapted = dict(request)
        if "max_tokens" in adapted:
            adapted[self._limit] = adapted.pop("max_tokens")
        if not self.takes_schema:
            adapted.pop("response_format", None)
        return adapted

    async def _try(self, request: dict[str, Any], retries: int) -> Reply | Failure:
        import aiohttp
        import openai

        if not self._client:
            self._client = self._open()
        limit = request.get(self._limit)
        seconds = (self._timeout or _TIMEOUT) * max(
            limit if isinstance(limit, int) else 0, _TIMEOUT_TOKENS
        )
        seconds /= _TIMEOUT_TOKENS
        try:
            # one timeout for the whole call, so a server that trickles bytes cannot extend it
            async with asyncio.timeout(seconds):
                answer = await self._send(request)
        except openai.APIStatusError as error:
            response = error.response
            return self._failed(request, response.status_code, response.content, response.headers)
        except TimeoutError:
            why = f"Timeout: {self.url} sent no complete reply within {seconds:g} seconds"
            return Failure(CallError(why), may_pass=True, is_unreachable=True, is_timeout=True)
        except (openai.OpenAIError, aiohttp.ClientError, OSError, ValueError) as error:
            return self._disconnected(error)
        if pause := limit_reset(answer.headers):
            self.limiter.pause(pause)  # the next call would get a 429
        kind = answer.headers.get("content-type", "no content type")
        return self._completed(request, answer.content, kind, retries)

    def read_answer(self, request: dict[str, Any], status: int, answer: bytes) -> Reply | Failure:
        """The outcome of an adapted request whose answer arrived in the output of a batch."""
        if status >= 400:
            return self._failed(request, status, answer, {})
        return self._completed(request, answer, "JSON", 0)

    def _completed(
        self, request: Mapping[str, Any], answer: bytes, kind: str, retries: int
    ) -> Reply | Failure:
        """The outcome of an answer without an error status."""
        reply = self._read(answer, retries)
        if reply and reply.finish_reason not in _BROKEN_OFF:
            self._has_taken_schema |= "response_format" in request
            return reply
        if reply:
            why = f"{self.url} broke off its reply (finish_reason {reply.finish_reason})"
            return Failure(CallError(why), may_pass=True)
        said = error_of(answer)[1]
        message = (
            f"{self.url} answered with {kind} instead of a chat completion: "
            f"{said or 'is the base URL right (most end in /v1)?'}"
        )
        return Failure(CallError(self._scrubbed(message)), may_pass=True)

    async def _send(self, request: dict[str, Any]) -> Any:
        """The endpoint's raw answer. Raises the errors of openai and aiohttp."""
        assert self._client
        try:
            return await self._client.post(_PATH, cast_to=self._response_type, body=request)
        except UnicodeEncodeError:  # a lone surrogate cannot be encoded, so "?" replaces it
            sendable = json.dumps(request, ensure_ascii=False).encode("utf-8", "replace")
            body = json.loads(sendable)
            return await self._client.post(_PATH, cast_to=self._response_type, body=body)

    def _open(self) -> "openai.AsyncOpenAI":
        import openai

        for name in ("httpx", "httpx2"):  # they log the URL of every call, including its query
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.WARNING)
        http: Any = openai.DefaultAioHttpClient(trust_env=False)  # the session sets the proxy
        http._transport.client = new_session(self._proxy)
        # The library's HTTP package is httpx or, since its release 3, httpx2. The raw response is
        # used, because converting it to the library's types takes time and adds no information.
        self._response_type = importlib.import_module(type(http.headers).__module__).Response
        headers: dict[str, Any] = {"User-Agent": "longwriter"}
        if self._login:
            login = base64.b64encode(self._login.encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        if self._base_url != _OPENAI:  # otherwise the library sends these to every server
            headers |= {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        return openai.AsyncOpenAI(
            base_url=self._base_url,
            api_key=self._key or "no-key-needed",
            default_headers=headers,
            default_query=self._query,
            timeout=openai.Timeout(None, connect=_CONNECT_TIMEOUT),
            max_retries=0,
            http_client=http,
        )

    def _disconnected(self, error: BaseException) -> Failure:
        """The failure for a request that got no answer."""
        import aiohttp

        cause: BaseException | None = error
        while cause and not isinstance(cause, aiohttp.ClientError | OSError | ValueError):
            cause = cause.__cause__
        cause = cause or error
        # some errors show the URL, which for a proxy includes the password: keep only the reason
        what = cause.message if isinstance(cause, aiohttp.ClientResponseError) else f"{cause}"
        if isinstance(cause, ValueError):  # a bad certificate or host name: a retry does not help
            return Failure(EndpointError(self._scrubbed(what)), may_pass=False)
        what = self._scrubbed(f"Connection error: {what or type(cause).__name__}")
        failure = Failure(CallError(what), may_pass=True, is_unreachable=True)
        failure.error.was_sent = not isinstance(
            cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
        )
        return failure

    def _failed(
        self, request: dict[str, Any], status: int, answer: bytes, headers: Mapping[str, str]
    ) -> Failure:
        """The failure for an answer with status 400 or more."""
        error = translated(status, answer, self._scrubbed)
        # errors about this one prompt name fields, too, but no field that the endpoint refuses
        said = error_of(answer)[1] or answer.decode("utf-8", "replace")
        refusal = said if type(error) is CallError else ""
        # reasoning models accept the token limit only under another name
        if status == 400 and "max_tokens" in request and "max_completion_tokens" in refusal:
            self._limit = "max_completion_tokens"
            return Failure(error, may_pass=True)
        names_schema = any(sign in refusal for sign in _SCHEMA_SIGNS)
        is_refused = status in (400, 422) and names_schema and not self._has_taken_schema
        if is_refused and "response_format" in request:
            self.takes_schema = False
            _log.info("%s takes no response_format: replies are read as text", self.url)
            return Failure(error, may_pass=True)
        if status == 403 and self._has_answered and isinstance(error, EndpointError):
            # the key has worked before, so a filter in between has rejected this one prompt
            error = CallError(str(error))
            error.status = status
        may_pass = type(error) is CallError and (status in (408, 409, 429) or status >= 500)
        return Failure(error, may_pass, retry_after(headers) or 0.0, status == 429)

    def _read(self, answer: bytes, retries: int) -> Reply | None:
        """The reply in an answer; None if the answer is not a chat completion."""
        try:
            completion = json.loads(answer)
            choice, usage = completion["choices"][0], completion.get("usage") or {}
            message = choice["message"]
            (reasoning, text), refusal = split_message(message), message.get("refusal")
            return Reply(
                text=self._without_secret(text),
                model=self._without_secret(str(completion.get("model") or "")),
                finish_reason=choice.get("finish_reason"),
                refusal=None if refusal is None else self._without_secret(refusal),
                prompt_tokens=_count(usage.get("prompt_tokens")),
                completion_tokens=_count(usage.get("completion_tokens")),
                retries=retries,
                cached_tokens=_count(
                    (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
                ),
                reasoning=self._without_secret(reasoning) or None,
            )
        except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
            return None

    def _without_secret(self, text: str) -> str:
        """`text` without the key, which some servers echo, and encodable as UTF-8."""
        return encodable(remove_secret(text, self._secret))

    def _scrubbed(self, message: str) -> str:
        """An error's message as one printable line without secrets."""
        message = re.sub(r"(/chat/completions)\?[^\s'\"]*", r"\1", message)
        start = self._without_secret(message)[:10_000]
        shown = "".join(char if char.isprintable() else " " for char in start)
        return " ".join(shown.split())[:500]


async def list_models(base_url: str | None, api_key: str) -> dict[str, object]:
    """The models at a base URL, with their shutdown dates as it gives them. Raises CallError."""
    endpoint = Endpoint(base_url, api_key, retries=0)
    try:
        return await endpoint.models()
    finally:
        await endpoint.close()


def new_session(proxy: str | None) -> "aiohttp.ClientSession":
    """Connections for any number of calls to one endpoint."""
    import aiohttp

    _allow_files()
    # uses the system's certificates, which may include a company's own
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=_HEADER,
        max_field_size=_HEADER,
        proxy=proxy,
    )


def _allow_files() -> None:
    """Raise this process's limit on open files if possible; the default is often 256 or 1,024."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _proxy(base_url: str) -> str | None:
    """The proxy for a URL by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; None without one.

    Raises InputError if the proxy is not an HTTP proxy.
    """
    target = urlsplit(base_url)
    host, port = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    if any(map(urllib.request.proxy_bypass, (host, f"{host}:{port}"))):
        return None
    proxies = urllib.request.getproxies()
    name = target.scheme if proxies.get(target.scheme) else "all"
    proxy = proxies.get(name)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if public_url(proxy) == NOT_A_URL:  # the error omits the URL, which may contain a password
        raise InputError(
            f"cannot use the proxy in {name.upper()}_PROXY: it must be a URL like "
            "http://host:port (SOCKS is not supported)"
        )
    return proxy


def _count(tokens: object) -> int | None:
    return tokens if isinstance(tokens, int) else None
