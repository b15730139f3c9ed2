"""Ask a model whether an instruction needs a long text, and read its reply.

Endpoints with structured output return the decision as JSON. The prompt asks for two lines of text,
which other endpoints return. The prompt is part of the keys of stored calls, so changing it makes
all calls again.
"""

import asyncio
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

from agentwrite.model import Answer, ChatModel
from agentwrite.settings import Settings
from agentwrite.writing.context import estimate_tokens
from longwriter_core.llm import ChatPool, ContextOverflowError, Rejected, Structured
from longwriter_core.llm.batch import MAX_ROWS
from longwriter_core.text.thinking import without_thinking

TEMPERATURE = 0.5  # above 0, so that a retry can give another reply
MAX_TOKENS = 1024

_MAX_REASON = 300  # characters

# Longer words come first, because 不是 contains 是. A word that is part of a choice, as in "yes or
# no", is not an answer.
_WORD = r"(不需要|不是|不用|需要|是|否|yes|no)(?![a-z])(?!\W{0,3}or\b)(?!\W{0,2}(?:否|不是))"
_ANSWER = re.compile(
    rf"(?:answer|verdict|conclusion|答案|回答|结论|判断)(?:\s+is|是|为)?[\W_]{{0,8}}{_WORD}",
    re.IGNORECASE,
)
_LINE_START = re.compile(rf"^[\W_]*{_WORD}", re.IGNORECASE | re.MULTILINE)
_YES = ("yes", "是", "需要")
_REASON = re.compile(r"(?:reason|理由|原因)[\W_]{0,8}(\S.*)", re.IGNORECASE)
_TAG = re.compile(r"<(?=\s*/?\s*instruction\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Decision:
    """Whether an instruction needs a long text, with the model's reason."""

    is_long: bool
    reason: str


class ScreeningReply(BaseModel):
    """A decision as structured output. The reason comes first, because it guides the answer."""

    model_config = ConfigDict(extra="forbid")

    reason: str
    answer: Literal["yes", "no"]


STRUCTURED_DECISION = Structured(
    ScreeningReply,
    lambda reply: Decision(reply.answer == "yes", " ".join(reply.reason.split())[:_MAX_REASON]),
)


class Screener:
    """Asks one model about instructions. `slots` limits how many are handled at a time."""

    def __init__(self, chat: ChatPool, settings: Settings) -> None:
        concurrency = MAX_ROWS if settings.batch else settings.concurrency
        self.slots = asyncio.Semaphore(concurrency)
        self._context = settings.known_context
        chosen = settings.model_fields_set  # the defaults of Settings are meant for writing
        self._model = ChatModel(
            chat,
            settings.model,
            concurrency=concurrency,
            temperature=settings.temperature if "temperature" in chosen else TEMPERATURE,
            max_tokens=settings.max_tokens if "max_tokens" in chosen else MAX_TOKENS,
            scope=settings.scope,
            extra=settings.extra,
        )

    async def ask(self, instruction: str, row: int) -> Answer[Decision]:
        """Return the model's decision. Raises WriteError and ContextOverflowError.

        A row that does not fit in the known context is not asked about.
        """
        prompt = question(instruction)
        tokens = estimate_tokens(prompt) + self._model.max_tokens
        if self._context and tokens > self._context:
            raise ContextOverflowError(
                f"about {tokens:,} tokens with the reply, {self._context:,} fit"
            )
        return await self._model.ask(
            prompt,
            read_decision,
            place=f"row {row}",
            text_id="select",
            affinity=row,
            structured=STRUCTURED_DECISION,
        )


def question(instruction: str) -> str:
    """Return the prompt about an instruction, with any <instruction> tags in it escaped."""
    return _template().replace("$INST$", _TAG.sub("&lt;", instruction)).rstrip("\n")


@cache
def _template() -> str:
    return (files("agentwrite.writing.prompts") / "long.txt").read_text(encoding="utf-8")


def read_decision(reply: str) -> Decision | Rejected:
    """Read the decision in an English or Chinese reply (plain text, Markdown or JSON).

    The decision is the last yes or no after "Answer:", else the one at the start of a line. Returns
    Rejected if no line has one, or if the lines contradict each other.
    """
    text = without_thinking(reply)
    words = _ANSWER.findall(text)[-1:] or _LINE_START.findall(text)
    decisions = {word.lower() in _YES for word in words}
    if len(decisions) != 1:
        return Rejected("no_decision", " ".join(text.split())[:100])
    named = _REASON.search(text)
    reason = _ANSWER.split(named[1] if named else text)[0]
    return Decision(decisions.pop(), " ".join(reason.split()).strip(' *_"{},')[:_MAX_REASON])
