"""Choosing instructions that need thousands of words: rules first, then a model's yes or no.

    from agentwrite.select import select

    selection = select("allenai/WildChat-1M", Path("instructions.jsonl"), settings,
                       quota={"en": 3000, "zh": 3000})

Rows are decided in their own order, whatever order the replies arrive in, so that the same source
gives the same file. Nothing but finished calls is kept of a run that was ended: the next one reads
the source again from its beginning, and asks only what was never answered.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from agentwrite.data.sources import Source, open_source
from agentwrite.errors import WriteError
from agentwrite.model import Answer, ChatModel
from agentwrite.selecting.candidates import read_candidate
from agentwrite.selecting.rules import LANGUAGES, Rules, TurnedAway, language_of
from agentwrite.selecting.screening import MAX_TOKENS, TEMPERATURE, Decision, Screener, question
from agentwrite.selecting.selection import SHOWN, Log, Row, Selection, writing
from agentwrite.settings import Settings
from agentwrite.writing.context import estimate_tokens
from longwriter_core.errors import InputError
from longwriter_core.llm import ChatPool, ContextOverflowError, Store, run_async
from longwriter_core.overlap import benchmark_prompts

_BATCH = 64  # rows read and checked while the calls in flight go on
_AHEAD = 4  # times `concurrency`: asked before the first of them is answered
_WAITING = 2_000  # rows that wait for one that was asked before them
_SURELY = 1_000  # rows without any instruction, after which there will be none
_SAMPLE = 2_000  # rows that an estimate reads
_REPLY = 40  # tokens of a decision, roughly


Progress = Callable[[Selection], None]


def select(
    source: str,
    output: Path,
    settings: Settings | None = None,
    *,
    quota: Mapping[str, int] | None = None,
    split: str = "train",
    limit: int | None = None,
    progress: Progress = lambda _selection: None,
) -> Selection:
    """Write the chosen instructions of `source` to `output`, and the others beside it.

    `source` is a hub dataset, which is streamed, or a local file or folder; `quota` is language
    ("en", "zh") -> how many at most, and reading ends when all are full; `limit` is rows read.
    Without `settings`, the rules alone decide. Raises InputError for a source, folder or endpoint
    that cannot be used.
    """
    selection = Selection(_checked(quota))
    rules, opened = Rules(benchmark_prompts()), open_source(source, split)
    selection.total = min(filter(None, (opened.total, limit)), default=None)
    with writing(output, source) as (chosen, others):
        log = Log(selection, chosen, others, opened.name, split)
        rows = _sieved(opened, rules, selection, limit)
        if settings:
            run_async(_decide(rows, log, settings, progress))
        else:
            for row in rows:
                log.add(row, None)
                progress(selection)
                if log.is_over:
                    break
    return selection


def _checked(quota: Mapping[str, int] | None) -> dict[str, int]:
    for language, number in (quota or {}).items():
        if language not in LANGUAGES:
            raise InputError(f"quota: {language!r} is not among {', '.join(LANGUAGES)}")
        if number < 1:
            raise InputError(f"quota: {language} must be 1 or more, not {number}")
    return dict(quota or {})


def _sieved(source: Source, rules: Rules, selection: Selection, limit: int | None) -> Iterator[Row]:
    """Every row, with the rule that turns it away. Raises InputError where none can be read."""
    wanted = selection.quota or dict.fromkeys(LANGUAGES)
    first: list[str] | None = None
    found = number = 0
    for number, row in enumerate(islice(source.rows, limit), 1):
        first = first or sorted(row)
        candidate = read_candidate(row, number)
        if candidate is None:
            yield Row(number, None, None, TurnedAway("no_instruction"))
            if not found and number == _SURELY:
                break
            continue
        found += 1
        language = language_of(candidate)
        if language not in wanted:
            language = None
        if selection.has_enough(language):  # neither checked nor remembered any more
            yield Row(number, None, language, TurnedAway("quota"))
            continue
        turned_away = rules.check(candidate, language)
        if turned_away:  # a row may wait long for its turn
            candidate = replace(candidate, instruction=candidate.instruction[:SHOWN])
        yield Row(number, candidate, language, turned_away)
    if not found:
        raise InputError(
            f"{source.name}: no instruction in {number:,} rows; looked for conversation, "
            "conversations, messages, instruction or prompt, but found "
            + (", ".join(first or ()) or "nothing")
        )


# A row, and the call about it, if it needs one.
_Waiting = deque[tuple[Row, asyncio.Task[Answer[Decision] | None] | None]]


async def _decide(rows: Iterator[Row], log: Log, settings: Settings, progress: Progress) -> None:
    """Ask about what the rules leave, and log every row in its turn."""
    store = Store()
    store.check()
    async with settings.chat(store) as chat:
        log.selection.usage = chat.usage
        screener = _screener(chat, settings)
        free = asyncio.Semaphore(settings.concurrency)
        waiting: _Waiting = deque()
        asks = 0  # of those waiting
        is_over = False

        async def ask(row: Row) -> Answer[Decision] | None:
            async with free:
                if is_over or not row.candidate:
                    return None
                text, place = row.candidate.instruction, f"row {row.number}"
                return await screener.ask(text, place, row.number)

        unreadable: InputError | None = None
        try:
            while not log.is_over and not unreadable:
                batch, unreadable = await asyncio.to_thread(_next_batch, rows)
                if not batch:
                    break
                for row in batch:
                    is_wanted = not (row.turned_away or log.selection.has_enough(row.language))
                    task = asyncio.create_task(ask(row)) if is_wanted else None
                    waiting.append((row, task))
                    asks += is_wanted
                    await asyncio.sleep(0)  # what is in the store is known now: no need to ask on
                    while waiting and (
                        _is_settled(waiting[0][1])
                        or asks >= _AHEAD * settings.concurrency
                        or len(waiting) >= _WAITING
                    ):
                        asks -= await _log_next(waiting, log)
                progress(log.selection)
            while waiting and not log.is_over:
                await _log_next(waiting, log)
                progress(log.selection)
            is_over = True  # what is in flight is paid for, so it may end; no more is begun
        finally:
            tasks = [task for _, task in waiting if task]
            for task in tasks:
                if not is_over:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if unreadable and not log.is_over:  # where enough was chosen before it, it does not matter
        raise unreadable
    if log.selection.stopped and not log.selection.asked:
        raise InputError(f"{settings.model} at {settings.where}: {log.selection.stopped}")


def _is_settled(task: asyncio.Task[Answer[Decision] | None] | None) -> bool:
    return task is None or task.done()


async def _log_next(waiting: _Waiting, log: Log) -> bool:
    """Log the row whose turn it is, when its call has ended; returns whether there was one."""
    row, task = waiting[0]
    try:
        answer = await task if task else None
    except (WriteError, ContextOverflowError) as error:
        log.add_failure(row, error)
    else:
        log.add(row, answer)
    waiting.popleft()
    return task is not None


def _screener(chat: ChatPool, settings: Settings) -> Screener:
    return Screener(
        ChatModel(
            chat,
            settings.model,
            concurrency=settings.concurrency,
            temperature=TEMPERATURE,
            max_tokens=MAX_TOKENS,
            scope=settings.scope,
        )
    )


def _next_batch(rows: Iterator[Row]) -> tuple[list[Row], InputError | None]:
    """Some rows, and what ended them early. Read in a thread: meanwhile, calls in flight go on."""
    batch: list[Row] = []
    try:
        for row in islice(rows, _BATCH):
            batch.append(row)  # one by one: what was read before an error stays
    except InputError as error:
        return batch, error
    return batch, None


@dataclass
class Estimate:
    """What the rules leave of the first `read` rows, and what asking about it takes, roughly."""

    read: int = 0
    total: int | None = None  # rows that would be read at most, where the source says it
    left: int = 0
    turned_away: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def scaled(self, rows: int) -> "Estimate":
        """The same for so many rows, if all are like these."""
        share = rows / self.read
        return Estimate(
            read=rows,
            total=self.total,
            left=round(self.left * share),
            prompt_tokens=round(self.prompt_tokens * share),
            completion_tokens=round(self.completion_tokens * share),
        )


def estimate(
    source: str,
    *,
    quota: Mapping[str, int] | None = None,
    split: str = "train",
    limit: int | None = None,
) -> Estimate:
    """Read a sample of `source`; no call is made and nothing is written."""
    selection = Selection(_checked(quota))
    rules, opened = Rules(benchmark_prompts()), open_source(source, split)
    found = Estimate(total=min(filter(None, (opened.total, limit)), default=None))
    for row in _sieved(opened, rules, selection, min(limit or _SAMPLE, _SAMPLE)):
        found.read += 1
        if row.turned_away:
            found.turned_away[row.turned_away.rule] += 1
        elif row.candidate:
            found.left += 1
            found.prompt_tokens += estimate_tokens(question(row.candidate.instruction))
            found.completion_tokens += _REPLY
    return found
