"""Asking a model until its reply can be used; every finished call is in the store."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentwrite.errors import Rejected, WriteError
from agentwrite.writing.clean import is_error_text
from agentwrite.writing.plan import Step
from longwriter_core.files import sha256
from longwriter_core.llm import (
    CallError,
    Chat,
    ContextOverflowError,
    EndpointError,
    Reply,
    SkippedError,
    call_key,
    for_each,
)
from longwriter_core.text.diagnostics import is_refusal

_T = TypeVar("_T")

TRIES = 5  # asks per step and run, beyond what the store has
# The paper's protocol: section 3.1 and agentwrite/plan.py of THUDM/LongWriter.
TEMPERATURE = 1.0
MAX_TOKENS = 4096


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

    `scope` sets apart, in a store that others share, the calls to one endpoint.
    """

    def __init__(
        self,
        chat: Chat,
        model: str,
        *,
        concurrency: int,
        temperature: float = TEMPERATURE,
        max_tokens: int = MAX_TOKENS,
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
        request = self._request(prompt)
        rejected: list[str] = []
        fresh = asks = prompt_tokens = completion_tokens = 0
        while True:
            asks += 1
            key = call_key(
                agentwrite=self.model,
                scope=self._scope,
                temperature=self.temperature,
                max_tokens=self.max_tokens,
                text=text_id,
                prompt=sha256(prompt),
                ask=asks,
            )
            reply = await self.chat.kept(key)
            if reply is None:
                fresh += 1
                if seed is not None:
                    request["seed"] = seed + asks - 1
                reply = await self._ask(key, request, place, turn)
            prompt_tokens += reply.prompt_tokens or 0
            completion_tokens += reply.completion_tokens or 0
            cut = reply.finish_reason == "length"
            value = _fault(reply) or (_cut(reply) if cut and not may_be_cut else read(reply.text))
            if not isinstance(value, Rejected):
                return Answer(
                    value,
                    reply.model,
                    asks,
                    tuple(rejected),
                    prompt_tokens,
                    completion_tokens,
                    (reply.prompt_tokens or 0) + (reply.completion_tokens or 0),
                    cut,
                )
            rejected.append(value.reason)
            if fresh >= TRIES:
                detail = f"{value.detail}; " if value.detail else ""
                raise WriteError(value.reason, f"{detail}asked {asks} times", place)

    async def _ask(self, key: str, request: dict[str, Any], place: str, turn: int) -> Reply:
        try:
            async with self._free:
                return await self.chat.ask(key, request, affinity=turn)
        except ContextOverflowError:
            raise
        except CallError as error:
            is_fatal = isinstance(error, EndpointError | SkippedError)
            raise WriteError(error.reason, str(error), place, is_fatal=is_fatal) from error

    def _request(self, prompt: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }


def _fault(reply: Reply) -> Rejected | None:
    """What makes a reply unusable whatever was asked; None where nothing does."""
    if reply.refusal or reply.finish_reason == "content_filter" or is_refusal(reply.text):
        return Rejected("refused", " ".join((reply.refusal or reply.text).split())[:100])
    if not reply.text.strip():
        return Rejected("empty")
    if is_error_text(reply.text):
        return Rejected("error_text", " ".join(reply.text.split())[:100])
    return None


def _cut(reply: Reply) -> Rejected:
    return Rejected("cut", f"at {reply.completion_tokens or 'max_tokens'} tokens")


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
