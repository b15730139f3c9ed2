"""Select instructions that need thousands of words: rules first, then a model's yes or no.

    from agentwrite import Settings, select

    settings = Settings.resolve(model="my-model")
    selection = select("allenai/WildChat-1M", "instructions.jsonl", settings, quota={"en": 3000})
    print(selection.chosen, selection.rejected)

Rows are decided in the order of the source, whatever order the replies arrive in, so the same
source and replies always give the same files. An interrupted run leaves only its finished calls:
the next run reads the source again from the start and pays only for calls without a reply.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

from agentwrite.data.sources import Source, check_outputs, open_source
from agentwrite.errors import WriteError
from agentwrite.model import Answer
from agentwrite.selecting.candidates import Candidate, language_of, read_candidate
from agentwrite.selecting.rules import LANGUAGES, Rules
from agentwrite.selecting.screening import Decision, Screener, question
from agentwrite.settings import Settings
from agentwrite.writing.context import estimate_tokens
from longwriter_core.errors import InputError
from longwriter_core.files import open_atomically, sha256
from longwriter_core.jsonl import jsonl_line
from longwriter_core.llm import ContextOverflowError, Rejected, Store, Usage, run_async
from longwriter_core.overlap import benchmark_prompts
from longwriter_core.text.language import Language
from longwriter_core.text.required_length import required_length

_EXCERPT = 200  # characters of an instruction in the log of rejected rows
_BATCH = 64  # rows read and checked at a time, while calls are in flight
_AHEAD = 4  # times the concurrency: calls made before the first of them is answered
_MAX_WAITING = 2_000  # rows in memory that wait for the reply to an earlier row
_GIVE_UP_AFTER = 1_000  # rows without any instruction: the source has another shape
_ESTIMATE_ROWS = 2_000  # rows that an estimate reads
_REPLY_TOKENS = 40  # of a decision, estimated


@dataclass
class Selection:
    """What was read, chosen and rejected so far. `usage` counts the calls of this run alone."""

    quota: Mapping[str, int]
    total: int | None = None  # rows to read, where the source knows it
    read: int = 0
    asked: int = 0  # instructions on which the model decided
    chosen: Counter[str] = field(default_factory=Counter)  # by language
    rejected: Counter[str] = field(default_factory=Counter)  # by rule
    failed: Counter[str] = field(default_factory=Counter)  # rows without a decision, by reason
    retries: Counter[str] = field(default_factory=Counter)  # unreadable replies, by reason
    usage: Usage = field(default_factory=Usage)
    stopped: str = ""  # why the remaining rows were not decided, such as a wrong key

    def has_enough(self, language: str | None) -> bool:
        """Whether the quota of a language is full."""
        quota = self.quota.get(language or "")
        return quota is not None and self.chosen[language or ""] >= quota

    @property
    def is_full(self) -> bool:
        """Whether every quota is full; never without quotas."""
        return bool(self.quota) and all(map(self.has_enough, self.quota))

    @property
    def is_over(self) -> bool:
        """Whether no further row counts."""
        return self.is_full or bool(self.stopped)

    @property
    def missing(self) -> dict[str, int]:
        """Language -> instructions that its quota still lacks."""
        return {
            language: number - self.chosen[language]
            for language, number in self.quota.items()
            if not self.has_enough(language)
        }


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
    """Write the chosen instructions of `source` to `output`, and the rejected rows beside it.

    source    a hub dataset, which is streamed, or a local file or folder
    output    a JSONL file, as `run` reads it; it appears when all rows are decided
    settings  the model that decides on what the rules leave; None leaves the model out
    quota     "en" or "zh" -> the most rows to choose; reading ends when all quotas are full, and
              rows in a language without a quota are rejected
    split     of a hub dataset
    limit     read only the first rows

    Raises InputError for a source, an output or an endpoint that cannot be used.
    """
    source, output = str(source), Path(output)
    selection = Selection(_checked(quota))
    rules, opened = Rules(benchmark_prompts()), open_source(source, split)
    selection.total = min(filter(None, (opened.total, limit)), default=None)
    with _open_log(selection, output, opened.name, split) as log:
        rows = _check_rows(opened, rules, selection, limit)
        if settings:
            run_async(_decide(rows, log, settings, progress))
        else:
            for row in rows:
                log.add(row, None)
                progress(selection)
                if selection.is_over:
                    break
    return selection


def rejects_path(output: Path) -> Path:
    """The log of rejected rows: instructions.rejected.jsonl for instructions.jsonl."""
    return output.with_name(f"{output.stem}.rejected.jsonl")


def _checked(quota: Mapping[str, int] | None) -> dict[str, int]:
    for language, number in (quota or {}).items():
        if language not in LANGUAGES:
            raise InputError(f"quota: {language!r} is not among {', '.join(LANGUAGES)}")
        if number < 1:
            raise InputError(f"quota: {language} must be 1 or more, not {number}")
    return dict(quota or {})


@dataclass(frozen=True)
class _Row:
    """A row of the source, and the rule that rejects it, if any."""

    number: int  # from 1
    candidate: Candidate | None
    language: Language | None
    rejected: Rejected | None


def _check_rows(
    source: Source, rules: Rules, selection: Selection, limit: int | None
) -> Iterator[_Row]:
    """Apply the rules to every row. Raises InputError for a source without instructions."""
    wanted = selection.quota or dict.fromkeys(LANGUAGES)
    columns: list[str] = []
    instructions = number = 0
    for number, row in enumerate(islice(source.rows, limit), 1):
        columns = columns or sorted(row)
        candidate = read_candidate(row, number)
        if candidate is None:
            yield _Row(number, None, None, Rejected("no_instruction"))
            if not instructions and number == _GIVE_UP_AFTER:
                break
            continue
        instructions += 1
        language = language_of(candidate)
        if language not in wanted:
            language = None
        if selection.has_enough(language):  # neither checked nor remembered for duplicates
            yield _Row(number, None, language, Rejected("quota"))
            continue
        if rejected := rules.check(candidate, language):
            # the row may wait in memory for its turn, so keep only what the log shows
            candidate = replace(candidate, instruction=candidate.instruction[:_EXCERPT])
        yield _Row(number, candidate, language, rejected)
    if not instructions:
        raise InputError(
            f"{source.name}: no instruction in {number:,} rows; expected a column conversation, "
            f"conversations, messages, instruction or prompt, found {', '.join(columns) or 'none'}"
        )


@dataclass
class _Log:
    """Writes the decided rows to the two files, and counts them."""

    selection: Selection
    chosen: IO[bytes]
    rejected: IO[bytes]
    source: str
    split: str

    def add(self, row: _Row, answer: Answer[Decision] | None) -> None:
        """Record a row that a rule, the model or its quota has decided."""
        selection = self.selection
        if selection.is_over:
            return
        selection.read += 1
        if selection.has_enough(row.language):  # filled up while the row waited
            selection.rejected["quota"] += 1
            return
        if answer:
            selection.asked += 1
            selection.retries.update(answer.rejected)
        if row.rejected:
            selection.rejected[row.rejected.reason] += 1
            self._write_rejected(row, row.rejected)
        elif answer and not answer.value.is_long:
            selection.rejected["model"] += 1
            self._write_rejected(row, Rejected("model", answer.value.reason))
        elif row.candidate and row.language:
            selection.chosen[row.language] += 1
            self.chosen.write(jsonl_line(self._record(row.candidate, row.language, answer)))

    def add_failure(self, row: _Row, error: WriteError | ContextOverflowError) -> None:
        """Record a row about which the model gave no decision; the next run retries it."""
        selection = self.selection
        if selection.is_over or selection.has_enough(row.language):
            self.add(row, None)
        elif isinstance(error, WriteError) and error.is_fatal:  # it concerns all further rows
            selection.stopped = error.detail
        else:
            selection.read += 1
            selection.failed[error.reason] += 1
            detail = error.detail if isinstance(error, WriteError) else str(error)
            self._write_rejected(
                row, Rejected("failed", f"{error.reason}: {detail}" if detail else error.reason)
            )

    def _write_rejected(self, row: _Row, rejected: Rejected) -> None:
        candidate = row.candidate
        record = {
            "row": row.number,
            "row_id": candidate.row_id if candidate else None,
            "rule": rejected.reason,
            "detail": rejected.detail,
            "instruction": candidate.instruction[:_EXCERPT] if candidate else None,
        }
        self.rejected.write(jsonl_line(record))

    def _record(
        self, candidate: Candidate, language: Language, answer: Answer[Decision] | None
    ) -> dict[str, Any]:
        """A row as `agentwrite run` reads it."""
        required = required_length(candidate.instruction)
        return {
            "id": sha256(candidate.instruction)[:16],
            "instruction": candidate.instruction,
            "language": language,
            **({"length": required} if required else {}),
            "selection": {
                "source": self.source,
                "split": self.split,
                "row": candidate.row,
                "row_id": candidate.row_id,
                "model": answer.model if answer else None,
                "reason": answer.value.reason if answer else None,
            },
        }


@contextmanager
def _open_log(selection: Selection, output: Path, source: str, split: str) -> Iterator[_Log]:
    """The log; its files appear when the block ends without an error."""
    rejects = rejects_path(output)
    check_outputs([output, rejects], [Path(source)])
    try:
        with open_atomically(output) as chosen, open_atomically(rejects) as rejected:
            yield _Log(selection, chosen, rejected, source, split)
    except OSError as error:
        raise InputError(
            f"cannot write {output} ({error.strerror}): free space there, or choose another folder"
        ) from error


# A row, and the task of the call about it, if it needs one.
_Waiting = deque[tuple[_Row, asyncio.Task[Answer[Decision] | None] | None]]


async def _decide(rows: Iterator[_Row], log: _Log, settings: Settings, progress: Progress) -> None:
    """Ask the model about the rows that pass the rules, and record all rows in order."""
    store, selection = Store(), log.selection
    store.check()
    async with settings.chat(store) as chat:
        selection.usage = chat.usage
        screener = Screener(chat, settings)
        waiting: _Waiting = deque()
        asked_ahead = 0
        is_over = False

        async def ask(row: _Row) -> Answer[Decision] | None:
            async with screener.slots:
                if is_over or not row.candidate:
                    return None
                return await screener.ask(row.candidate.instruction, row.number)

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
                    asked_ahead += needs_call
                    await asyncio.sleep(0)  # lets calls that are in the store end at once
                    while waiting and (
                        _is_decided(waiting[0][1])
                        or asked_ahead >= _AHEAD * settings.concurrency
                        or len(waiting) >= _MAX_WAITING
                    ):
                        asked_ahead -= await _record_next(waiting, log)
                progress(selection)
            while waiting and not selection.is_over:
                await _record_next(waiting, log)
                progress(selection)
            is_over = True  # calls in flight are paid for and may end, but no more are made
        finally:
            tasks = [task for _, task in waiting if task]
            if not is_over:
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if unreadable and not selection.is_over:  # a bad row behind the last one needed does no harm
        raise unreadable
    if selection.stopped and not selection.asked:
        raise InputError(f"{settings.model} at {settings.where}: {selection.stopped}")


def _is_decided(task: asyncio.Task[Answer[Decision] | None] | None) -> bool:
    return task is None or task.done()


async def _record_next(waiting: _Waiting, log: _Log) -> bool:
    """Wait for the first row's call, if it has one, and record the row; returns if it had one.

    The row stays in the queue while it waits, so that its call is cancelled with the others.
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


def _next_batch(rows: Iterator[_Row]) -> tuple[list[_Row], InputError | None]:
    """The next rows, and the error that ended them early. Runs in a thread, beside the calls."""
    batch: list[_Row] = []
    try:
        for row in islice(rows, _BATCH):
            batch.append(row)  # one by one, so that the rows before an error are kept
    except InputError as error:
        return batch, error
    return batch, None


@dataclass
class SelectionEstimate:
    """What the rules leave of the first `read` rows, and what asking about it would take."""

    read: int = 0
    total: int | None = None  # rows to read, where the source knows it
    left: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def scaled(self, rows: int) -> "SelectionEstimate":
        """The same for `rows` rows that resemble these."""
        share = rows / self.read
        return SelectionEstimate(
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
) -> SelectionEstimate:
    """Apply the rules to a sample of `source`. Makes no call and writes nothing."""
    selection = Selection(_checked(quota))
    rules, opened = Rules(benchmark_prompts()), open_source(source, split)
    sample = SelectionEstimate(total=min(filter(None, (opened.total, limit)), default=None))
    for row in _check_rows(opened, rules, selection, min(limit or _ESTIMATE_ROWS, _ESTIMATE_ROWS)):
        sample.read += 1
        if row.rejected:
            sample.rejected[row.rejected.reason] += 1
        elif row.candidate:
            sample.left += 1
            sample.prompt_tokens += estimate_tokens(question(row.candidate.instruction))
            sample.completion_tokens += _REPLY_TOKENS
    return sample
