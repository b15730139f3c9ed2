"""An OpenAI-compatible endpoint that plans and writes its answers with AgentWrite.

Any chat client can use it, for example lm_eval, which then measures AgentWrite with a model as the
paper does (arXiv 2408.07055, table 2). A request goes to the model unchanged if its last turn asks
for fewer words than `plan_from`, or names no length.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import web

from agentwrite.errors import WriteError
from agentwrite.server.access import Access, error, error_body, guard
from agentwrite.server.requests import ChatRequest, read_request
from agentwrite.settings import Settings
from agentwrite.writing.plan import Plan
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.state import Instruction, Section
from agentwrite.writing.writer import MAX_TEXT_WORDS, Writer
from longwriter_core.errors import InputError
from longwriter_core.llm import CallError, ChatPool, Reply, Store, call_key

PLAN_FROM = 2_000  # words; section 3.1 of the paper
MAX_WORDS = 50_000  # words of a text; the default of --max-words
_KEEP_ALIVE_SECONDS = 15.0  # seconds without data after which a stream sends a keep-alive comment
_MAX_REQUEST_BYTES = 64 * 2**20  # bytes
_STATUS = {"refused": 400, "context_overflow": 400, "too_long": 400}
_CODE = {"refused": "content_filter", "context_overflow": "context_length_exceeded"}


@dataclass
class TokenUse:
    """Tokens of a text's calls, in all and for the calls whose replies were stored."""

    prompt: int = 0
    completion: int = 0
    stored_calls: int = 0
    stored_prompt: int = 0
    stored_completion: int = 0

    def add(self, reply: Reply) -> None:
        """Add the tokens of a call."""
        prompt, completion = reply.prompt_tokens or 0, reply.completion_tokens or 0
        self.prompt += prompt
        self.completion += completion
        if reply.stored:
            self.stored_calls += 1
            self.stored_prompt += prompt
            self.stored_completion += completion

    def as_dict(self) -> dict[str, Any]:
        """Return the `usage` object of the API; `stored` counts the calls that were free."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.stored_prompt},
            "stored": {
                "calls": self.stored_calls,
                "prompt_tokens": self.stored_prompt,
                "completion_tokens": self.stored_completion,
            },
        }


class _CountingPool:
    """Wraps the server's chat pool for one text and counts the text's tokens.

    `slots` limits the calls in flight of all texts together.
    """

    def __init__(self, chat: ChatPool, slots: asyncio.Semaphore, use: TokenUse) -> None:
        self._chat, self._slots, self._use = chat, slots, use

    async def stored(self, *keys: str) -> Reply | None:
        reply = await self._chat.stored(*keys)
        if reply:
            self._use.add(reply)
        return reply

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        async with self._slots:
            reply = await self._chat.ask(key, request, affinity=affinity)
        self._use.add(reply)
        return reply


@dataclass
class _Text:
    """A text that is being written. Several clients may wait for the text of one key."""

    key: str
    instruction: Instruction
    pieces: list[str] = field(default_factory=list)  # finished parts of the text, in order
    changed: asyncio.Event = field(
        default_factory=asyncio.Event
    )  # set on a change, then replaced with a new event
    use: TokenUse = field(default_factory=TokenUse)
    finish_reason: str = "stop"
    failure: WriteError | CallError | None = None
    is_done: bool = False
    waiting: int = 0  # clients
    task: asyncio.Task[None] | None = None

    def add(self, *pieces: str, done: bool = False) -> None:
        """Append finished pieces and notify the waiting clients."""
        self.pieces += pieces
        self.is_done = done
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


@dataclass
class _View:
    """One client's view of a text, which ends before the first stop sequence."""

    text: _Text
    stop: tuple[str, ...]
    is_ended: bool = False  # whether the client receives nothing more
    failure: WriteError | CallError | None = None  # the error to report at the end

    def visible(self) -> str:
        """Return the text so far, without an end that could start a stop sequence."""
        so_far = "".join(self.text.pieces)
        ends = [at for sequence in self.stop if (at := so_far.find(sequence)) >= 0]
        if ends:
            self.is_ended = True
            return so_far[: min(ends)]
        self.is_ended = self.text.is_done
        self.failure = self.text.failure if self.text.is_done else None
        held = 0 if self.text.is_done else max(map(len, self.stop), default=1) - 1
        return so_far[: len(so_far) - held]


class Server:
    """Serves /v1/chat/completions, /v1/models and /health. Use as `async with Server(...)`.

    plan_from      requests for at least this many words are planned and written
    max_words      requests for more words are refused
    key            API key that clients must send; "" for none
    allow_hosts    host names of the server, in addition to the local ones
    allow_origins  origins of web pages that may use the server from a browser (CORS)

    Raises InputError if the address cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        host: str = "127.0.0.1",
        port: int = 8010,
        plan_from: int = PLAN_FROM,
        max_words: int = MAX_WORDS,
        key: str = "",
        allow_hosts: Sequence[str] = (),
        allow_origins: Sequence[str] = (),
        log: Callable[[str], None] = lambda _line: None,
    ) -> None:
        if "*" in allow_origins and not key:
            raise InputError("--allow-origin '*' lets any web page write at your cost: set a key")
        self.settings, self.host, self.port, self.plan_from = settings, host, port, plan_from
        self.max_words = min(max_words, MAX_TEXT_WORDS)
        self.model = f"agentwrite/{settings.model}"
        self._log = log
        self._started = int(time.time())
        self._texts: dict[str, _Text] = {}
        self._count = 0
        store = Store()
        store.check()
        self._chat: ChatPool = settings.chat(store)
        self._prompts = Prompts.load(settings.prompts)
        self._slots = asyncio.Semaphore(settings.concurrency)
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        guard(app, Access(host, key, allow_hosts, allow_origins))
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_get("/v1/models/{id:.+}", self._show_model)
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.0)

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"http://{self.host}:{self.port}/v1"

    async def __aenter__(self) -> "Server":
        await self._chat.__aenter__()
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except (OSError, OverflowError) as problem:
            await self.__aexit__()
            raise InputError(
                f"cannot listen on {self.host}:{self.port} ({problem}): choose another --port"
            ) from problem
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [text.task for text in self._texts.values() if text.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._runner.cleanup()
        await self._chat.__aexit__()

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _list_models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._model_card()]})

    async def _show_model(self, request: web.Request) -> web.Response:
        if (id := request.match_info["id"]) != self.model:
            return error(404, "model_not_found", f"the model here is {self.model!r}, not {id!r}")
        return web.json_response(self._model_card())

    def _model_card(self) -> dict[str, Any]:
        return {
            "id": self.model,
            "object": "model",
            "created": self._started,
            "owned_by": "agentwrite",
        }

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = await self._read(request)
            is_planned = (asked.words or 0) >= self.plan_from
            if is_planned:
                asked.check_planned(self.max_words)
        except LookupError as problem:
            return error(404, "model_not_found", str(problem.args[0]))
        except ValueError as problem:
            return error(400, "invalid_request", str(problem), "invalid_request_error")
        text = self._text(asked, is_planned)
        # an unchanged request passes its stop sequences to the model
        view = _View(text, asked.stop if is_planned else ())
        text.waiting += 1
        try:
            if asked.is_streamed:
                return await self._stream(request, view, asked)
            shown = view.visible()
            while not view.is_ended:
                await text.changed.wait()
                shown = view.visible()
            if view.failure:
                return _failed(view.failure)
            return web.json_response(self._completion(text, shown))
        finally:
            text.waiting -= 1
            if not text.waiting and text.task and not text.is_done:
                text.task.cancel()  # no client is waiting; finished calls are stored
                self._forget(text)  # a later identical request starts a new text

    async def _read(self, request: web.Request) -> ChatRequest:
        """Read a request. Raises ValueError if it is invalid, LookupError for an unknown model."""
        # browsers let any web page send other content types without a CORS preflight
        if request.content_type != "application/json":
            raise ValueError("Content-Type must be application/json")
        try:
            asked = await request.json()
        except (ValueError, RecursionError) as problem:
            raise ValueError(f"not JSON ({problem})") from problem
        if isinstance(asked, dict) and asked.get("model") != self.model:
            raise LookupError(f"the model here is {self.model!r}, not {asked.get('model')!r}")
        return read_request(asked)

    def _text(self, asked: ChatRequest, is_planned: bool) -> _Text:
        """Return the requested text: the one in progress for the same request, or a new one."""
        # the seed separates several texts for one instruction, as in lm-eval's repeats
        id, instruction = asked.seed, asked.instruction
        key = call_key(serve=[id, instruction] if is_planned else asked.passed)
        if key not in self._texts:
            text = self._texts[key] = _Text(key, Instruction(id, instruction, asked.words))
            self._count += 1
            work = (
                self._plan_and_write(text, self._count)
                if is_planned
                else self._pass_on(text, asked.passed, self._count)
            )
            text.task = asyncio.create_task(self._write(text, work))
        return self._texts[key]

    async def _write(self, text: _Text, work: Coroutine[Any, Any, None]) -> None:
        text.failure = CallError("the writing was ended")  # replaced unless the task is cancelled
        try:
            await work
            text.failure = None
        except (WriteError, CallError) as problem:
            text.failure = problem
            self._log(f"not written: {problem}")
        finally:
            self._forget(text)
            text.add(done=True)

    def _forget(self, text: _Text) -> None:
        if self._texts.get(text.key) is text:
            del self._texts[text.key]

    async def _plan_and_write(self, text: _Text, affinity: int) -> None:
        def on_section(section: Section, _plan: Plan) -> None:
            text.add(f"\n\n{section.text}" if text.pieces else section.text)

        counting: Any = _CountingPool(self._chat, self._slots, text.use)
        writer = Writer(counting, self.settings, prompts=self._prompts, scope=self.settings.scope)
        # parallel sections finish in any order and are cleaned together at the end
        parallel = self.settings.parallel
        written = await writer.write(text.instruction, None if parallel else on_section, affinity)
        if parallel:
            text.add(written.text)
        asked_for = text.instruction.required
        self._log(f"{written.words:,} words of {asked_for:,}, {len(written.sections)} sections")

    async def _pass_on(self, text: _Text, passed: Mapping[str, Any], affinity: int) -> None:
        key = call_key(agentwrite_serve=self.settings.model, asked=passed)
        legacy_key = call_key(  # release 0.1.0 included the addresses of the endpoints
            agentwrite_serve=self.settings.model, at=self.settings.scope, asked=passed
        )
        chat = _CountingPool(self._chat, self._slots, text.use)
        reply = await chat.stored(key, legacy_key) or await chat.ask(
            key, {**passed, "model": self.settings.model}, affinity=affinity
        )
        text.finish_reason = reply.finish_reason or "stop"
        text.add(reply.refusal or reply.text)

    async def _stream(
        self, request: web.Request, view: _View, asked: ChatRequest
    ) -> web.StreamResponse:
        """Stream server-sent events, with one chunk for each finished section."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        id, sent = _new_id(), 0
        text = view.text

        async def send(event: object) -> None:
            data = event if isinstance(event, str) else json.dumps(event)
            await response.write(f"data: {data}\n\n".encode())

        while True:
            changed = text.changed
            shown = view.visible()
            if len(shown) > sent:
                piece, sent = shown[sent:], len(shown)
                await send(self._chunk(id, {"role": "assistant", "content": piece}))
                continue  # more text may have arrived meanwhile
            if view.is_ended:
                break
            try:
                async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                    await changed.wait()
            except TimeoutError:
                await response.write(b": writing\n\n")
        if view.failure:
            await send(_error_body(view.failure))
        else:
            await send(self._chunk(id, {}, text.finish_reason))
            if asked.wants_usage:
                await send({**self._chunk(id, {}), "choices": [], "usage": text.use.as_dict()})
        await send("[DONE]")
        await response.write_eof()
        return response

    def _completion(self, text: _Text, shown: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": shown}
        return {
            "id": _new_id(),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": text.finish_reason}],
            "usage": text.use.as_dict(),
        }

    def _chunk(self, id: str, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        return {
            "id": id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }


def _new_id() -> str:
    return f"chatcmpl-{uuid4().hex}"


def _error_body(failure: WriteError | CallError) -> dict[str, Any]:
    code = _CODE.get(failure.reason, failure.reason)
    return error_body(code, str(failure), failure.reason)


def _failed(failure: WriteError | CallError) -> web.Response:
    """Return 400 for errors that a retry cannot fix, and 502 for all others."""
    status = _STATUS.get(failure.reason, 502)
    return web.json_response(_error_body(failure), status=status)
