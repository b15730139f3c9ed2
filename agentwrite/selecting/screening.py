"""Asking a model whether an instruction needs a long text, and reading what it says."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from agentwrite.model import Answer, ChatModel
from longwriter_core.llm import Rejected
from longwriter_core.text.thinking import without_thinking

TEMPERATURE = 0.5  # asked again, a reply that cannot be read has to come out otherwise
MAX_TOKENS = 1024

# The longest come first: 不是 is no 是. A form repeated ("yes or no") is no answer.
_WORD = r"(不需要|不是|不用|需要|是|否|yes|no)(?![a-z])(?!\W{0,3}or\b)(?!\W{0,2}(?:否|不是))"
_ANSWER = re.compile(
    rf"(?:answer|verdict|conclusion|答案|回答|结论|判断)(?:\s+is|是|为)?[\W_]{{0,8}}{_WORD}",
    re.IGNORECASE,
)
_WHOLE_LINE = re.compile(rf"^[\W_]*{_WORD}", re.IGNORECASE | re.MULTILINE)
_YES = ("yes", "是", "需要")
_REASON = re.compile(r"(?:reason|理由|原因)[\W_]{0,8}(\S.*)", re.IGNORECASE)
_MOST_REASON = 300  # characters
_TAG = re.compile(r"<(?=\s*/?\s*instruction\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Decision:
    """Whether an instruction needs a long text, and why, in the model's words."""

    is_long: bool
    reason: str


class Screener:
    """Asks one model about instructions."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model

    async def ask(self, instruction: str, place: str, affinity: int) -> Answer[Decision]:
        """The model's decision. Raises WriteError, and ContextOverflowError."""
        return await self._model.ask(
            question(instruction), read_decision, place=place, text_id="select", affinity=affinity
        )


def question(instruction: str) -> str:
    """The prompt about one instruction, which cannot end its section by a tag of its own."""
    return _template().replace("$INST$", _TAG.sub("&lt;", instruction)).rstrip("\n")


@cache
def _template() -> str:
    return (files("agentwrite.writing.prompts") / "long.txt").read_text(encoding="utf-8")


def read_decision(reply: str) -> Decision | Rejected:
    """The decision in a reply: after "Answer:" (the last one counts), else where a line begins
    with yes or no; English or Chinese, in JSON or bold, after thinking or without.
    """
    text = without_thinking(reply)
    said = [found.group(1) for found in _ANSWER.finditer(text)][-1:]
    said = said or [found.group(1) for found in _WHOLE_LINE.finditer(text)]
    if len({word.lower() in _YES for word in said}) != 1:
        return Rejected("no_decision", " ".join(text.split())[:100])
    named = _REASON.search(text)
    reason = _ANSWER.split(named[1] if named else text)[0]
    return Decision(
        said[0].lower() in _YES, " ".join(reason.split()).strip(' *_"{},')[:_MOST_REASON]
    )
