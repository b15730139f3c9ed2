"""A mock server for tests that count requests or choose whole replies, and helpers to call it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longwriter_core.llm import CallError, ChatPool, Reply, Store, call_key, run_async
from longwriter_core.mock_server import JUDGE, MockReply, MockRequest, MockServer

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
    """A chat completion as JSON."""
    said = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish_reason}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def refusal(status: int, code: str | None, message: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of an error, in the format of OpenAI's API."""
    return status, {"error": {"message": message, "type": "error", "param": None, "code": code}}


@dataclass(repr=False, eq=False)
class Endpoint(MockServer):
    """The mock server with a list of replies, sent one after the other; the last one repeats.

    Without a list, the mock models answer.
    """

    answers: Sequence[tuple[int, Any]] = ()  # status and JSON

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answers:
            self.on_request = self._next_answer

    @property
    def asked(self) -> list[MockRequest]:
        """The requests, without those that were refused for a parameter.

        A client learns by such a refusal that a model takes the token limit under another name.
        """
        return [request for request in self.history if not request.was_refused]

    @property
    def requests(self) -> int:
        """How many were asked, including those with a wrong key or an unknown model."""
        return len(self.asked)

    def _next_answer(self, _: MockRequest) -> MockReply:
        status, body = self.answers[min(self.requests, len(self.answers)) - 1]
        return MockReply(status=status, body=body)


def request(text: str = "Hello.", model: str = JUDGE) -> dict[str, Any]:
    """The body of a chat call with one user message."""
    return {"model": model, "messages": [{"role": "user", "content": text}]}


async def ask_all(
    url: str, *requests: dict[str, Any], key: str = KEY, retries: int = 3
) -> list[Reply | CallError]:
    """The outcomes of calls made one after the other through one ChatPool."""
    outcomes: list[Reply | CallError] = []
    async with ChatPool(Store(), base_url=url, api_key=key, retries=retries) as chat:
        for each in requests:
            try:
                outcomes.append(await chat.ask(call_key(request=each), each))
            except CallError as error:
                outcomes.append(error)
    return outcomes


def ask(url: str, retries: int = 0) -> Reply | CallError:
    """The outcome of one call."""
    return run_async(ask_all(url, request(), retries=retries))[0]
