"""Select instructions that need thousands of words, first by rules and then by a model's decision.

    from agentwrite import Settings, select

    settings = Settings.resolve(model="my-model")
    selection = select("allenai/WildChat-1M", "instructions.jsonl", settings, quota={"en": 3000})
    print(selection.chosen, selection.rejected)

Rows are recorded in the order of the source, whatever order the replies arrive in, so the same
source and replies always give the same files. An interrupted run keeps only its finished calls. The
next run reads the source again from the start and makes only the calls without a stored reply.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from agentwrite.data.sources import open_source
from agentwrite.errors import WriteError
from agentwrite.model import Answer
from agentwrite.selecting.log import (
    CheckedRow,
    Selection,
    SelectionLog,
    checked_quota,
    open_log,
)
from agentwrite.selecting.rows import check_rows
from agentwrite.selecting.rules import Rules
from agentwrite.selecting.screening import Decision, Screener
from agentwrite.settings import Settings
from longwriter_core.errors import InputError
from longwriter_core.llm import ContextOverflowError, Store, run_async
from longwriter_core.overlap import benchmark_prompts

_BATCH = 64  # rows read and checked at a time in a thread
_MAX_CALLS_AHEAD = (
    4  # limit of calls ahead of the next row to record, in multiples of the concurrency
)
_MAX_WAITING = 2_000  # rows held in memory while an earlier row waits for its reply
# With the batch API, many calls are made in advance: as many as the quotas still need, if as many
# are chosen as so far, and some more.
_MAX_BATCH_AHEAD, _BATCH_MARGIN, _ASKED_PER_CHOSEN = 10_000, 1.2, 5.0


Progress = Callable[[Selection], None]


def select(
    source: str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    quota: Mapping[str, int] | None = None,
    split: str = "train",
    limit: int | None = None,
    progress: Progress = lambda _selection: None,
) -> Selection:
    """Write the chosen instructions of `source` to `output`, and log the rejected rows next to it.

    source    a hub dataset, which is streamed, or a local file or folder
    output    a JSONL file in the format that `run` reads; written on completion
    settings  settings of the model that decides on rows that pass the rules; None applies only the
              rules
    quota     maximum number of rows to choose for "en" and "zh"; reading ends when all quotas are
              full, and rows in a language without a quota are rejected
    split     split of a hub dataset
    limit     read only this many rows from the start
    progress  called with the counts so far

    Raises InputError if the source, the output or the endpoint cannot be used.
    """
    source, output = str(source), Path(output)
    selection = Selection(checked_quota(quota))
    rules, opened = Rules(benchmark_prompts()), open_source(source, split)
    selection.total = min(filter(None, (opened.total, limit)), default=None)
    with open_log(selection, output, opened.name, split) as log:
        rows = check_rows(opened, rules, selection, limit)
        if settings:
            run_async(_decide(rows, log, settings, progress))
        else:
            for row in rows:
                log.add(row, None)
                progress(selection)
                if selection.is_over:
                    break
    return selection


# A row, and the task of its call if it needs one.
_Waiting = deque[tuple[CheckedRow, asyncio.Task[Answer[Decision] | None] | None]]


async def _decide(
    rows: Iterator[CheckedRow], log: SelectionLog, settings: Settings, progress: Progress
) -> None:
    """Ask the model about rows that pass the rules, and record all rows in order."""
    store, selection = Store(), log.selection
    store.check()
    async with settings.chat(store) as chat:
        selection.usage = chat.usage

        def show(state: str) -> None:
            selection.state = state
            progress(selection)

        chat.batches.show = show
        screener = Screener(chat, settings)
        waiting: _Waiting = deque()
        calls_ahead = 0
        is_over = False

        async def ask(row: CheckedRow) -> Answer[Decision] | None:
            async with screener.slots:
                if is_over or not row.candidate:
                    return None
                return await screener.ask(row.candidate.instruction, row.number)

        def max_calls_ahead() -> int:
            if not settings.batch:
                return _MAX_CALLS_AHEAD * settings.concurrency
            if not selection.quota:
                return _MAX_BATCH_AHEAD
            chosen = selection.chosen.total()
            asked = selection.asked / chosen if chosen else _ASKED_PER_CHOSEN
            wanted = 100 + _BATCH_MARGIN * asked * sum(selection.missing.values())
            return min(_MAX_BATCH_AHEAD, int(wanted))

        unreadable: InputError | None = None
        try:
            while not selection.is_over and not unreadable:
                batch, unreadable = await asyncio.to_thread(_next_batch, rows)
                if not batch:
                    break
                for row in batch:
                    needs_call = not (row.rejected or selection.has_enough(row.language))
                    task = asyncio.create_task(ask(row)) if needs_call else None
                    waiting.append((row, task))
                    calls_ahead += needs_call
                    await asyncio.sleep(0)  # let stored calls finish
                    while waiting and (
                        _is_decided(waiting[0][1])
                        or calls_ahead >= max_calls_ahead()
                        or len(waiting) >= max(_MAX_WAITING, max_calls_ahead())
                    ):
                        calls_ahead -= await _record_next(waiting, log)
                progress(selection)
            while waiting and not selection.is_over:
                await _record_next(waiting, log)
                progress(selection)
            # start no more calls, but let those in flight finish, since they are charged anyway;
            # those in a batch may take a day, and the next run would find them
            is_over = True
        finally:
            tasks = [task for _, task in waiting if task]
            if not is_over or settings.batch:
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if unreadable and not selection.is_over:  # a bad row after the last needed one is ignored
        raise unreadable
    if selection.stopped and not selection.asked:
        raise InputError(f"{settings.model} at {settings.where}: {selection.stopped}")


def _is_decided(task: asyncio.Task[Answer[Decision] | None] | None) -> bool:
    return task is None or task.done()


async def _record_next(waiting: _Waiting, log: SelectionLog) -> bool:
    """Wait for the first row's call, if any, and record the row. Returns whether it had a call.

    The row stays in the queue while its call runs, so the call is cancelled with the others.
    """
    row, task = waiting[0]
    try:
        answer = await task if task else None
    except (WriteError, ContextOverflowError) as error:
        log.add_failure(row, error)
    else:
        log.add(row, answer)
    waiting.popleft()
    return task is not None


def _next_batch(rows: Iterator[CheckedRow]) -> tuple[list[CheckedRow], InputError | None]:
    """Return the next rows, and the error that ended them early, if any. Runs in a thread."""
    batch: list[CheckedRow] = []
    try:
        for row in islice(rows, _BATCH):
            batch.append(row)  # appended one by one to keep the rows before an error
    except InputError as error:
        return batch, error
    return batch, None
