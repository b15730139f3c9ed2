"""The chat API of OpenAI over AgentWrite: requests, streams, and the texts being written.

A request goes to the model unchanged if its last turn asks for fewer words than `plan_from`, or
names no length.
"""

import asyncio
import json
import time
from collections.abc import Coroutine, Mapping
from typing import Any
from uuid import uuid4

from aiohttp import web

from agentwrite.engine import Engine
from agentwrite.errors import WriteError
from agentwrite.server.requests import ChatRequest, read_request
from agentwrite.server.texts import View, WrittenText
from agentwrite.writing.plan import Plan
from agentwrite.writing.state import Instruction, Section
from longwriter_core.llm import CallError, call_key
from longwriter_core.local_server import error, error_body

_KEEP_ALIVE_SECONDS = 15.0  # seconds without data after which a stream sends a keep-alive comment
_STATUS = {"refused": 400, "context_overflow": 400, "too_long": 400}
_CODE = {"refused": "content_filter", "context_overflow": "context_length_exceeded"}


class ChatApi:
    """Answers /v1/models and /v1/chat/completions.

    Requests for at least `plan_from` words are planned and written.
    """

    def __init__(self, engine: Engine, *, plan_from: int) -> None:
        self.settings, self.plan_from = engine.settings, plan_from
        self.model = f"agentwrite/{engine.settings.model}"
        self._engine, self._log = engine, engine.log
        self._started = int(time.time())
        self._texts: dict[str, WrittenText] = {}
        self._count = 0

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the paths of the API."""
        router.add_get("/v1/models", self._list_models)
        router.add_get("/v1/models/{id:.+}", self._show_model)
        router.add_post("/v1/chat/completions", self._complete)

    async def close(self) -> None:
        """Stop all texts; finished calls are stored."""
        tasks = [text.task for text in self._texts.values() if text.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
                asked.check_planned(self._engine.max_words)
        except LookupError as problem:
            return error(404, "model_not_found", str(problem.args[0]))
        except ValueError as problem:
            return error(400, "invalid_request", str(problem), "invalid_request_error")
        text = self._text(asked, is_planned)
        # an unchanged request passes its stop sequences to the model
        view = View(text, asked.stop if is_planned else ())
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

    def _text(self, asked: ChatRequest, is_planned: bool) -> WrittenText:
        """Return the requested text: the one in progress for the same request, or a new one."""
        # the seed separates several texts for one instruction, as in lm-eval's repeats
        id, instruction = asked.seed, asked.instruction
        key = call_key(serve=[id, instruction] if is_planned else asked.passed)
        if key not in self._texts:
            text = self._texts[key] = WrittenText(key, Instruction(id, instruction, asked.words))
            self._count += 1
            work = (
                self._plan_and_write(text, self._count)
                if is_planned
                else self._pass_on(text, asked.passed, self._count)
            )
            text.task = asyncio.create_task(self._write(text, work))
        return self._texts[key]

    async def _write(self, text: WrittenText, work: Coroutine[Any, Any, None]) -> None:
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

    def _forget(self, text: WrittenText) -> None:
        if self._texts.get(text.key) is text:
            del self._texts[text.key]

    async def _plan_and_write(self, text: WrittenText, affinity: int) -> None:
        def on_section(section: Section, _plan: Plan) -> None:
            text.add(f"\n\n{section.text}" if text.pieces else section.text)

        writer = self._engine.writer(self._engine.counting(text.use))
        # parallel sections finish in any order and are cleaned together at the end
        parallel = self.settings.parallel
        written = await writer.write(text.instruction, None if parallel else on_section, affinity)
        if parallel:
            text.add(written.text)
        asked_for = text.instruction.required
        self._log(f"{written.words:,} words of {asked_for:,}, {len(written.sections)} sections")

    async def _pass_on(self, text: WrittenText, passed: Mapping[str, Any], affinity: int) -> None:
        key = call_key(agentwrite_serve=self.settings.model, asked=passed)
        legacy_key = call_key(  # release 0.1.0 included the addresses of the endpoints
            agentwrite_serve=self.settings.model, at=self.settings.scope, asked=passed
        )
        chat = self._engine.counting(text.use)
        reply = await chat.stored(key, legacy_key) or await chat.ask(
            key, {**passed, "model": self.settings.model}, affinity=affinity
        )
        text.finish_reason = reply.finish_reason or "stop"
        text.add(reply.refusal or reply.text)

    async def _stream(
        self, request: web.Request, view: View, asked: ChatRequest
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

    def _completion(self, text: WrittenText, shown: str) -> dict[str, Any]:
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
