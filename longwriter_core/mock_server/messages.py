"""The mock server's messages: requests, replies chosen by a test, completions and errors."""

import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any
from uuid import uuid4

from longwriter_core.mock_server.answers import fill_schema, judge, write
from longwriter_core.mock_server.prose import TOKEN

CHAT_PATH = "/v1/chat/completions"
Json = dict[str, Any]
_NOT_GIVEN: Any = object()


@dataclass
class MockRequest:
    """A request as the server received it."""

    method: str
    path: str  # with the query
    headers: Mapping[str, str]
    body: Json = field(default_factory=dict)  # {} if the request had no JSON object
    was_accepted: bool = False  # a chat call that was neither malformed nor refused
    was_refused: bool = False  # a chat call with a parameter that the model does not take

    @property
    def is_chat(self) -> bool:
        """Whether it is a chat call."""
        return self.method == "POST" and self.path.partition("?")[0] == CHAT_PATH

    @property
    def model(self) -> str:
        """The requested model; "" if there is none."""
        return str(self.body.get("model", ""))

    @property
    def is_judge(self) -> bool:
        """Whether the model is a judge: its name contains "judge"."""
        return "judge" in self.model

    @cached_property
    def prompt(self) -> str:
        """The user messages, joined by blank lines. Raises ValueError if they are malformed."""
        try:
            return "\n\n".join(
                message["content"] for message in self.body["messages"] if message["role"] == "user"
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"`messages` is missing or malformed: {error!r}") from error

    @property
    def digest(self) -> str:
        """The hexadecimal SHA-256 of the prompt in UTF-8."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()

    @property
    def seed(self) -> Any:
        """The seed, as sent."""
        return self.body.get("seed")

    @property
    def max_tokens(self) -> Any:
        """The token limit, under either of its names."""
        return self.body.get("max_completion_tokens") or self.body.get("max_tokens")

    def check(self) -> None:
        """Raise ValueError, with a message for the client, if the chat call is malformed."""
        if not (self.model and self.prompt is not None):
            raise ValueError("`model` is missing.")
        if self.body.get("stream") or self.body.get("n") not in (None, 1):
            raise ValueError("The mock server takes neither `stream` nor `n` above 1.")
        limit = self.max_tokens
        if limit is not None and not (isinstance(limit, int) and limit > 0):
            raise ValueError("`max_tokens` must be a whole number above 0.")
        wanted = self.body.get("response_format") or {"type": "text"}
        if not isinstance(wanted, dict) or wanted.get("type") not in (
            "text", "json_object", "json_schema"
        ):  # fmt: skip
            raise ValueError("`response_format` must be of type text, json_object or json_schema.")
        if wanted["type"] == "json_schema" and not self.schema:
            raise ValueError("`response_format.json_schema` needs `name` and `schema`.")

    @property
    def schema(self) -> Json | None:
        """The JSON schema that the answer must fit."""
        schema = (self.body.get("response_format") or {}).get("json_schema") or {}
        return schema.get("schema") if schema.get("name") else None

    def answer(self) -> str:
        """The mock model's answer."""
        dice = random.Random(f"{self.model} {self.seed} {self.digest}")
        if self.schema:
            return fill_schema(self.schema, self.prompt, dice)
        return judge(self.prompt, dice) if self.is_judge else write(self.prompt, dice)


@dataclass(frozen=True)
class MockReply:
    """A reply that the hook chose: a text, an error, any JSON, or a fault.

    A given `body` is sent unchanged as JSON. Otherwise a `status` other than 200 sends an error,
    and 200 sends a completion with `text`, or with the mock model's own answer if `text` is None.
    """

    text: str | None = None
    finish_reason: str | None = None  # default: "length" where `max_tokens` cuts the text
    message: Mapping[str, Any] = field(default_factory=dict)  # more fields of the message
    status: int = 200
    body: Any = _NOT_GIVEN
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""  # one of FAULT_KINDS

    @property
    def has_body(self) -> bool:
        """Whether a body was given. It may be None, which is sent as null."""
        return self.body is not _NOT_GIVEN


def completion(
    request: MockRequest, reply: MockReply, reasoning_tokens: int = 0, usage: bool = True
) -> Json:
    """A chat completion. The token limit applies to the reasoning first, then to the text."""
    text = request.answer() if reply.text is None else reply.text
    limit = request.max_tokens
    message: Json = {"role": "assistant"}
    is_cut = False
    if reasoning_tokens:
        thought = min(reasoning_tokens, limit or reasoning_tokens)
        is_cut = bool(limit) and limit <= reasoning_tokens
        limit = limit and limit - thought
        reasoning = " ".join(["hm"] * thought)
        # vLLM and OpenRouter call the field `reasoning`, DeepSeek and others `reasoning_content`.
        message |= {"reasoning": reasoning, "reasoning_content": reasoning}
    if is_cut:
        text, tokens = "", 0
    elif limit and limit < len(text):  # there are never more tokens than characters
        ends = [token.end() for token in islice(TOKEN.finditer(text), limit)]
        tokens = len(ends)
        if ends and TOKEN.search(text, ends[-1]):
            text, is_cut = text[: ends[-1]], True
    else:
        tokens = len(TOKEN.findall(text))
    message |= {"content": text, **reply.message}
    reason = reply.finish_reason or ("length" if is_cut else "stop")
    result: Json = {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    }
    if usage:
        asked = len(request.prompt.encode()) // 4  # an estimate, for speed
        spent = tokens + (thought if reasoning_tokens else 0)
        result["usage"] = {
            "prompt_tokens": asked,
            "completion_tokens": spent,
            "total_tokens": asked + spent,
        }
        if reasoning_tokens:
            result["usage"]["completion_tokens_details"] = {"reasoning_tokens": thought}
    return result


def error_reply(
    status: int, code: str, message: str, param: str | None = None, **headers: str
) -> MockReply:
    """An error in the format of OpenAI's API."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return MockReply(
        status=status,
        body={"error": error},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def refuse_parameters(
    request: MockRequest, *, is_thinking: bool, refuses: Sequence[str]
) -> MockReply | None:
    """The error for a parameter that the model does not accept; None if it accepts all."""
    body = request.body
    for name in refuses:
        if name in body:
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            return error_reply(400, "unsupported_parameter", message, name)
    if is_thinking and body.get("temperature") not in (None, 1):
        message = (
            f"Unsupported value: 'temperature' does not support {json.dumps(body['temperature'])} "
            "with this model. Only the default (1) value is supported."
        )
        return error_reply(400, "unsupported_value", message, "temperature")
    if is_thinking and "max_tokens" in body:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead."
        )
        return error_reply(400, "unsupported_parameter", message, "max_tokens")
    return None
