"""The stand-in server, for tests that must count every request or choose every answer."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from longwriter_core.llm import CallError, ChatPool, Reply, Store, call_key, run_async
from longwriter_core.mock_server.server import JUDGE, MockServer

KEY = "sk-never-to-be-seen"

DIMENSIONS = (
    "Relevance",
    "Accuracy",
    "Coherence",
    "Clarity",
    "Breadth and Depth",
    "Reading Experience",
)


def verdict(score: int) -> str:
    """A judge's reply that gives `score` in all six dimensions."""
    return json.dumps({"Analysis": "Read.", **dict.fromkeys(DIMENSIONS, score)})


def completion(text: str | None, finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion, as JSON."""
    said = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish_reason}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def refusal(status: int, code: str | None, message: str) -> tuple[int, dict[str, Any]]:
    """An answer that refuses the request, as OpenAI words it."""
    return status, {"error": {"message": message, "type": "error", "param": None, "code": code}}


@dataclass(repr=False, eq=False)
class Endpoint(MockServer):
    """The stand-in, counting all requests: those with a bad key or an unknown model, too."""

    answers: Sequence[tuple[int, Any]] = ()  # status and JSON, in turn; the last one repeats
    jitter: float = 0.0  # seconds that a request takes at most, drawn for each
    requests: int = 0

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        turn = min(self.requests, len(self.answers)) - 1
        await asyncio.sleep(random.uniform(0, self.jitter))
        if not self.answers:
            return await super()._route(request)
        await request.content.read()
        status, answer = self.answers[turn]
        return web.json_response(answer, status=status)


def request(text: str = "Hello.", model: str = JUDGE) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


async def ask_all(
    url: str, *requests: dict[str, Any], key: str = KEY, retries: int = 3
) -> list[Reply | CallError]:
    """One call after the other through one ChatPool: what came of each."""
    outcomes: list[Reply | CallError] = []
    async with ChatPool(Store(), base_url=url, api_key=key, retries=retries) as chat:
        for each in requests:
            try:
                outcomes.append(await chat.ask(call_key(request=each), each))
            except CallError as error:
                outcomes.append(error)
    return outcomes


def ask(url: str, retries: int = 0) -> Reply | CallError:
    return run_async(ask_all(url, request(), retries=retries))[0]
