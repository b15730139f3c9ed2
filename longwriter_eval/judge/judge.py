"""Judging responses: every verdict has scores or a reason, never a guess."""

import asyncio
import copy
import logging
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from tqdm import tqdm

from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.llm import (
    CallError,
    CallId,
    ChatPool,
    Outcome,
    Rejected,
    Store,
    Usage,
    ask_until_valid,
    call_key,
    for_each,
    read_reply,
    run_async,
)
from longwriter_core.llm.ask import MAX_TRIES
from longwriter_core.llm.batch import MAX_ROWS
from longwriter_core.llm.budget import Budget, max_tokens_of
from longwriter_core.llm.profiles import money, profile_of_model
from longwriter_core.redact import public_url
from longwriter_core.text.special_tokens import encodable
from longwriter_eval.judge import segment_judge
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.judge.settings import JudgeSettings
from longwriter_eval.judge.spend import JudgePool, estimate_tokens
from longwriter_eval.judge.verdict import Item, Judgement, Scores, Verdict, read_verdict

_log = logging.getLogger("lm_eval.longwriter")  # lm-eval shows only its own loggers

# A verdict's place among those on one response: its repeat, and the part (None: the whole text).
Place = tuple[int, int | None]

PREFLIGHT_INSTRUCTION = "Write two sentences about a lighthouse at dawn."
PREFLIGHT_RESPONSE = (
    "The lamp went out as the first light reached the rocks. Below it the sea lay flat and grey, "
    "and one boat was already on its way home."
)


PREFLIGHT = Item("preflight", PREFLIGHT_INSTRUCTION, PREFLIGHT_RESPONSE)


class Judge:
    """A judge at an endpoint, with resolved and checked settings.

    With `segments`, it also judges the parts of long responses. `budget` is shared with other
    judges; by default it is the settings' max_cost.
    """

    def __init__(
        self,
        settings: JudgeSettings,
        key: str,
        store: Store | None = None,
        *,
        segments: int | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.settings, self.segments = settings, segments
        self.budget = budget or settings.budget()
        self.prompt = JudgePrompt.load(settings.prompt)
        self._key = key
        self._store = store or Store()

    def with_store(self, store: Store) -> "Judge":
        """The same judge with another store for its calls."""
        other = copy.copy(self)
        other._store = store
        return other

    async def check(self, *, may_reuse: bool = False) -> None:
        """Make a preflight request: one real verdict on a short, harmless text.

        If the endpoint refuses `response_format`, the judge's settings no longer contain it, so
        that records and keys say what was really sent.

        With `may_reuse`, a stored reply to that request will do. Raises InputError if the model is
        shut down, or if the spending limit, key, endpoint, model, token limit, replies or store
        would fail the run.
        """
        self.settings.check_usable()
        self._store.check()
        request, read = self._preflight()
        stored = self._store.get(call_key(check=request, attempt=0)) if may_reuse else None
        if stored and not isinstance(read_reply(stored, read, has_format=True), Rejected):
            return
        reason = ""
        async with self.chat(retries=2, batch=False) as chat:
            for attempt in range(MAX_TRIES):
                try:
                    reply = await chat.ask(call_key(check=request, attempt=attempt), request)
                except CallError as error:
                    raise InputError(
                        f"{self._who} cannot be used: {error}{self._setting_for(str(error))}"
                    ) from error
                if chat.fatal:  # the reply could not be stored
                    raise InputError(f"{self._who} cannot be used: {chat.fatal}")
                value = read_reply(reply, read, has_format=True)
                if not isinstance(value, Rejected):
                    if chat.refuses_schema:
                        self.settings = self.settings.without_schema()
                    return
                limit = f"judge_max_tokens, {self.settings.max_tokens}"
                if reply.is_cut:
                    empty = "" if reply.text.strip() else ", before it had written anything"
                    raise InputError(
                        f"{self._who} cannot be used: its reply was cut at the limit of "
                        f"{self.settings.max_tokens} tokens{empty}: raise {limit}, to leave room "
                        "for its thinking, or choose a profile (`longwriter judges`)"
                    )
                reason = (
                    f"gave no verdict but {' '.join(reply.text.split())[:200]!r}"
                    if reply.text.strip()
                    else f"gave an empty reply (its limit is {limit} tokens)"
                )
        raise InputError(
            f"{self._who} cannot be used: asked for a verdict {MAX_TRIES} times, it {reason}"
        )

    @property
    def _who(self) -> str:
        url = self.settings.base_url
        where = public_url(url) if url else "the default OpenAI endpoint"
        return f"the judge {self.settings.model} at {where}"

    def _preflight(self) -> tuple[dict[str, Any], Callable[[str], object | Rejected]]:
        """The preflight request, and the parser of its reply."""
        prompt, _ = self.prompt.render(PREFLIGHT_INSTRUCTION, PREFLIGHT_RESPONSE)
        return self.request(prompt), read_scores

    def _setting_for(self, message: str) -> str:
        """The setting that avoids the request field that the endpoint refused in `message`."""
        if "HTTP 400" not in message and "HTTP 422" not in message:
            return ""
        named = [
            name
            for name in self.request("")
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message)
        ]
        for name in named:
            if name in ("model", "messages"):
                continue
            if name == "temperature":
                line = "judge_temperature=none"
            elif name in ("max_tokens", "max_completion_tokens"):
                line = "judge_max_tokens to what it allows"
            else:
                line = f"""judge_extra='{{"{name}": null}}'"""
            profile = profile_of_model(self.settings.model, self.settings.base_url)
            return f"; set {line}" + (f", or the profile, judge={profile.name}" if profile else "")
        return ""

    def check_context(self, items: Iterable[Item]) -> None:
        """Raise InputError if the longest response does not fit the judge's context, if known."""
        profile = self.settings.known_profile
        window = profile and profile.context_window
        longest = max(
            items,
            key=lambda item: estimate_tokens(item.instruction) + estimate_tokens(item.response),
            default=None,
        )
        if not window or longest is None:
            return
        prompt, _ = self.prompt.render(longest.instruction, longest.response)
        tokens = estimate_tokens(prompt)
        if tokens + self.settings.max_tokens > window:
            raise InputError(
                f"the response {longest.id} has about {tokens:,} tokens with the judge's prompt. "
                f"With {self.settings.max_tokens:,} tokens for the reply it does not fit the "
                f"context of {self.settings.label}, {window:,} tokens: nothing was judged; choose "
                "a judge with a longer context (`longwriter judges`)"
            )

    def cost_note(self, items: Iterable[Item]) -> str:
        """The estimated and maximum cost of judging `items`, in one line; "" if all are judged."""
        unjudged = [item for item in items if not self.has_verdicts(item)]
        whole = [self.prompt.render(item.instruction, item.response)[0] for item in unjudged]
        parts = [text for item in unjudged for text in segment_judge.max_prompts(self, item)]
        prompts = whole * self.settings.repeats + parts
        if not prompts:
            return ""
        prices = self.settings.prices()
        calls = len(whole) * self.settings.repeats
        also = f" and {len(parts):,} calls for their parts" if parts else ""
        if not prices:
            return f"{calls:,} verdicts by {self.settings.label}{also}: its price is not known"
        limit = self.settings.max_tokens
        about = prices.cost(sum(map(estimate_tokens, prompts)), min(limit, 400) * len(prompts))
        most = prices.cost(sum(map(max_tokens_of, prompts)), limit * len(prompts)) * MAX_TRIES
        bound = self.settings.max_cost
        limited = f"; max_cost stops it at {money(bound)}" if bound and bound < most else ""
        return (
            f"{calls:,} verdicts by {self.settings.label}{also} cost at most {money(most)} "
            f"({MAX_TRIES} attempts each, every reply at its limit), and from about "
            f"{money(about)} without thinking{limited}"
        )

    async def judge(
        self,
        items: Iterable[Item],
        done: Callable[[Item, Judgement], None],
        concurrency: int | None = None,
        show: Callable[[str], None] | None = None,
    ) -> None:
        """Judge every item, and pass each judgement to `done` as soon as it is complete.

        Endpoint failures do not raise: a verdict without scores has a reason. `show` gets the state
        of batches in words.
        """

        async with self.asking(show=show) as judge_one:

            async def work(item: Item) -> None:
                done(item, await judge_one(item))

            await for_each(items, work, concurrency or self.concurrency)

    @property
    def concurrency(self) -> int:
        """The items to judge at a time: in a batch, as many as it can have."""
        return MAX_ROWS if self.settings.batch else self.settings.concurrency

    @asynccontextmanager
    async def asking(
        self,
        usage: Usage | None = None,
        show: Callable[[str], None] | None = None,
        is_held: Callable[[], bool] | None = None,
    ) -> AsyncIterator[Callable[[Item], Awaitable[Judgement]]]:
        """Yield a function that judges one item, usable inside the `async with` block.

        Its calls are counted in `usage`. `show` gets the state of batches in words; they wait for
        further items while `is_held`.
        """
        async with self.chat() as chat:
            chat.usage = usage or chat.usage
            chat.batches.show = show or chat.batches.show
            chat.batches.is_held = is_held or chat.batches.is_held

            # Equal responses to the same prompt share their verdicts, failed ones too.
            locks: dict[str, asyncio.Lock] = {}
            found: dict[str, Verdict] = {}

            async def ask_once(item: Item, repeat: int) -> Verdict:
                key = self.key(item, repeat)
                async with locks.setdefault(key, asyncio.Lock()):
                    if key not in found:
                        found[key] = await self._verdict(chat, item, repeat)
                return found[key]

            async def ask_parts(item: Item, known: Mapping[int, Verdict]) -> list[Verdict]:
                # an equal response waits, and then reads the stored replies
                async with locks.setdefault(f"parts of {self.key(item)}", asyncio.Lock()):
                    return await segment_judge.verdicts(self, chat, item, known)

            async def judge_one(item: Item) -> Judgement:
                known = {v.repeat: v for v in item.verdicts if v.segment is None}
                parts = {v.segment: v for v in item.verdicts if v.segment is not None}
                asked = [
                    partial(ask_once, item, repeat)
                    for repeat in range(self.settings.repeats)
                    if repeat not in known
                ]
                if self.settings.batch:  # all in one batch
                    whole = asyncio.gather(*(ask() for ask in asked))
                    segments, verdicts = await asyncio.gather(ask_parts(item, parts), whole)
                else:
                    verdicts = [await ask() for ask in asked]
                    segments = await ask_parts(item, parts)
                return self.judgement(item, [*known.values(), *verdicts, *segments])

            yield judge_one

    def judgement(self, item: Item, verdicts: Iterable[Verdict] = ()) -> Judgement:
        """The judgement from `verdicts`, or from the item's own verdicts if none are given."""
        known = {(v.repeat, v.segment): v for v in verdicts or item.verdicts}
        return Judgement.of(
            [known.get(at) or Verdict(at[0], segment=at[1]) for at in self.places(item)],
            self.prompt.sha256,
            item.response,
            self.settings.departures,
        )

    def places(self, item: Item) -> list[Place]:
        """The places of the verdicts that `item` is to have: every repeat, then every part."""
        parts = range(len(segment_judge.parts_of(self, item)))
        return [(r, None) for r in range(self.settings.repeats)] + [(0, part) for part in parts]

    def recorded_verdicts(self, item: Item, record: Mapping[str, Any]) -> dict[Place, Verdict]:
        """The usable verdicts in the `record` of a sample log, by repeat and part.

        A verdict is usable if it was given by this judge with this prompt, on this instruction and
        response, and if its raw reply still parses to scores. Raises KeyError, TypeError or
        ValueError for a malformed record.
        """
        if not record:
            return {}
        judgement = Judgement.from_record(record, item.response)
        places = set(self.places(item))
        return {
            (verdict.repeat, verdict.segment): verdict
            for verdict in (*judgement.verdicts, *judgement.segments)
            if verdict.scores
            and (verdict.repeat, verdict.segment) in places
            and self._has_given(item, verdict)
        }

    def _has_given(self, item: Item, verdict: Verdict) -> bool:
        call = self._call_of(item, verdict.repeat, verdict.segment)
        return verdict.call in call.keys(verdict.asks)

    def _call_of(self, item: Item, repeat: int, segment: int | None) -> CallId:
        if segment is None:
            return self.call_id(item, repeat)
        return segment_judge.call_id(self, item, segment)

    def has_verdicts(self, item: Item) -> bool:
        """Whether `item` or the store has every verdict, so that no call is needed."""
        known = {(verdict.repeat, verdict.segment) for verdict in item.verdicts}
        return all(
            (repeat, part) in known
            or self._has_verdict(self._call_of(item, repeat, part), item.response)
            for repeat, part in self.places(item)
        )

    def _has_verdict(self, call: CallId, text: str) -> bool:
        read = partial(read_scores, response=text)
        return any(
            not isinstance(read_reply(reply, read, has_format=True), Rejected)
            for reply in self._store.replies(call)
        )

    async def _verdict(self, pool: ChatPool, item: Item, repeat: int) -> Verdict:
        prompt, escaped = self.prompt.render(item.instruction, item.response)
        outcome = await ask_until_valid(
            pool,
            self.request(prompt),
            partial(read_scores, response=item.response),
            self.call_id(item, repeat),
            has_format=True,
        )
        return self.verdict_of(outcome, repeat, escaped=escaped)

    def verdict_of(
        self,
        outcome: Outcome[Scores],
        repeat: int,
        *,
        escaped: bool,
        segment: int | None = None,
    ) -> Verdict:
        """The verdict in the outcome of a call."""
        # if judging stopped before a cut reply could be retried, the reason is "cut"
        is_cut = outcome.reason == "not_asked" and outcome.rejected[-1:] == ("cut",)
        verdict = Verdict(
            repeat,
            scores=outcome.value,
            reason="cut" if is_cut else outcome.reason,
            detail=outcome.detail or None,
            raw=outcome.raw,
            asks=outcome.attempts,
            escaped=escaped,
            call=outcome.key,
            segment=segment,
        )
        if not outcome.reply:
            return verdict
        return replace(
            verdict,
            model=outcome.reply.model,
            retries=outcome.reply.retries,
            prompt_tokens=outcome.reply.prompt_tokens,
            completion_tokens=outcome.reply.completion_tokens,
            cached_tokens=outcome.reply.cached_tokens,
        )

    def key(self, item: Item, repeat: int = 0) -> str:
        """Identifies a verdict: equal for equal responses to the same prompt."""
        return self.call_id(item, repeat).keys(1)[0]

    def call_id(self, item: Item, repeat: int) -> CallId:
        """The calls for the verdict on the whole response."""
        return CallId(
            {
                "judge": self.settings.model,
                **self.settings.protocol,
                "prompt": self.prompt.sha256,
                "instruction": sha256(item.instruction),
                "response": sha256(item.response),
                "repeat": repeat,
            },
            legacy={"base_url": self.settings.base_url},
        )

    def request(self, prompt: str) -> dict[str, Any]:
        """The request body for `prompt`."""
        return {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": encodable(prompt)}],
            **self.settings.request_fields(),
        }

    def chat(self, **options: Any) -> JudgePool:
        """A pool for this judge's endpoint, with its store and spending limit."""
        return JudgePool(
            self._store,
            base_url=self.settings.base_url,
            api_key=self._key,
            prices=lambda _model: self.settings.list_prices(),
            budget=self.budget,
            limit=self.settings.max_tokens,
            **{"batch": self.settings.batch, **options},
        )


def judge_with_progress(
    judge: Judge, items: Sequence[Item], concurrency: int | None = None
) -> dict[str, Judgement]:
    """Judge `items` under a progress bar; item id -> judgement.

    Ctrl-C ends the judging without an error, and missing verdicts get a reason. If the longest
    response does not fit the judge's context, no call is made.
    """
    try:
        judge.check_context(item for item in items if not judge.has_verdicts(item))
    except InputError as error:
        _log.error("%s", error)
        return {item.id: judge.judgement(item) for item in items}
    report_cost(judge, items)
    (judgements,), is_stopped = run_with_progress([(judge, items)], concurrency)
    if is_stopped:
        _log.warning("judging stopped by Ctrl-C: the results follow without the rest")
    return judgements


def report_cost(judge: Judge, items: Iterable[Item]) -> None:
    """Say in one line what the missing verdicts will cost: lm-eval logs it, a command prints it."""
    note = judge.cost_note(items)
    if note and _log.isEnabledFor(logging.INFO):
        _log.info("%s", note)
    elif note:
        print(note, file=sys.stderr)


def run_with_progress(
    work: Sequence[tuple[Judge, Sequence[Item]]], concurrency: int | None = None
) -> tuple[list[dict[str, Judgement]], bool]:
    """Let judges work at the same time, under one progress bar.

    Returns item id -> judgement for each judge, and whether Ctrl-C stopped them.
    """
    judgements: list[dict[str, Judgement]] = [{} for _ in work]
    is_stopped = False
    names = " and ".join(judge.settings.label for judge, _ in work)
    total = sum(len(items) for _, items in work)
    with tqdm(total=total, desc=f"Judging with {names}") as bar:

        def keep(found: dict[str, Judgement], item: Item, judgement: Judgement) -> None:
            found[item.id] = judgement
            bar.update()

        async def judge_all() -> None:
            await asyncio.gather(
                *(
                    judge.judge(items, partial(keep, found), concurrency, bar.set_postfix_str)
                    for (judge, items), found in zip(work, judgements, strict=True)
                )
            )

        try:
            run_async(judge_all())
        except KeyboardInterrupt:
            is_stopped = True
    complete = [
        {item.id: found.get(item.id) or judge.judgement(item) for item in items}
        for (judge, items), found in zip(work, judgements, strict=True)
    ]
    return complete, is_stopped


def read_scores(reply: str, response: str = "") -> Scores | Rejected:
    """The scores that a judge's reply gives to `response`, or why the reply is rejected."""
    return read_verdict(reply, response) or Rejected("parse_error")
