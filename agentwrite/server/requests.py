"""What a chat request asks for: a long text to plan and write, or an answer of the model. Pure.

Writing costs money, so only the last user turn decides; `lengths` reads it.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentwrite.server.lengths import requested_words

# Fields of a request that are the server's own and never passed on.
_SERVER_FIELDS = ("model", "stream", "stream_options", "n")
# What a planned text cannot offer; each with the values that ask for nothing.
_NOT_FOR_TEXTS: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "tools": (),
    "functions": (),
    "logprobs": (False,),
    "modalities": (["text"],),
    "audio": (),
}
_MAX_STOPS = 16


@dataclass(frozen=True)
class ChatRequest:
    """A request whose fields are valid. `words` is the length that it asks to be written."""

    passed: Mapping[str, Any]  # the fields that the model gets
    instruction: str  # the conversation as one text
    words: int | None
    is_streamed: bool
    wants_usage: bool
    seed: str
    stop: tuple[str, ...]

    def check_planned(self, max_words: int) -> None:
        """Raise ValueError where a planned text cannot be what the request asks for."""
        if (self.words or 0) > max_words:
            raise ValueError(
                f"{self.words:,} words are asked for, and this server writes at most "
                f"{max_words:,} (--max-words)"
            )
        for name, harmless in _NOT_FOR_TEXTS.items():
            if (value := self.passed.get(name)) and value not in harmless:
                raise ValueError(
                    f"{name} cannot be combined with a request for {self.words:,} words, which is "
                    "planned and written in sections: leave it out"
                )


def read_request(asked: Any) -> ChatRequest:
    """Check the fields that the server itself uses. Raises ValueError."""
    if not isinstance(asked, dict):
        raise ValueError("not an object")
    if asked.get("n") not in (None, 1):
        raise ValueError("n must be 1: ask several times, with another seed each")
    turns = _turns(asked.get("messages"))
    options = asked.get("stream_options")
    passed = {name: value for name, value in asked.items() if name not in _SERVER_FIELDS}
    return ChatRequest(
        passed={name: value for name, value in passed.items() if value not in (None, [])},
        instruction=_as_one_text(turns),
        words=requested_words(turns[-1][1]),
        is_streamed=bool(asked.get("stream")),
        wants_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        seed=str(asked.get("seed", "")),
        stop=_stops(asked.get("stop")),
    )


def _turns(messages: Any) -> list[tuple[str, str]]:
    """The role and the text of each message. Raises ValueError."""
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages must be a list with a user message")
    turns = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            with contextlib.suppress(AttributeError, KeyError, TypeError):
                content = "".join(part["text"] for part in content if part["type"] == "text")
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            raise ValueError("every message must have a role, and text as its content")
        turns.append((message["role"], content))
    if turns[-1][0] != "user" or not turns[-1][1].strip():
        raise ValueError("the last message must be the user's, and not empty")
    return turns


def _as_one_text(turns: list[tuple[str, str]]) -> str:
    """One user message stands for itself; several messages keep who said them."""
    if len(turns) == 1:
        return turns[0][1]
    if len(turns) == 2 and turns[0][0] in ("system", "developer"):
        return "\n\n".join(text for _, text in turns if text.strip())
    return "\n\n".join(f"{role.capitalize()}: {text}" for role, text in turns)


def _stops(stop: Any) -> tuple[str, ...]:
    """The stop sequences; clients such as lm_eval send an empty list. Raises ValueError."""
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ValueError("stop must be a text or a list of texts")
    if len(stops) > _MAX_STOPS:
        raise ValueError(f"stop can hold {_MAX_STOPS} texts, not {len(stops)}")
    return tuple(filter(None, stops))
