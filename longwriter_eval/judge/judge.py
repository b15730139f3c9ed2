"""Judging responses: every verdict is scores or a reason, never a guess."""

import copy
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.llm import CallError, Chat, Reply, Store, Usage, call_key, for_each, public_url
from longwriter_core.text.diagnostics import is_refusal
from longwriter_core.text.special_tokens import encodable
from longwriter_eval.judge.judgement import Judgement, Verdict
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.judge.settings import MAX_TOKENS, TEMPERATURE, JudgeSettings
from longwriter_eval.judge.verdict import read_verdict

_T = TypeVar("_T")

TRIES = 5  # asks per verdict and run, where the reply cannot be read; upstream's number


@dataclass(frozen=True)
class Item:
    """A response to judge; `id` ties the verdict to it whatever order the calls finish in."""

    id: str
    instruction: str
    response: str


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
        """Make one tiny call, and see that its result could be kept.

        Raises InputError where the key, the endpoint, the model or the store would fail the run.
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
                repeats = range(self.settings.repeats)
                return self.judgement(
                    item, [await self._verdict(chat, item, repeat) for repeat in repeats]
                )

            yield judge_one

    def judgement(self, item: Item, verdicts: Iterable[Verdict] = ()) -> Judgement:
        """The judgement that `verdicts` make; without any, one that says that none was asked."""
        verdicts = tuple(verdicts) or tuple(map(Verdict, range(self.settings.repeats)))
        return Judgement.of(verdicts, self.prompt.sha256, item.response)

    def adopt(self, item: Item, record: Mapping[str, Any]) -> None:
        """Put the verdicts of an earlier log into the store, so that they are not paid for again.

        Only what this judge, with this prompt, said of this very response; scores are read anew.
        """
        for entry in record.get("verdicts", ()):
            repeat = entry["repeat"]
            # a reply that was cut off may look like a verdict, but had no scores
            if not entry["scores"] or not read_verdict(entry["raw"]):
                continue
            if entry["call"] != self._call_key(item, repeat, entry["asks"]):
                continue
            if not self._has_verdict(item, repeat):
                asks = len(list(self._kept(item, repeat)))
                self._store.put(
                    self._call_key(item, repeat, asks + 1),
                    Reply(
                        text=entry["raw"],
                        model=entry["model"],
                        finish_reason="stop",
                        refusal=None,
                        prompt_tokens=entry["prompt_tokens"],
                        completion_tokens=entry["completion_tokens"],
                    ),
                )

    def has_verdicts(self, item: Item) -> bool:
        """Whether the store holds a readable verdict for every repeat."""
        return all(self._has_verdict(item, repeat) for repeat in range(self.settings.repeats))

    def _has_verdict(self, item: Item, repeat: int) -> bool:
        return any(_read(Verdict(repeat), reply).scores for reply in self._kept(item, repeat))

    def _kept(self, item: Item, repeat: int) -> Iterator[Reply]:
        """The replies that the store has, in the order in which they were asked for."""
        for ask in itertools.count(1):
            reply = self._store.get(self._call_key(item, repeat, ask))
            if reply is None:
                return
            yield reply

    async def _verdict(self, chat: Chat, item: Item, repeat: int) -> Verdict:
        """Ask until a reply can be read, at most TRIES times beyond what the store has."""
        prompt, defused = self.prompt.render(item.instruction, item.response)
        request = self.request(prompt)
        verdict = Verdict(repeat, defused=defused)
        asks = fresh = 0
        while fresh < TRIES:
            asks += 1
            key = self._call_key(item, repeat, asks)
            reply = await chat.kept(key)
            if reply is None:
                fresh += 1
                try:
                    reply = await chat.ask(key, request)
                except CallError as error:
                    return replace(verdict, reason=error.reason, detail=str(error), asks=asks)
            verdict = _read(replace(verdict, asks=asks, call=key), reply)
            if verdict.scores:
                break
        return verdict

    def _call_key(self, item: Item, repeat: int, ask: int) -> str:
        return call_key(
            judge=self.settings.model,
            base_url=self.settings.base_url,
            temperature=TEMPERATURE,
            max_tokens=MAX_TOKENS,
            prompt=self.prompt.sha256,
            instruction=sha256(item.instruction),
            response=sha256(item.response),
            repeat=repeat,
            ask=ask,
        )

    def request(self, prompt: str) -> dict[str, Any]:
        """The call that asks this judge."""
        return {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": encodable(prompt)}],
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
        }

    def chat(self, **options: Any) -> Chat:
        """This judge's endpoint, with the store in front."""
        return Chat(self._store, base_url=self.settings.base_url, api_key=self._key, **options)


def outcome(reply: Reply, read: Callable[[str], _T | None]) -> tuple[_T | None, str | None, str]:
    """What `read` makes of a judge's reply, else the reason why nothing; and the raw text.

    A reply cut at its token limit says nothing.
    """
    found = read(reply.text) if reply.finish_reason != "length" else None
    if found:
        return found, None, reply.text
    declined = reply.refusal or reply.finish_reason == "content_filter" or is_refusal(reply.text)
    return None, "refused" if declined else "parse_error", reply.refusal or reply.text


def _read(verdict: Verdict, reply: Reply) -> Verdict:
    """`verdict` with what the reply says."""
    scores, reason, raw = outcome(reply, read_verdict)
    return replace(
        verdict,
        scores=scores,
        reason=reason,
        raw=raw,
        model=reply.model,
        retries=reply.retries,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )
