"""A local OpenAI-compatible server with mock models that replace paid ones.

The demo, the tests and the benchmarks use it. The mock writer writes meaningless text of about the
required length, and answers AgentWrite's prompts with a plan or the text of one step. A mock judge
gives random scores: they show that the pipeline works, and say nothing about a text.

    with MockServer(delay=0.5, faults=Faults(share=0.2)) as server:
        client = AsyncOpenAI(base_url=server.base_url, api_key="any")

    python -m longwriter_core.mock_server --port 8000      # prints its base URL once it is ready

Every model with "judge" in its name is a judge. An answer depends only on the model, the user
messages, the seed and the requested JSON schema, never on the time or the order of calls.

A test can choose answers with `on_request`, which gets every request that the server accepts:

    def on_request(request: MockRequest) -> MockReply | str | int | None:
        return 503 if "lighthouse" in request.prompt else None     # None: the mock model answers
"""

import asyncio
import json
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from longwriter_core.mock_server.answers import asks_for_plan
from longwriter_core.mock_server.batches import Batches
from longwriter_core.mock_server.habits import HABITS, with_habits
from longwriter_core.mock_server.messages import (
    MockReply,
    MockRequest,
    completion,
    error_reply,
    refuse_parameters,
)
from longwriter_core.mock_server.prefix_cache import PrefixCache

WRITER, JUDGE = "mock-writer", "mock-judge"
# What a judge like a current model spends on thinking, and the settings that it needs.
THINKING = 300  # tokens
THINKING_JUDGE = {"temperature": "none", "max_tokens": "4096"}
FAULT_CYCLE = ("429", "500", "reset", "empty", "refusal", "broken_json", "html")
FAULT_KINDS = (*FAULT_CYCLE, "hang")  # no default: with `hang`, the client waits for its timeout
Hook = Callable[[MockRequest], MockReply | str | int | None]


@dataclass(frozen=True)
class Faults:
    """Which judge calls fail, and how.

    A `share` (0 to 1) of the judge calls fails, evenly spread, with `kinds` in rotation.
    `Faults(1.0, ("500",))` makes every call fail with a 500. Whether a call fails depends only on
    the number of earlier judge calls, so a retry can succeed. Raises ValueError
    for a share outside 0 to 1 and for unknown or missing kinds.
    """

    share: float
    kinds: tuple[str, ...] = FAULT_CYCLE

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"fault share {self.share} is not between 0 and 1")
        if not self.kinds or not set(self.kinds) <= set(FAULT_KINDS):
            raise ValueError(f"fault kinds {self.kinds} are not among {', '.join(FAULT_KINDS)}")

    def kind_of(self, call: int) -> str:
        """How judge call number `call` (from 1) fails; "" if it succeeds."""
        due = int(call * self.share)
        is_fault = due > int((call - 1) * self.share)
        return self.kinds[(due - 1) % len(self.kinds)] if is_fault else ""


@dataclass
class CallStats:
    """Chat calls so far, without malformed and refused ones.

    A call whose client disconnected is neither finished nor in flight.
    """

    calls: dict[str, int] = field(default_factory=dict)  # by model
    finished: int = 0  # faults included
    in_flight: int = 0
    max_in_flight: int = 0
    faults: dict[str, int] = field(default_factory=dict)  # by kind


@dataclass(repr=False, eq=False)  # a repr would show the key
class MockServer:
    """The server, on 127.0.0.1 in its own thread, running while the `with` block runs.

    Entering raises OSError if the port is taken or the log cannot be written.
    """

    port: int = 0  # 0 means any free port
    delay: float = 0.0  # seconds from a chat call's arrival to its answer
    api_key: str | None = None  # if given, every request must carry it
    faults: Faults | None = None
    # Gets one JSON line per chat call (model, prompt_sha256, time in Unix seconds) before the
    # call is answered, so that calls can be counted even if the client or the server is killed.
    log: Path | None = None
    jitter: float = 0.0  # the maximum random extra delay per call, in seconds
    on_request: Hook | None = None  # chooses replies; called in the server's thread
    usage: bool = True  # whether replies contain token counts
    # Models other than judges, and the date (YYYY-MM-DD) on which each is shut down, if any.
    models: Mapping[str, str | None] = field(default_factory=lambda: {WRITER: None, JUDGE: None})
    # Above 0, models are reasoning models: they spend this many tokens on thinking, and refuse
    # `max_tokens` and any temperature other than 1. Today's judges are, so 0 is for tests of the
    # paper's request.
    judge_reasoning_tokens: int = THINKING
    reasoning_tokens: int = 0  # of the models that are not judges
    refuses: Sequence[str] = ()  # request parameters that all models refuse, such as "stop"
    calls_per_minute: int | None = None  # further chat calls get a 429 with Retry-After
    minute: float = 60.0  # seconds; tests have shorter minutes
    batch_seconds: float = 0.0  # from a batch's creation to its completion
    batch_tokens: int | None = None  # prompt tokens that one batch may have
    prefix_cache: bool = False  # whether replies say how much of the prompt was cached
    habits: Sequence[str] = ()  # of the writers, out of habits.HABITS
    keep_history: bool = True  # benchmarks disable it, because their requests need much memory
    history: list[MockRequest] = field(default_factory=list, init=False)
    _stats: CallStats = field(default_factory=CallStats, init=False)

    def __post_init__(self) -> None:
        if unknown := set(self.habits) - {*HABITS}:
            raise ValueError(f"habits {sorted(unknown)} are not among {', '.join(HABITS)}")
        self._asked: Counter[str] = Counter()  # digest of a prompt -> calls
        self._call_times: deque[float] = deque()
        self._prefixes = PrefixCache()
        self._batches = Batches(self._answer, self.batch_seconds, self.batch_tokens)

    @property
    def base_url(self) -> str:
        """The base URL for an OpenAI client."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def prompts(self) -> list[str]:
        """The prompts of all accepted chat calls, in order of arrival."""
        return [request.prompt for request in self.history if request.was_accepted]

    def stats(self) -> CallStats:
        """A snapshot. May be called from any thread, and after the `with` block."""
        now = self._stats
        return replace(now, calls=dict(now.calls), faults=dict(now.faults))

    def __enter__(self) -> Self:
        if self.log:
            self.log.touch()
        started: Future[None] = Future()
        serving = self._serve(started)
        self._thread = threading.Thread(target=asyncio.run, args=(serving,), daemon=True)
        self._thread.start()
        started.result()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, started: Future[None]) -> None:
        # handler_cancellation: a call whose client disconnected is no longer in flight.
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)  # seconds; some calls hang
        try:
            await runner.setup()
            # With the default backlog of 128, some of hundreds of simultaneous connections would
            # wait a second until the client resends the SYN.
            await web.TCPSite(runner, "127.0.0.1", self.port, backlog=1024).start()
            self.port = runner.addresses[0][1]
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            started.set_result(None)
            await self._stop.wait()
        except Exception as error:
            started.set_exception(error)  # __enter__ raises it
        finally:
            await runner.cleanup()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        arrival = time.monotonic()
        if http.path == "/stats":
            return web.json_response(asdict(self.stats()))
        is_upload = http.content_type == "multipart/form-data"
        body = None if is_upload else await _read_json(http)
        request = MockRequest(http.method, http.path_qs, http.headers, body or {})
        if self.keep_history:
            self.history.append(request)
        if self.api_key and http.headers.get("Authorization") != f"Bearer {self.api_key}":
            return _send(error_reply(401, "invalid_api_key", "Incorrect API key provided."))
        if request.is_chat:
            return await self._chat(http, request, arrival)
        reply = self._chosen(request)
        if reply is None and request.method == "GET" and http.path == "/v1/models":
            reply = self._list_models()
        reply = reply or await self._batches.handle(http, request)
        message = f"Unknown request URL: {http.method} {http.path}"
        return _send(reply or error_reply(404, "unknown_url", message))

    async def _chat(
        self, http: web.BaseRequest, request: MockRequest, arrival: float
    ) -> web.StreamResponse:
        refusal = self._over_limit(arrival)
        if refusal:
            return _send(refusal)
        reply = self._answer(request)
        if not request.was_accepted:
            return _send(reply)
        stats = self._stats
        stats.in_flight += 1
        stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        try:
            # The answer was computed before the delay, so computing it does not add to the delay.
            end = arrival + self.delay + random.uniform(0, self.jitter)
            await asyncio.sleep(max(0.0, end - time.monotonic()))
            if reply.fault == "hang":
                await asyncio.Event().wait()  # until the client gives up or the server stops
            if reply.fault == "reset" and http.transport:
                http.transport.abort()  # the response returned below is then not sent
            stats.finished += 1
            return _send(reply)
        finally:
            stats.in_flight -= 1

    def _answer(self, request: MockRequest) -> MockReply:
        """The complete reply to a chat call, from the hook or from the model."""
        refusal = self._refusal(request)
        if refusal:
            return refusal
        self._accept(request)
        reply = self._chosen(request) or MockReply(fault=self._next_fault(request))
        if reply.fault:
            return self._with_fault(request, reply.fault)
        return reply if reply.has_body else self._complete(request, reply)

    def _chosen(self, request: MockRequest) -> MockReply | None:
        """The reply that the hook chose, or None."""
        reply = self.on_request(request) if self.on_request else None
        if isinstance(reply, str):
            return MockReply(reply)
        if isinstance(reply, int):
            reply = MockReply(status=reply)
        if reply and reply.status != 200 and not reply.has_body:
            body = error_reply(reply.status, "chosen_error", "The request failed.").body
            return replace(reply, body=body)
        return reply

    def _refusal(self, request: MockRequest) -> MockReply | None:
        """The error for a call that is malformed or that the model does not accept."""
        try:
            request.check()
        except ValueError as error:
            return error_reply(400, "invalid_request", str(error))
        shutdown = self.models.get(request.model)
        is_known = request.is_judge or request.model in self.models
        if not is_known or (shutdown and shutdown <= date.today().isoformat()):
            message = f"The model `{request.model}` does not exist."
            return error_reply(404, "model_not_found", message)
        refusal = refuse_parameters(
            request, is_thinking=self._thinking_of(request) > 0, refuses=self.refuses
        )
        request.was_refused = refusal is not None
        return refusal

    def _over_limit(self, now: float) -> MockReply | None:
        """The 429 for an account that has reached its calls per minute."""
        if self.calls_per_minute is None:
            return None
        times = self._call_times
        while times and times[0] <= now - self.minute:
            times.popleft()
        if len(times) < self.calls_per_minute:
            times.append(now)
            return None
        wait = times[0] + self.minute - now if times else self.minute
        headers = {
            "Retry_After": f"{math.ceil(wait)}",
            "retry_after_ms": f"{math.ceil(wait * 1e3)}",
        }
        return error_reply(429, "rate_limit_exceeded", "Rate limit reached.", **headers)

    def _accept(self, request: MockRequest) -> None:
        """Count a chat call."""
        request.was_accepted = True
        if self.log:
            entry = {
                "model": request.model, "prompt_sha256": request.digest, "time": time.time()
            }  # fmt: skip
            with self.log.open("a") as log:
                log.write(json.dumps(entry) + "\n")
        calls = self._stats.calls
        calls[request.model] = calls.get(request.model, 0) + 1

    def _next_fault(self, request: MockRequest) -> str:
        if not request.is_judge or not self.faults:
            return ""
        judged = sum(count for model, count in self._stats.calls.items() if "judge" in model)
        return self.faults.kind_of(judged)

    def _with_fault(self, request: MockRequest, fault: str) -> MockReply:
        """The model's answer with the given fault, if any."""
        if fault:
            faults = self._stats.faults
            faults[fault] = faults.get(fault, 0) + 1
        match fault:
            case "429":
                message = "Rate limit reached."
                return error_reply(429, "rate_limit_exceeded", message, Retry_After="0")
            case "500":
                return error_reply(500, "internal_error", "The server had an error.")
            case "html":
                return MockReply(body="<html>Please sign in.</html>", fault=fault)
            case "empty":
                reply = MockReply("")
            case "refusal":
                reply = MockReply("I'm sorry, but I can't help with that.")
            case "broken_json":
                answer = request.answer()
                reply = MockReply(answer[: len(answer) * 2 // 3])
            case _:
                reply = MockReply(fault=fault)
        return self._complete(request, reply)

    def _complete(self, request: MockRequest, reply: MockReply) -> MockReply:
        if self.habits and reply.text is None and not request.is_judge and not request.schema:
            reply = replace(reply, text=self._with_habits(request))
        thinking = self._thinking_of(request)
        body = completion(request, reply, thinking, self.usage)
        if self.prefix_cache and self.usage:
            share = self._prefixes.look_up(request.prompt) / max(1, len(request.prompt))
            cached = int(body["usage"]["prompt_tokens"] * share)
            body["usage"]["prompt_tokens_details"] = {"cached_tokens": cached}
        return replace(reply, body=body)

    def _with_habits(self, request: MockRequest) -> str:
        """The writer's own answer, with its habits."""
        self._asked[request.digest] += 1
        return with_habits(
            request.answer(),
            self.habits,
            is_plan=asks_for_plan(request.prompt),
            is_first=self._asked[request.digest] == 1,
            seed=f"{request.model} {request.seed} {request.digest}",
        )

    def _thinking_of(self, request: MockRequest) -> int:
        """The tokens that the requested model spends on thinking."""
        return self.judge_reasoning_tokens if request.is_judge else self.reasoning_tokens

    def _list_models(self) -> MockReply:
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "mock", "shutdown_date": end}
            for name, end in self.models.items()
        ]
        return MockReply(body={"object": "list", "data": rows})


async def _read_json(http: web.BaseRequest) -> dict[str, Any] | None:
    """The body if it is a JSON object, else None. Requests may be of any size."""
    data = await http.content.read()
    try:
        body = json.loads(data) if data else None
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _send(reply: MockReply) -> web.Response:
    if reply.fault == "html":
        return web.Response(text=reply.body, content_type="text/html")
    if isinstance(reply.body, bytes):
        return web.Response(body=reply.body, headers=reply.headers)
    return web.json_response(reply.body, status=reply.status, headers=reply.headers)
