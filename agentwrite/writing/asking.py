"""Asking a model until its reply can be used; every finished call is in the store."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentwrite.errors import WriteError
from agentwrite.writing.plan import Step
from longwriter_core.files import sha256
from longwriter_core.llm import (
    CallId,
    ChatPool,
    ContextOverflowError,
    EndpointError,
    Rejected,
    SkippedError,
    ask_until_valid,
    for_each,
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer(Generic[_T]):
    """What a usable reply was read as. Tokens are those of all asks, by the endpoint's count."""

    value: _T
    model: str
    asks: int
    rejected: tuple[str, ...]  # the reason of each ask but the last
    prompt_tokens: int
    completion_tokens: int
    tokens: int  # of the last ask alone, prompt and reply
    cut: bool  # the reply ended at the token limit


class Asking:
    """Calls to one model, at most `concurrency` at a time, however many texts are being written.

    `scope` is what release 0.1.0 put into the keys of stored calls: the addresses of the endpoints.
    Replies that it stored are still found.
    """

    def __init__(
        self,
        chat: ChatPool,
        model: str,
        *,
        concurrency: int,
        temperature: float,
        max_tokens: int,
        scope: str = "",
    ) -> None:
        self.chat = chat
        self.model, self.temperature, self.max_tokens = model, temperature, max_tokens
        self._scope = scope
        self._free = asyncio.Semaphore(concurrency)

    async def until(
        self,
        prompt: str,
        read: Callable[[str], _T | Rejected],
        *,
        place: str,
        text_id: str,
        turn: int,
        seed: int | None = None,
        may_be_cut: bool = False,
    ) -> Answer[_T]:
        """Ask `prompt` until `read` makes something of the reply.

        Replies in the store count first, the unusable among them too, so that a rerun goes on
        where the last one ended. With `seed`, each ask has its own, counted from there. A reply
        that ended at the token limit is unusable, unless it `may_be_cut`.
        Raises ContextOverflowError where the prompt is too long, and WriteError for every other
        end.
        """
        request: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if seed is not None:
            request["seed"] = seed
        outcome = await ask_until_valid(
            self.chat,
            request,
            read,
            self._call_id(prompt, text_id),
            affinity=turn,
            slots=self._free,
            may_be_cut=may_be_cut,
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
        parts = {
            "agentwrite": self.model,
            "scope": "",
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "text": text_id,
            "prompt": sha256(prompt),
        }
        return CallId(parts, {"scope": self._scope} if self._scope else {})


async def all_at_once(steps: Sequence[Step], work: Callable[[Step], Awaitable[None]]) -> None:
    """Run `work` on all steps. The first WriteError is raised when all have ended.

    What is in flight is paid for: ending it at the first failure would lose it.
    """
    failures: list[WriteError] = []

    async def work_on(step: Step) -> None:
        try:
            await work(step)
        except WriteError as error:
            failures.append(error)

    await for_each(steps, work_on, len(steps))
    if failures:
        raise failures[0]
