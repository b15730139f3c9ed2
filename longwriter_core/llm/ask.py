"""Ask a model until its reply can be read: the loop behind every plan, section and verdict.

outcome = await ask_until_valid(pool, request, read_verdict, CallId({"judge": model, ...}))
if outcome.value is None:
    print(outcome.reason, outcome.detail)   # "cut", "at 1024 tokens"
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from longwriter_core.llm.client import Reply
from longwriter_core.llm.errors import CallError
from longwriter_core.llm.store import CallId
from longwriter_core.text.length import count_words
from longwriter_core.text.refusals import is_refusal
from longwriter_core.text.thinking import without_thinking

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T")

MAX_TRIES = 5  # requests per value and run, beyond the replies in the store

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n|\n\s*```\s*\Z")  # around JSON, as chat models like it
_ERROR = re.compile(
    r"\A\W*(?:max tries|(?:internal |api |server |unknown |fatal )?error\b[:：\s]"
    r"|internal server error|rate limit|request (?:timed out|failed)"
    r"|connection (?:error|reset|refused)|traceback \(most recent"
    r"|<!doctype html|<html\b|\{\s*[\"']?error[\"']?\s*:|bad gateway|service unavailable"
    r"|\d{3} (?:bad gateway|internal server error|service unavailable))",
    re.IGNORECASE,
)
_ERROR_MAX_WORDS = 60  # a longer text that begins with an error message may still be prose


class Chat(Protocol):
    """What answers calls, with a store in front: a ChatPool, or a rehearsal that calls nothing."""

    async def stored(self, *keys: str) -> Reply | None:
        """The reply under the first of `keys` that the store has, or None."""

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        """Make one call and store its reply under `key`. Raises CallError."""

    def give_up(self, why: str) -> None:
        """Make no further calls."""


@dataclass(frozen=True)
class Rejected:
    """An unusable reply. `reason` is one word, for statistics; `detail` is for people to read."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Structured(Generic[T]):
    """Structured output: the pydantic model of a JSON reply, and `read`, which converts it.

    The model should forbid extra fields. If an endpoint refuses or ignores `response_format`, its
    reply is read as text, so the prompt must ask for the text format.
    """

    model: "type[BaseModel]"
    read: Callable[[Any], T | Rejected]

    def parse(self, text: str) -> T | Rejected | None:
        """The value read from the JSON in `text`; None if that is not valid JSON for the model."""
        try:
            parsed = self.model.model_validate_json(_FENCE.sub("", text).strip())
        except ValueError:  # the base class of pydantic's ValidationError
            return None
        return self.read(parsed)


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """The value read from a valid reply, or the reason why there is no value.

    Reasons are "cut" (the reply ended at its token limit), "refused", "empty", "error_text" (an
    error message instead of an answer), the reader's own reasons, and the reasons of a CallError.
    """

    value: T | None
    reason: str | None = None  # None if there is a value
    detail: str = ""
    reply: Reply | None = None  # the last reply
    key: str | None = None  # of the last reply in the store
    error: CallError | None = None  # set if the last request gave no reply
    attempts: int = 0  # replies from the store included
    rejected: tuple[str, ...] = ()  # the reason of each reply before the last
    prompt_tokens: int = 0  # of all attempts, as the endpoint counts them
    completion_tokens: int = 0

    @property
    def raw(self) -> str:
        """The text of the last reply, or of its refusal."""
        return (self.reply.refusal or self.reply.text) if self.reply else ""

    @property
    def is_cut(self) -> bool:
        """Whether the last reply ended at its token limit."""
        return self.reply is not None and self.reply.is_cut


async def ask_until_valid(
    pool: Chat,
    request: Mapping[str, Any],
    read: Callable[[str], T | Rejected],
    call: CallId,
    *,
    max_tries: int = MAX_TRIES,
    affinity: int = 0,
    slots: asyncio.Semaphore | None = None,
    may_be_cut: bool = False,
    has_format: bool = False,
    structured: Structured[T] | None = None,
) -> Outcome[T]:
    """Send `request` until `read` accepts a reply; at most `max_tries` requests in this run.

    Stored replies are read first, including rejected ones, so that a rerun continues where the last
    run ended and repeats no request. A "seed" in the request increases by one with each attempt.
    `slots` bounds the requests in flight. A reply that ended at its token limit is rejected unless
    `may_be_cut` is true. `has_format` means that replies have a format, such as JSON, which no
    refusal or error message can have; the reply is then checked for a refusal only if `read` fails.
    With `structured`, the request asks for JSON, and `read` handles replies that come as text.
    A CallError is not raised: it is in the outcome.
    """
    reply: Reply | None = None
    key: str | None = None
    rejected: list[str] = []
    attempts = tries = prompt_tokens = completion_tokens = 0
    while True:
        attempts += 1
        keys = call.keys(attempts)
        stored = await pool.stored(*keys)
        if stored:
            reply = stored
        else:
            tries += 1
            try:
                async with slots or contextlib.nullcontext():
                    sent = _completed(request, attempts, structured)
                    reply = await pool.ask(keys[0], sent, affinity=affinity)
            except CallError as error:
                return Outcome(
                    None, error.reason, str(error), reply, key, error, attempts, tuple(rejected),
                    prompt_tokens, completion_tokens,
                )  # fmt: skip
        key = keys[0]
        prompt_tokens += reply.prompt_tokens or 0
        completion_tokens += reply.completion_tokens or 0
        value = read_reply(
            reply, read, may_be_cut=may_be_cut, has_format=has_format, structured=structured
        )
        if not isinstance(value, Rejected):
            return Outcome(
                value, None, "", reply, key, None, attempts, tuple(rejected),
                prompt_tokens, completion_tokens,
            )  # fmt: skip
        if tries >= max_tries:
            return Outcome(
                None, value.reason, value.detail, reply, key, None, attempts, tuple(rejected),
                prompt_tokens, completion_tokens,
            )  # fmt: skip
        rejected.append(value.reason)


def read_reply(
    reply: Reply,
    read: Callable[[str], T | Rejected],
    *,
    may_be_cut: bool = False,
    has_format: bool = False,
    structured: Structured[T] | None = None,
) -> T | Rejected:
    """The value that `read` returns for a reply, or why it is unusable. See `ask_until_valid`."""
    # Check the limit first: a model that thinks until its token limit returns an empty text, and
    # the reason must then be the limit.
    if reply.is_cut and not (may_be_cut and reply.text.strip()):
        return Rejected("cut", f"at {reply.completion_tokens or 'max_tokens'} tokens")
    # Thinking may consider a refusal or quote an error that the answer does not contain.
    answer = without_thinking(reply.text)
    if structured and (parsed := structured.parse(answer)) is not None:
        return parsed
    if not has_format:
        return _fault(reply, answer) or read(reply.text)
    value = read(reply.text)
    if isinstance(value, Rejected) and _is_refused(reply, answer):
        return _fault(reply, answer) or value
    return value


def is_error_text(text: str) -> bool:
    """Whether a short text is an error message instead of prose."""
    return bool(_ERROR.match(text)) and count_words(text) < _ERROR_MAX_WORDS


def _fault(reply: Reply, answer: str) -> Rejected | None:
    """Why a reply is unusable for any request; None if nothing is wrong."""
    if _is_refused(reply, answer):
        return Rejected("refused", _opening(reply.refusal or answer))
    if not answer.strip():
        return Rejected("empty", "thinking alone" if reply.text.strip() else "")
    if is_error_text(answer):
        return Rejected("error_text", _opening(answer))
    return None


def _is_refused(reply: Reply, answer: str) -> bool:
    if reply.refusal or reply.finish_reason == "content_filter":
        return True
    return is_refusal(answer)


def _opening(text: str) -> str:
    return " ".join(text.split())[:100]


def _completed(
    request: Mapping[str, Any], attempt: int, structured: Structured[Any] | None
) -> Mapping[str, Any]:
    """The request with the attempt's own seed, and the schema of structured output."""
    completed = dict(request)
    if "seed" in completed:
        completed["seed"] += attempt - 1
    if structured:
        completed["response_format"] = _response_format(structured.model)
    return completed


@cache
def _response_format(model: "type[BaseModel]") -> Mapping[str, Any]:
    import openai

    # the library's public API for the strict subset of JSON Schema that OpenAI accepts
    schema = openai.pydantic_function_tool(model)["function"]["parameters"]
    return {
        "type": "json_schema",
        "json_schema": {"name": model.__name__, "strict": True, "schema": schema},
    }
