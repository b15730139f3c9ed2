"""Judging responses: every verdict is scores or a reason, never a guess."""

import copy
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from tqdm import tqdm

from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.llm import (
    CallError,
    CallId,
    ChatPool,
    Rejected,
    Store,
    Usage,
    ask_until_valid,
    call_key,
    for_each,
    read_reply,
    run_async,
)
from longwriter_core.redact import public_url
from longwriter_core.text.special_tokens import encodable
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.judge.settings import MAX_TOKENS, TEMPERATURE, JudgeSettings
from longwriter_eval.judge.verdict import Judgement, Scores, Verdict, read_verdict

_log = logging.getLogger("lm_eval.longwriter")  # lm-eval shows only its own loggers


@dataclass(frozen=True)
class Item:
    """A response to judge; `id` ties the verdict to it whatever order the calls finish in.

    Repeats that `verdicts` already has are not asked again.
    """

    id: str
    instruction: str
    response: str
    verdicts: tuple[Verdict, ...] = ()


class Judge:
    """A judge at an endpoint, with everything that it needs resolved and checked."""

    def __init__(self, settings: JudgeSettings, key: str, store: Store | None = None) -> None:
        self.settings = settings
        self.prompt = JudgePrompt.load(settings.prompt)
        self._key = key
        self._store = store or Store()

    def with_store(self, store: Store) -> "Judge":
        """The same judge, whose calls are kept in another store."""
        other = copy.copy(self)
        other._store = store
        return other

    async def check(self) -> None:
        """Make a preflight request, and check that its reply can be stored.

        Raises InputError if the key, the endpoint, the model or the store would fail the run.
        """
        self._store.check()
        request = self.request("Reply with the word ready.")
        async with self.chat(retries=2) as chat:
            try:
                await chat.ask(call_key(check=request), request)
            except CallError as error:
                url = self.settings.base_url
                where = public_url(url) if url else "the default OpenAI endpoint"
                raise InputError(
                    f"the judge {self.settings.model} at {where} cannot be used: {error}"
                ) from error

    async def judge(
        self,
        items: Iterable[Item],
        done: Callable[[Item, Judgement], None],
        concurrency: int | None = None,
    ) -> None:
        """Judge every item, and hand each judgement to `done` as soon as it is complete.

        Nothing is raised for what an endpoint does: a verdict without scores has a reason.
        """

        async with self.asking() as judge_one:

            async def work(item: Item) -> None:
                done(item, await judge_one(item))

            await for_each(items, work, concurrency or self.settings.concurrency)

    @asynccontextmanager
    async def asking(
        self, usage: Usage | None = None
    ) -> AsyncIterator[Callable[[Item], Awaitable[Judgement]]]:
        """A function that judges one item, for as long as the `async with` block lasts.

        The calls that it makes are counted in `usage`.
        """
        async with self.chat() as chat:
            chat.usage = usage or chat.usage

            async def judge_one(item: Item) -> Judgement:
                known = {verdict.repeat: verdict for verdict in item.verdicts}
                return self.judgement(
                    item,
                    [
                        known.get(repeat) or await self._verdict(chat, item, repeat)
                        for repeat in range(self.settings.repeats)
                    ],
                )

            yield judge_one

    def judgement(self, item: Item, verdicts: Iterable[Verdict] = ()) -> Judgement:
        """The judgement from `verdicts`; without any, from those that `item` has already."""
        known = {verdict.repeat: verdict for verdict in verdicts or item.verdicts}
        repeats = range(self.settings.repeats)
        return Judgement.of(
            [known.get(repeat) or Verdict(repeat) for repeat in repeats],
            self.prompt.sha256,
            item.response,
        )

    def recorded_verdicts(self, item: Item, record: Mapping[str, Any]) -> dict[int, Verdict]:
        """The usable verdicts in the `record` of a sample log, by repeat.

        A verdict is usable if this judge gave it, with this prompt, on this instruction and
        response, and if scores can be read again from its raw reply. Raises KeyError, TypeError or
        ValueError for a malformed record.
        """
        if not record:
            return {}
        return {
            verdict.repeat: verdict
            for verdict in Judgement.from_record(record, item.response).verdicts
            if verdict.scores
            and verdict.call in self._call_id(item, verdict.repeat).keys(verdict.asks)
        }

    def has_verdicts(self, item: Item) -> bool:
        """Whether `item` or the store has a verdict for every repeat, so that nothing is asked."""
        known = {verdict.repeat for verdict in item.verdicts}
        return all(
            repeat in known or self._has_verdict(item, repeat)
            for repeat in range(self.settings.repeats)
        )

    def _has_verdict(self, item: Item, repeat: int) -> bool:
        replies = self._store.replies(self._call_id(item, repeat))
        return any(
            not isinstance(read_reply(reply, read_scores, has_format=True), Rejected)
            for reply in replies
        )

    async def _verdict(self, pool: ChatPool, item: Item, repeat: int) -> Verdict:
        prompt, escaped = self.prompt.render(item.instruction, item.response)
        outcome = await ask_until_valid(
            pool,
            self.request(prompt),
            read_scores,
            self._call_id(item, repeat),
            has_format=True,
        )
        verdict = Verdict(
            repeat,
            scores=outcome.value,
            reason=outcome.reason,
            detail=outcome.detail or None,
            raw=outcome.raw,
            asks=outcome.attempts,
            escaped=escaped,
            call=outcome.key,
        )
        if not outcome.reply:
            return verdict
        return replace(
            verdict,
            model=outcome.reply.model,
            retries=outcome.reply.retries,
            prompt_tokens=outcome.reply.prompt_tokens,
            completion_tokens=outcome.reply.completion_tokens,
        )

    def _call_id(self, item: Item, repeat: int) -> CallId:
        return CallId(
            {
                "judge": self.settings.model,
                "temperature": TEMPERATURE,
                "max_tokens": MAX_TOKENS,
                "prompt": self.prompt.sha256,
                "instruction": sha256(item.instruction),
                "response": sha256(item.response),
                "repeat": repeat,
            },
            legacy={"base_url": self.settings.base_url},
        )

    def request(self, prompt: str) -> dict[str, Any]:
        """The call that asks this judge."""
        return {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": encodable(prompt)}],
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
        }

    def chat(self, **options: Any) -> ChatPool:
        """This judge's endpoint, with the store in front."""
        return ChatPool(self._store, base_url=self.settings.base_url, api_key=self._key, **options)


def judge_with_progress(
    judge: Judge, items: Sequence[Item], concurrency: int | None = None
) -> dict[str, Judgement]:
    """Judge `items` under a progress bar; item id -> judgement.

    Ctrl-C ends the judging without an error: what has no verdict by then says so.
    """
    found: dict[str, Judgement] = {}
    with tqdm(total=len(items), desc=f"Judging with {judge.settings.model}") as bar:

        def done(item: Item, judgement: Judgement) -> None:
            found[item.id] = judgement
            bar.update()

        try:
            run_async(judge.judge(items, done, concurrency))
        except KeyboardInterrupt:
            _log.warning("judging stopped by Ctrl-C: the results follow without the rest")
    return {item.id: found.get(item.id) or judge.judgement(item) for item in items}


def read_scores(reply: str) -> Scores | Rejected:
    """The scores in a judge's reply."""
    return read_verdict(reply) or Rejected("parse_error")
