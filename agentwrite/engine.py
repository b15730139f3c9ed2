"""What all texts of a server share, and the counting of each text's calls."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from agentwrite.settings import Settings
from agentwrite.story.companion import companions
from agentwrite.writing.plan import Plan
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.writer import Writer
from longwriter_core.errors import InputError
from longwriter_core.llm import ChatPool, Reply, SkippedError, Usage
from longwriter_core.llm.budget import cost_of
from longwriter_core.llm.profiles import prices_of

_WORDS_PER_STEP = 20  # each step is a call with the whole text so far, however short it is
_OUTAGE_SECONDS = 60.0  # after which calls are made again, once an error has ended all of them


@dataclass
class TokenUse:
    """The calls of a text: those that were made, and those whose replies were stored."""

    made: Usage = field(default_factory=Usage)
    stored: Usage = field(default_factory=Usage)

    def add(self, reply: Reply, usd: float) -> None:
        """Count a call, which costs `usd` unless its reply was stored."""
        if reply.stored:
            self.stored.add(reply, 0.0)
        else:
            self.made.add(reply, usd)

    def as_dict(self) -> dict[str, Any]:
        """Return the `usage` object of OpenAI's API; `stored` counts the calls that were free."""
        prompt = self.made.prompt_tokens + self.stored.prompt_tokens
        completion = self.made.completion_tokens + self.stored.completion_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self.stored.prompt_tokens},
            "stored": {
                "calls": self.stored.calls,
                "prompt_tokens": self.stored.prompt_tokens,
                "completion_tokens": self.stored.completion_tokens,
            },
        }


class CountingPool:
    """Wraps a chat pool for one text: counts the text's calls, and can stop making them.

    `slots` limits the calls in flight of all texts together.
    """

    def __init__(self, chat: ChatPool, slots: asyncio.Semaphore, use: TokenUse) -> None:
        self._chat, self._slots, self._use = chat, slots, use
        self.is_stopped = False  # if true, calls in flight end and no other call is made

    async def stored(self, *keys: str) -> Reply | None:
        """The reply under the first of `keys` that the store has, or None."""
        reply = await self._chat.stored(*keys)
        if reply:
            self._use.add(reply, 0.0)
        return reply

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        """Make a call. Raises CallError, a SkippedError once the text is stopped."""
        async with self._slots:
            if self.is_stopped:
                raise SkippedError("stopped")
            reply = await self._chat.ask(key, request, affinity=affinity)
        prices = prices_of(request["model"])
        self._use.add(reply, cost_of(request, reply, prices) if prices else 0.0)
        return reply


@dataclass(frozen=True)
class Engine:
    """What all texts share: the model's settings, its chat pool, and the limits."""

    settings: Settings
    pool: ChatPool
    slots: asyncio.Semaphore
    prompts: Prompts
    max_words: int
    log: Callable[[str], None]

    def check_words(self, words: int | None) -> None:
        """Raise InputError for a text that is longer than the server allows."""
        if (words or 0) > self.max_words:
            raise InputError(
                f"{words:,} words are asked for, and this server writes at most "
                f"{self.max_words:,} (--max-words)"
            )

    def check_plan(self, plan: Plan) -> None:
        """Raise InputError for a plan of more words or more calls than the server allows."""
        self.check_words(plan.words)
        most = max(self.max_words // _WORDS_PER_STEP, 1)
        if len(plan.steps) > most:
            raise InputError(
                f"the plan has {len(plan.steps):,} steps, and this server writes at most {most:,}: "
                f"one for each {_WORDS_PER_STEP} words of --max-words"
            )

    def counting(self, use: TokenUse, *, is_asked_by_hand: bool = False) -> CountingPool:
        """The pool for one text, whose calls are added to `use`.

        After an error that ended all calls, such as an outage, they are made again: at once for a
        person who asks for it, and after a while for programs.
        """
        self.pool.revive(0.0 if is_asked_by_hand else _OUTAGE_SECONDS)
        return CountingPool(self.pool, self.slots, use)

    def writer(self, pool: CountingPool, seed: int | None = None) -> Writer:
        """The writer of one text."""
        chat = cast("ChatPool", pool)  # it has the two methods that a writer calls
        settings = self.settings
        return Writer(
            chat, settings, prompts=self.prompts, scope=settings.scope, seed=seed,
            companions=companions(settings),
        )  # fmt: skip
