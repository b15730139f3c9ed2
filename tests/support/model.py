"""A mock server for tests that choose answers by prompt, and the answers of an ideal writer."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from longwriter_core.mock_server import WRITER, MockReply, MockRequest, MockServer

OVERFLOW = "overflow"  # an answer meaning that the prompt is too long
# A text, a text with its finish reason, an error status, or None for the mock model's own answer.
Answer = str | tuple[str, str] | int | None


def reply(answer: Answer) -> MockReply | str | int | None:
    """What the mock server's hook returns for an answer."""
    if answer == OVERFLOW:
        error = {"message": "Too long.", "code": "context_length_exceeded"}
        return MockReply(status=400, body={"error": error})
    return MockReply(*answer) if isinstance(answer, tuple) else answer


@dataclass(repr=False, eq=False)
class Model(MockServer):
    """A mock server that answers a prompt with the result of `answer`, unless that is None."""

    answer: Callable[[str], Answer] = lambda _prompt: None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.on_request = lambda asked: reply(self.choose(asked)) if asked.is_chat else None

    def choose(self, request: MockRequest) -> Answer:
        """The answer to a chat call."""
        return self.answer(request.prompt)


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
    """The number of the step that a prompt asks the model to write."""
    return int(re.findall(r"Paragraph (\d+) - Main Point", prompt)[-1])


INSTRUCTION = "Write 1600 words about a harbour."


def section(number: int) -> str:
    """A short section that differs from all others."""
    return f"Section {chr(64 + number)} {'abcdefghij'[number % 10] * 9} tells of the harbour."


def by_plan(prompt: str) -> str:
    """The answers of a model that follows every instruction: a plan, four sections, a summary."""
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
