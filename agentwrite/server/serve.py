"""AgentWrite as a model: an OpenAI-compatible endpoint whose answers are planned, then written.

Whatever talks to a chat endpoint can use it: a chat window, or lm_eval, which measures AgentWrite
with a model as the paper does (arXiv 2408.07055, table 2). Requests that name fewer words than
`plan_from`, or none, go to the model as they are.
"""

import asyncio
import contextlib
import hmac
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import web

from agentwrite.errors import WriteError
from agentwrite.settings import Settings
from agentwrite.writing.plan import Plan
from agentwrite.writing.state import Instruction, Section
from agentwrite.writing.writer import Writer
from longwriter_core.errors import InputError
from longwriter_core.llm import CallError, ChatPool, Store, call_key
from longwriter_core.text.required_length import required_length

PLAN_FROM = 2_000  # words; the paper's section 3.1
_SILENCE = 15.0  # seconds after which a stream says that it is still alive
_LARGEST = 64 * 2**20  # bytes of a request
_OURS = ("model", "stream", "stream_options", "n")  # fields of a request that are not passed on
_STATUS = {"refused": 400, "context_overflow": 400, "too_long": 400}
_CODE = {"refused": "content_filter", "context_overflow": "context_length_exceeded"}


@dataclass
class _Text:
    """A text while it is being written; several clients may wait for the same, by its key."""

    key: str
    instruction: Instruction
    pieces: list[str] = field(default_factory=list)  # as they are finished
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # a new one for every change
    usage: dict[str, int] = field(default_factory=dict)
    finish_reason: str = "stop"
    failure: WriteError | CallError | None = None
    is_done: bool = False
    waiting: int = 0
    task: asyncio.Task[None] | None = None

    def add(self, *pieces: str, done: bool = False) -> None:
        """Tell those who wait."""
        self.pieces += pieces
        self.is_done = done
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class Server:
    """Answers /v1/chat/completions, /v1/models and /health. Use as `async with Server(...)`.

    `key` is what clients must send, if anything. Raises InputError where the address is taken.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        host: str = "127.0.0.1",
        port: int = 8010,
        plan_from: int = PLAN_FROM,
        key: str = "",
        log: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.settings, self.host, self.port, self.plan_from = settings, host, port, plan_from
        self.model = f"agentwrite/{settings.model}"
        self._key, self._log = key, log
        self._texts: dict[str, _Text] = {}
        self._count = 0
        store = Store()
        store.check()
        self._chat: ChatPool = settings.chat(store)
        self._writer = Writer(self._chat, settings, scope=settings.scope)
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.0)

    @property
    def base_url(self) -> str:
        """What clients take for `--base-url`."""
        return f"http://{self.host}:{self.port}/v1"

    async def __aenter__(self) -> "Server":
        await self._chat.__aenter__()
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except (OSError, OverflowError) as error:
            await self.__aexit__()
            raise InputError(
                f"cannot listen on {self.host}:{self.port} ({error}): choose another --port"
            ) from error
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

    async def _models(self, _request: web.Request) -> web.Response:
        model = {"id": self.model, "object": "model", "created": 0, "owned_by": "agentwrite"}
        return web.json_response({"object": "list", "data": [model]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._key and not hmac.compare_digest(sent.encode(), self._key.encode()):
            return _error(401, "invalid_api_key", "wrong key")
        try:
            asked = await self._read(request)
        except LookupError as error:
            return _error(404, "model_not_found", str(error.args[0]))
        except ValueError as error:
            return _error(400, "invalid_request", str(error))
        text = self._text(asked)
        text.waiting += 1
        try:
            if asked.get("stream"):
                return await self._stream(request, text, asked)
            while not text.is_done:
                await text.changed.wait()
            if text.failure:
                return _failed(text.failure)
            return web.json_response(self._completion(text))
        finally:
            text.waiting -= 1
            if not text.waiting and text.task and not text.is_done:
                text.task.cancel()  # no client waits for it any longer; finished calls are stored
                self._forget(text)  # who asks again now begins a new one

    async def _read(self, request: web.Request) -> dict[str, Any]:
        """The request's fields. ValueError says what is wrong; LookupError, an unknown model."""
        # a web page can send other types to a local server without asking
        if request.content_type != "application/json":
            raise ValueError("Content-Type must be application/json")
        try:
            asked = await request.json()
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not JSON ({error})") from error
        if not isinstance(asked, dict):
            raise ValueError("not an object")
        if asked.get("model") != self.model:
            raise LookupError(f"the model here is {self.model!r}, not {asked.get('model')!r}")
        if asked.get("n") not in (None, 1):
            raise ValueError("n must be 1: ask several times, with another seed each")
        _conversation(asked)
        return asked

    def _text(self, asked: dict[str, Any]) -> _Text:
        """The text that is asked for; one that is being written already is joined."""
        passed = {name: value for name, value in asked.items() if name not in _OURS}
        passed = {name: value for name, value in passed.items() if value not in (None, [])}
        instruction = _conversation(asked)
        required = required_length(instruction)
        is_planned = (required or 0) >= self.plan_from
        # a seed sets apart several texts for one instruction, as lm-eval's repeats need them
        id = str(asked.get("seed", ""))
        key = call_key(serve=[id, instruction] if is_planned else passed)
        if key not in self._texts:
            text = self._texts[key] = _Text(key, Instruction(id, instruction, required))
            self._count += 1
            work = (
                self._plan_and_write(text, self._count)
                if is_planned
                else self._pass_on(text, passed, self._count)
            )
            text.task = asyncio.create_task(self._write(text, work))
        return self._texts[key]

    async def _write(self, text: _Text, work: Coroutine[Any, Any, None]) -> None:
        text.failure = CallError("the writing was ended")  # until it has come to its own end
        try:
            await work
            text.failure = None
        except (WriteError, CallError) as error:
            text.failure = error
            self._log(f"not written: {error}")
        finally:
            self._forget(text)
            text.add(done=True)

    def _forget(self, text: _Text) -> None:
        if self._texts.get(text.key) is text:
            del self._texts[text.key]

    async def _plan_and_write(self, text: _Text, affinity: int) -> None:
        def on_section(section: Section, _plan: Plan) -> None:
            text.add(f"\n\n{section.text}" if text.pieces else section.text)

        # parallel sections end in any order, and are cleaned once all are there
        parallel = self.settings.parallel
        written = await self._writer.write(
            text.instruction, None if parallel else on_section, affinity
        )
        if parallel:
            text.add(written.text)
        text.usage = _usage(written.prompt_tokens, written.completion_tokens)
        asked_for = text.instruction.required
        self._log(f"{written.words:,} words of {asked_for:,}, {len(written.sections)} sections")

    async def _pass_on(self, text: _Text, passed: dict[str, Any], affinity: int) -> None:
        key = call_key(agentwrite_serve=self.settings.model, asked=passed)
        legacy_key = call_key(  # release 0.1.0 had the addresses of the endpoints in it
            agentwrite_serve=self.settings.model, at=self.settings.scope, asked=passed
        )
        reply = await self._chat.stored(key, legacy_key) or await self._chat.ask(
            key, {**passed, "model": self.settings.model}, affinity=affinity
        )
        text.usage = _usage(reply.prompt_tokens or 0, reply.completion_tokens or 0)
        text.finish_reason = reply.finish_reason or "stop"
        text.add(reply.refusal or reply.text)

    async def _stream(
        self, request: web.Request, text: _Text, asked: dict[str, Any]
    ) -> web.StreamResponse:
        """Server-sent events: a chunk for each finished section."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        id, shown = _new_id(), 0

        async def send(event: object) -> None:
            data = event if isinstance(event, str) else json.dumps(event)
            await response.write(f"data: {data}\n\n".encode())

        while not (text.is_done and shown == len(text.pieces)):
            if shown == len(text.pieces):
                try:
                    async with asyncio.timeout(_SILENCE):
                        await text.changed.wait()
                except TimeoutError:
                    await response.write(b": writing\n\n")
                continue
            piece, shown = text.pieces[shown], shown + 1
            await send(self._chunk(id, {"role": "assistant", "content": piece}))
        if text.failure:
            await send(_error_body(text.failure.reason, str(text.failure)))
        else:
            await send(self._chunk(id, {}, text.finish_reason))
            if (asked.get("stream_options") or {}).get("include_usage"):
                await send({**self._chunk(id, {}), "choices": [], "usage": text.usage})
        await send("[DONE]")
        await response.write_eof()
        return response

    def _completion(self, text: _Text) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(text.pieces)}
        return {
            "id": _new_id(),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": text.finish_reason}],
            "usage": text.usage,
        }

    def _chunk(self, id: str, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        return {
            "id": id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }


def _conversation(asked: dict[str, Any]) -> str:
    """What is asked for, as one text. Raises ValueError.

    One user message stands for itself; several messages keep who said them.
    """
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages must be a list with a user message")
    said = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            with contextlib.suppress(AttributeError, KeyError, TypeError):
                content = "".join(part["text"] for part in content if part["type"] == "text")
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            raise ValueError("every message must have a role, and text as its content")
        said.append((message["role"], content))
    if said[-1][0] != "user" or not said[-1][1].strip():
        raise ValueError("the last message must be the user's, and not empty")
    if len(said) == 1:
        return said[0][1]
    if len(said) == 2 and said[0][0] in ("system", "developer"):
        return "\n\n".join(text for _, text in said if text.strip())
    return "\n\n".join(f"{role.capitalize()}: {text}" for role, text in said)


def _new_id() -> str:
    return f"chatcmpl-{uuid4().hex}"


def _usage(prompt: int, completion: int) -> dict[str, int]:
    """Tokens of all calls that the text took."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _error_body(code: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": code, "code": _CODE.get(code, code)}}


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response(_error_body(code, message), status=status)


def _failed(failure: WriteError | CallError) -> web.Response:
    """502 for what may succeed when asked again, 400 for what will not."""
    return _error(_STATUS.get(failure.reason, 502), failure.reason, str(failure))
