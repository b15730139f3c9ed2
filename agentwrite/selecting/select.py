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

_EXCERPT_CHARACTERS = 200  # characters of an instruction shown in the log of rejected rows
_BATCH = 64  # rows read and checked at a time in a thread
_MAX_CALLS_AHEAD = (
    4  # limit of calls ahead of the next row to record, in multiples of the concurrency
)
_MAX_WAITING = 2_000  # rows held in memory while an earlier row waits for its reply
# With the batch API, many calls are made in advance: as many as the quotas still need, if as many
# are chosen as so far, and some more.
_MAX_BATCH_AHEAD, _BATCH_MARGIN, _ASKED_PER_CHOSEN = 10_000, 1.2, 5.0
_GIVE_UP_AFTER = 1_000  # rows without an instruction; the format of the source is then unknown
_ESTIMATE_ROWS = 2_000  # rows that an estimate reads
_REPLY_TOKENS = 40  # estimated tokens of a decision


@dataclass
class Selection:
    """Counts of rows so far. `usage` counts only the calls of this run."""

    quota: Mapping[str, int]
    total: int | None = None  # rows to read; None if unknown
    read: int = 0
    asked: int = 0  # instructions decided by the model
    chosen: Counter[str] = field(default_factory=Counter)  # by language
    rejected: Counter[str] = field(default_factory=Counter)  # by rule
    failed: Counter[str] = field(default_factory=Counter)  # rows without a decision, by reason
    retries: Counter[str] = field(default_factory=Counter)  # unreadable replies, by reason
    usage: Usage = field(default_factory=Usage)
    stopped: str = ""  # why the run stopped early, for example a wrong key
    state: str = ""  # of the batches that the model is asked in

    def has_enough(self, language: str | None) -> bool:
        """Whether the quota of a language is full."""
        quota = self.quota.get(language or "")
        return quota is not None and self.chosen[language or ""] >= quota

    @property
    def is_full(self) -> bool:
        """Whether there are quotas and all are full."""
        return bool(self.quota) and all(map(self.has_enough, self.quota))

    @property
    def is_over(self) -> bool:
        """Whether the selection has ended, so further rows are ignored."""
        return self.is_full or bool(self.stopped)

    @property
    def missing(self) -> dict[str, int]:
        """Language -> number of instructions missing from its quota."""
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
    """Return the path of the log of rejected rows, such as instructions.rejected.jsonl."""
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
    """Apply the rules to every row. Raises InputError if the source has no instructions."""
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
        if selection.has_enough(
            language
        ):  # skip the rules, so the row is not remembered as a duplicate
            yield _Row(number, None, language, Rejected("quota"))
            continue
        if rejected := rules.check(candidate, language):
            # the row may wait in memory, so keep only the excerpt that the log shows
            candidate = replace(candidate, instruction=candidate.instruction[:_EXCERPT_CHARACTERS])
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
        """Record a row that was decided by a rule, the model or its quota."""
        selection = self.selection
        if selection.is_over:
            return
        selection.read += 1
        if selection.has_enough(row.language):  # the quota filled up while the row waited
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
        """Record a row without a decision by the model; the next run retries it."""
        selection = self.selection
        if selection.is_over or selection.has_enough(row.language):
            self.add(row, None)
        elif isinstance(error, WriteError) and error.is_fatal:  # it would fail all further rows too
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
            "instruction": candidate.instruction[:_EXCERPT_CHARACTERS] if candidate else None,
        }
        self.rejected.write(jsonl_line(record))

    def _record(
        self, candidate: Candidate, language: Language, answer: Answer[Decision] | None
    ) -> dict[str, Any]:
        """Return the output row, in the format that `agentwrite run` reads."""
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
    """Open the log. Its files are written when the block ends without an error."""
    rejects = rejects_path(output)
    check_outputs([output, rejects], [Path(source)])
    try:
        with open_atomically(output) as chosen, open_atomically(rejects) as rejected:
            yield _Log(selection, chosen, rejected, source, split)
    except OSError as error:
        raise InputError(
            f"cannot write {output} ({error.strerror}): free space there, or choose another folder"
        ) from error


# A row, and the task of its call if it needs one.
_Waiting = deque[tuple[_Row, asyncio.Task[Answer[Decision] | None] | None]]


async def _decide(rows: Iterator[_Row], log: _Log, settings: Settings, progress: Progress) -> None:
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

        async def ask(row: _Row) -> Answer[Decision] | None:
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


async def _record_next(waiting: _Waiting, log: _Log) -> bool:
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


def _next_batch(rows: Iterator[_Row]) -> tuple[list[_Row], InputError | None]:
    """Return the next rows, and the error that ended them early, if any. Runs in a thread."""
    batch: list[_Row] = []
    try:
        for row in islice(rows, _BATCH):
            batch.append(row)  # appended one by one to keep the rows before an error
    except InputError as error:
        return batch, error
    return batch, None


@dataclass
class SelectionEstimate:
    """Rows that pass the rules among the first `read` rows, and the tokens to ask about them."""

    read: int = 0
    total: int | None = None  # rows to read; None if unknown
    left: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def scaled(self, rows: int) -> "SelectionEstimate":
        """Extrapolate the estimate to `rows` similar rows."""
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
    """Estimate a selection from the first rows of `source`.

    Makes no calls and writes no files. Raises InputError if the source cannot be used.
    """
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
