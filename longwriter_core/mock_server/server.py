"""A local OpenAI-compatible server that stands in for writer and judge. Its scores mean nothing.

The demo, the tests and the benchmarks talk to it instead of to paid models. It writes word salad
of roughly the required length, answers AgentWrite's prompts with a plan or the text of one step,
and judges and compares by rolling dice: a number that comes from it says that the plumbing works,
and nothing about any model or any text.

    with MockServer(delay=0.5, faults=Faults(share=0.2)) as server:
        client = AsyncOpenAI(base_url=server.base_url, api_key="any")

    python -m longwriter_core.mock_server --port 8000      # prints its base URL once it is ready

Two kinds of model answer: `mock-writer`, and a judge, which is any name with "judge" in it.
An answer depends only on the model, the user messages and `seed`, never on when or in which order
calls arrive. A fault depends only on the number of the judge call, so that a retry gets through.
"""

import argparse
import asyncio
import hashlib
import json
import random
import signal
import threading
import time
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

from aiohttp import web

from longwriter_core.mock_server.prose import TOKEN, judge, write

WRITER, JUDGE = "mock-writer", "mock-judge"
FAULT_CYCLE = ("429", "500", "reset", "empty", "refusal", "broken_json", "html")
FAULT_KINDS = (*FAULT_CYCLE, "hang")  # `hang` only on request: it costs the client its timeout


@dataclass(frozen=True)
class Faults:
    """Which judge calls fail, and how.

    `share` (0 to 1) of the judge calls fail, evenly spread, taking turns through `kinds`;
    `Faults(1.0, ("500",))` fails always and in one way. Raises ValueError for any other share
    and for kinds that are unknown or missing.
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
class Stats:
    """Chat calls so far, without bad requests and unknown models.

    A call whose client hung up is neither finished nor in flight.
    """

    calls: dict[str, int] = field(default_factory=dict)  # by model
    finished: int = 0  # faults included
    in_flight: int = 0
    max_in_flight: int = 0
    faults: dict[str, int] = field(default_factory=dict)  # by kind


class _Call(NamedTuple):
    model: str
    prompt: str  # the user messages, joined by blank lines
    digest: str  # SHA-256 of the prompt in UTF-8, hex
    seed: object  # as sent; another seed, another answer
    max_tokens: int | None

    @property
    def is_judge(self) -> bool:
        return "judge" in self.model

    def answer(self) -> str:
        dice = random.Random(f"{self.model} {self.seed} {self.digest}")
        return judge(self.prompt, dice) if self.is_judge else write(self.prompt, dice)


def _read_call(body: bytes) -> _Call:
    """Raises ValueError, with a sentence for the caller, for a body that cannot be served."""
    try:
        asked = json.loads(body)
        said = [turn["content"] for turn in asked["messages"] if turn["role"] == "user"]
        model, prompt = str(asked["model"]), "\n\n".join(said)
    except (KeyError, TypeError) as error:
        raise ValueError(f"`model` or `messages` is missing or malformed: {error!r}") from error
    if asked.get("stream") or asked.get("n") not in (None, 1):
        raise ValueError("The stand-in sends one choice, whole: no `stream`, no `n` above 1.")
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    if limit is not None and not (isinstance(limit, int) and limit > 0):
        raise ValueError("`max_tokens` must be a whole number above 0.")
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    return _Call(model, prompt, digest, asked.get("seed"), limit)


def _completion(call: _Call, answer: str) -> web.Response:
    """The answer, cut after `max_tokens`, as a chat completion."""
    ends = [token.end() for token in islice(TOKEN.finditer(answer), call.max_tokens)]
    is_cut = bool(ends) and TOKEN.search(answer, ends[-1]) is not None
    message = {"role": "assistant", "content": answer[: ends[-1]] if is_cut else answer}
    choice = {"index": 0, "message": message, "finish_reason": "length" if is_cut else "stop"}
    asked, given = len(call.prompt.encode()) // 4, len(ends)  # rough, for speed
    usage = {"prompt_tokens": asked, "completion_tokens": given, "total_tokens": asked + given}
    head = {"id": f"chatcmpl-{uuid4().hex}", "object": "chat.completion", "model": call.model}
    return web.json_response(
        {**head, "created": int(time.time()), "choices": [choice], "usage": usage}
    )


def _error(status: int, code: str, message: str) -> web.Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    headers = {"Retry-After": "0"} if status == 429 else None
    return web.json_response({"error": error}, status=status, headers=headers)


@dataclass(repr=False, eq=False)  # a repr would show the key
class MockServer:
    """The server, on 127.0.0.1 and in a thread of its own, for as long as the `with` block lasts.

    Entering raises OSError if the port is taken or the log cannot be written.
    """

    port: int = 0  # 0 takes a free one
    delay: float = 0.0  # seconds that every chat call takes
    api_key: str | None = None  # if given, asked of every request
    faults: Faults | None = None
    # Gets one JSON line per chat call (model, prompt_sha256, time in Unix seconds) before the
    # call is answered, so that calls can be counted across kills.
    log: Path | None = None
    _stats: Stats = field(default_factory=Stats, init=False)

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> Stats:
        """A snapshot. Safe from any thread, and still there after the `with` block."""
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
        # handler_cancellation: a call whose client hung up is no longer in flight.
        server = web.Server(self._route, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)  # seconds; some calls hang
        try:
            await runner.setup()
            # With the usual backlog of 128, hundreds of clients that connect at once would wait
            # a second for their SYN to be sent again.
            await web.TCPSite(runner, "127.0.0.1", self.port, backlog=1024).start()
            self.port = runner.addresses[0][1]
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            started.set_result(None)
            await self._stop.wait()
        except Exception as error:
            started.set_exception(error)  # __enter__ raises it
        finally:
            await runner.cleanup()

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return _error(401, "invalid_api_key", "Incorrect API key provided.")
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                return await self._chat(request)
            case "GET", "/v1/models":
                models = [{"id": name, "object": "model", "created": 0} for name in (WRITER, JUDGE)]
                return web.json_response({"object": "list", "data": models})
            case "GET", "/stats":
                return web.json_response(asdict(self._stats))
        return _error(404, "unknown_url", f"Unknown request URL: {request.method} {request.path}")

    async def _chat(self, request: web.BaseRequest) -> web.Response:
        try:
            call = _read_call(await request.content.read())  # of any size
        except ValueError as error:
            return _error(400, "invalid_request", str(error))
        if not call.is_judge and call.model != WRITER:
            return _error(404, "model_not_found", f"The model `{call.model}` does not exist.")
        fault = self._begin(call)
        try:
            await asyncio.sleep(self.delay)
            response = await self._answer(request, call, fault)
            self._stats.finished += 1
            return response
        finally:
            self._stats.in_flight -= 1

    def _begin(self, call: _Call) -> str:
        """Books the call and returns the kind of fault that it gets, or ""."""
        if self.log:
            entry = {"model": call.model, "prompt_sha256": call.digest, "time": time.time()}
            with self.log.open("a") as log:
                log.write(json.dumps(entry) + "\n")
        stats = self._stats
        stats.calls[call.model] = stats.calls.get(call.model, 0) + 1
        stats.in_flight += 1
        stats.max_in_flight = max(stats.max_in_flight, stats.in_flight)
        if not call.is_judge or not self.faults:
            return ""
        judged = sum(count for model, count in stats.calls.items() if model != WRITER)
        fault = self.faults.kind_of(judged)
        if fault:
            stats.faults[fault] = stats.faults.get(fault, 0) + 1
        return fault

    async def _answer(self, request: web.BaseRequest, call: _Call, fault: str) -> web.Response:
        answer = call.answer()
        match fault:
            case "429":
                return _error(429, "rate_limit_exceeded", "Rate limit reached.")
            case "500":
                return _error(500, "internal_error", "The server had an error.")
            case "html":
                return web.Response(text="<html>Please sign in.</html>", content_type="text/html")
            case "reset" if request.transport:
                request.transport.abort()  # what is returned below goes nowhere
            case "hang":
                await asyncio.Event().wait()  # until the client gives up or the server stops
            case "empty":
                answer = ""
            case "refusal":
                answer = "I'm sorry, but I can't help with that."
            case "broken_json":
                answer = answer[: len(answer) * 2 // 3]
        return _completion(call, answer)


def main() -> None:
    """Serve in the foreground until SIGINT or SIGTERM. Exits with 2 on bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m longwriter_core.mock_server",
        description="A stand-in for writer and judge. Its scores mean nothing.",
    )
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that every call takes")
    parser.add_argument("--api-key", help="ask every request for this key")
    parser.add_argument("--fault-share", type=float, default=0.0, help="0 to 1, of the judge calls")
    kinds = ",".join(FAULT_CYCLE)
    parser.add_argument("--fault-kinds", default=kinds, help=f"default: {kinds}; also: hang")
    parser.add_argument("--log", type=Path, help="append one JSON line per chat call")
    args = parser.parse_args()

    try:
        faults = Faults(args.fault_share, tuple(args.fault_kinds.split(",")))
        with MockServer(args.port, args.delay, args.api_key, faults, args.log) as server:
            stop = threading.Event()
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, lambda *_: stop.set())
            print(server.base_url, flush=True)
            stop.wait()
    except (OSError, OverflowError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
