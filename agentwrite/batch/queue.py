"""Handle many instructions with a limited number of calls in flight and rows in memory.

`run` and `dpo` share this queue. Each defines a `Workload` that handles an instruction. It runs in
this process or, through `agentwrite.batch.ray`, in the workers of a cluster.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from agentwrite.batch.run_dir import RunFolder
from agentwrite.errors import WriteError
from agentwrite.writing.state import Instruction
from longwriter_core.llm import Store, Usage, for_each


class Result(Protocol):
    """The result of an instruction: a text, or judged answers."""

    def record(self) -> Mapping[str, Any]:
        """Return the result's row in the run folder."""


class Pool(Protocol):
    """Makes the calls: a ChatPool, or the workers of a cluster with one ChatPool each."""

    usage: Usage

    @property
    def is_fatal(self) -> bool:
        """Whether the pool has given up and makes no further calls."""

    def give_up(self, why: str) -> None:
        """Make no further calls; `why` is reported as the reason."""


R = TypeVar("R", bound=Result)
R_co = TypeVar("R_co", bound=Result, covariant=True)

# Called with the words of each finished section and its share of the whole text.
OnSection = Callable[[int, float], None]
# Handles an instruction, given with its number in the queue. Raises WriteError.
Handler = Callable[[Instruction, int, OnSection], Awaitable[R]]


class Workload(Protocol[R_co]):
    """Defines how instructions are handled. Must be picklable, to be sent to other machines."""

    def open(
        self, store: Store, concurrency: int
    ) -> AbstractAsyncContextManager[tuple[Pool, Handler[R_co]]]:
        """Open a pool that makes at most `concurrency` calls at a time, and its handler."""


@dataclass
class RunProgress(Generic[R]):
    """Counts of a run so far."""

    instructions: int
    skipped: int  # finished by an earlier run
    finished: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # reason -> failures
    stopped: str = ""  # why the run stopped early, for example a wrong key
    usage: Usage = field(default_factory=Usage)  # calls of this run, excluding stored ones

    @property
    def missing(self) -> int:
        """Instructions without a result."""
        return self.instructions - self.skipped - self.finished

    def add(self, _result: R) -> None:
        """Add a result."""
        self.finished += 1

    def add_section(self, words: int, share: float) -> None:
        """Add a finished section of an unfinished text."""


async def run_queue(
    instructions: Iterator[Instruction],
    folder: RunFolder,
    pool: Pool,
    handle: Handler[R],
    progress: RunProgress[R],
    on_progress: Callable[[], None],
    concurrency: int,
) -> None:
    """Handle every instruction and record its result, or its failure, in the folder.

    At most `concurrency` instructions are handled at a time. No further instruction is read once
    the pool has given up or the disk is full.
    """

    def numbered() -> Iterator[tuple[int, Instruction]]:
        for number, instruction in enumerate(instructions):
            if pool.is_fatal:
                return
            yield number, instruction

    def on_section(words: int, share: float) -> None:
        progress.add_section(words, share)
        on_progress()

    async def work(item: tuple[int, Instruction]) -> None:
        number, instruction = item
        try:
            result = await handle(instruction, number, on_section)
        except WriteError as error:
            if error.is_fatal:  # not specific to this instruction
                progress.stopped = progress.stopped or error.detail
                return
            with stopping_if_disk_full():
                folder.add_failure(instruction, error)
                progress.failed += 1
                progress.reasons[error.reason] += 1
        else:
            with stopping_if_disk_full():
                folder.add(result.record())
                progress.add(result)
        on_progress()

    @contextmanager
    def stopping_if_disk_full() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            progress.stopped = f"cannot write to {folder.path} ({error.strerror})"
            pool.give_up(progress.stopped)

    progress.usage = pool.usage
    on_progress()
    await for_each(numbered(), work, concurrency)
