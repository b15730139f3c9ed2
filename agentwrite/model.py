"""One model with its sampling parameters: asked until its reply is valid, for text or decision."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentwrite.errors import WriteError
from longwriter_core.files import sha256
from longwriter_core.llm import (
    CallId,
    Chat,
    ContextOverflowError,
    EndpointError,
    Rejected,
    SkippedError,
    Structured,
    ask_until_valid,
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer(Generic[_T]):
    """The value of a valid reply. Tokens are those of all attempts, as the endpoint counts them."""

    value: _T
    model: str
    asks: int
    rejected: tuple[str, ...]  # the reason of each attempt but the last
    prompt_tokens: int
    completion_tokens: int
    tokens: int  # of the last attempt alone, prompt and reply
    cut: bool  # the reply ended at the token limit


class ChatModel:
    """One model behind a chat pool, with at most `concurrency` calls in flight at a time.

    `scope` is what release 0.1.0 put into the keys of stored calls: the addresses of the endpoints.
    Replies that it stored are still found. `extra` are further fields of every request. Models that
    share `slots` share their concurrency.
    """

    def __init__(
        self,
        chat: Chat,
        model: str,
        *,
        concurrency: int,
        temperature: float,
        max_tokens: int,
        scope: str = "",
        seed: int | None = None,
        extra: Mapping[str, Any] | None = None,
        slots: asyncio.Semaphore | None = None,
    ) -> None:
        self.chat = chat
        self.model, self.temperature, self.max_tokens = model, temperature, max_tokens
        self._scope, self._seed = scope, seed
        self._extra = dict(extra or {})
        self.slots = slots or asyncio.Semaphore(concurrency)

    async def ask(
        self,
        prompt: str,
        read: Callable[[str], _T | Rejected],
        *,
        place: str,
        text_id: str,
        affinity: int,
        seed: int | None = None,
        may_be_cut: bool = False,
        structured: Structured[_T] | None = None,
    ) -> Answer[_T]:
        """Send `prompt` until `read` accepts the reply.

        Stored replies come first, rejected ones too, so that a rerun resumes where the last run
        ended. With `seed`, each attempt has its own, counted from there. Calls with the same
        `affinity` go to the same endpoint, which can reuse its prefix cache. A reply that ended at
        the token limit is rejected, unless it `may_be_cut`. With `structured`, the endpoint is
        asked for JSON; `read` takes replies in the text format.

        Raises ContextOverflowError if the prompt is too long, and WriteError for any other failure.
        """
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            **self._extra,
        }
        if (seed := self._seed if seed is None else seed) is not None:
            request["seed"] = seed
        outcome = await ask_until_valid(
            self.chat,
            request,
            read,
            self._call_id(prompt, text_id),
            affinity=affinity,
            slots=self.slots,
            may_be_cut=may_be_cut,
            structured=structured,
        )
        if outcome.value is not None and outcome.reply:
            last = outcome.reply
            return Answer(
                outcome.value,
                last.model,
                outcome.attempts,
                outcome.rejected,
                outcome.prompt_tokens,
                outcome.completion_tokens,
                (last.prompt_tokens or 0) + (last.completion_tokens or 0),
                last.is_cut,
            )
        if isinstance(outcome.error, ContextOverflowError):
            raise outcome.error
        if outcome.error:
            is_fatal = isinstance(outcome.error, EndpointError | SkippedError)
            raise WriteError(outcome.error.reason, outcome.detail, place, is_fatal=is_fatal)
        detail = f"{outcome.detail}; " if outcome.detail else ""
        raise WriteError(str(outcome.reason), f"{detail}asked {outcome.attempts} times", place)

    def _call_id(self, prompt: str, text_id: str) -> CallId:
        parts: dict[str, Any] = {
            "agentwrite": self.model,
            "scope": "",
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "text": text_id,
            "prompt": sha256(prompt),
        }
        if self._extra:
            parts["extra"] = self._extra
        return CallId(parts, {"scope": self._scope} if self._scope else {})
