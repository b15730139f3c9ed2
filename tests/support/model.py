"""A writer whose every answer a test can choose, and whose every prompt it can read."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from longwriter_core.mock_server.server import WRITER, MockServer, _Call, _completion, _error

OVERFLOW = "overflow"  # an answer: the prompt is too long
Answer = str | tuple[str, str] | int | None  # text, text with a finish reason, status, as usual


@dataclass(repr=False, eq=False)
class Model(MockServer):
    """The stand-in; where `answer` returns something for a prompt, that is its answer instead."""

    answer: Callable[[str], Answer] = lambda _prompt: None
    prompts: list[str] = field(default_factory=list)

    async def _answer(self, request: web.BaseRequest, call: _Call, fault: str) -> web.Response:
        self.prompts.append(call.prompt)
        answer = self.answer(call.prompt)
        if answer is None:
            return await super()._answer(request, call, fault)
        if answer == OVERFLOW:
            return _error(400, "context_length_exceeded", "Too long.")
        if isinstance(answer, int):
            return _error(answer, "any", "No.")
        text, reason = answer if isinstance(answer, tuple) else (answer, "stop")
        response = _completion(call, text)
        if reason != "stop":
            body = (response.text or "").replace('"stop"', f'"{reason}"')
            response = web.json_response(text=body)
        return response


PLAN = "Paragraph 1 - Main Point: Mud - Word Count: {0} words\n" + "\n".join(
    f"Paragraph {n} - Main Point: {point} - Word Count: {{0}} words"
    for n, point in enumerate(("Tides", "Money", "People"), 2)
)


def is_plan(prompt: str) -> bool:
    """Whether a prompt asks for a plan."""
    return "1 - Main Point: [" in prompt


def is_summary(prompt: str) -> bool:
    """Whether a prompt asks for a summary."""
    return prompt.startswith("A long text is being written")


def step_of(prompt: str) -> int:
    """The step that a prompt asks to be written."""
    return int(re.findall(r"Paragraph (\d+) - Main Point", prompt)[-1])


INSTRUCTION = "Write 1600 words about a harbour."


def section(number: int) -> str:
    """A section of a few words that no other one has."""
    return f"Section {chr(64 + number)} {'abcdefghij'[number % 10] * 9} tells of the harbour."


def by_plan(prompt: str) -> str:
    """The answers of a model that does as it is told: four sections, and a summary."""
    if is_plan(prompt):
        return PLAN.format(400)
    return "In short." if is_summary(prompt) else section(step_of(prompt))


__all__ = [
    "INSTRUCTION",
    "OVERFLOW",
    "PLAN",
    "WRITER",
    "Model",
    "by_plan",
    "is_plan",
    "is_summary",
    "section",
    "step_of",
]
