"""Many instructions, whatever is made of them: bounded in calls and memory, no failure is lost."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from agentwrite.batch.run_dir import RunFolder
from agentwrite.errors import WriteError
from agentwrite.writing.state import Instruction
from longwriter_core.llm import Store, Usage, for_each


class Made(Protocol):
    """What was made of an instruction: a text, say."""

    def record(self) -> Mapping[str, Any]:
        """Its row in the run folder."""


_Made = TypeVar("_Made", bound=Made)
_Made_co = TypeVar("_Made_co", bound=Made, covariant=True)


@dataclass
class Work(Generic[_Made]):
    """What a run has done so far."""

    instructions: int
    skipped: int  # finished by an earlier run
    finished: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of failures
    stopped: str = ""  # why the rest was not tried, as with a wrong key
    usage: Usage = field(default_factory=Usage)  # calls of this run; what was stored is not among

    @property
    def missing(self) -> int:
        """Instructions of which nothing was made."""
        return self.instructions - self.skipped - self.finished

    def add(self, _made: _Made) -> None:
        """Count what was made."""
        self.finished += 1


class Calls(Protocol):
    """What makes the calls: a chat, or a cluster of workers that each have one."""

    usage: Usage

    @property
    def is_fatal(self) -> bool:
        """Whether no further call will be made."""

    def give_up(self, why: str) -> None:
        """Make no further call."""


Make = Callable[[Instruction, int], Awaitable[_Made]]
# Called for each part of what is being made: its words, and its share of the whole.
Note = Callable[[int, float], None]


def no_note(_words: int, _share: float) -> None:
    """Nobody is told."""


class Opening(Protocol[_Made_co]):
    """What can open a maker: here, or in a worker on another machine, so it can be pickled."""

    def open(
        self, store: Store, concurrency: int, note: Note = no_note
    ) -> AbstractAsyncContextManager[tuple[Calls, Make[_Made_co]]]:
        """Calls, and the function that makes something of an instruction and its number."""


async def run_queue(
    todo: Iterator[Instruction],
    folder: RunFolder,
    chat: Calls,
    make: Make[_Made],
    work: Work[_Made],
    progress: Callable[[], None],
    concurrency: int,
) -> None:
    """`make` something of every instruction, and put it, or the reason why not, in the folder.

    `make` gets the instruction and its number, and raises WriteError. Instructions are drawn only
    as others end, and no longer once `chat` is in vain or the disk is full.
    """

    def numbered() -> Iterator[tuple[int, Instruction]]:
        for turn, instruction in enumerate(todo):
            if chat.is_fatal:
                return
            yield turn, instruction

    async def work_on(item: tuple[int, Instruction]) -> None:
        turn, instruction = item
        try:
            made = await make(instruction, turn)
        except WriteError as error:
            if error.is_fatal:  # says nothing about this instruction
                work.stopped = work.stopped or error.detail
                return
            with stopping_where_full():
                folder.add_failure(instruction, error)
                work.failed += 1
                work.reasons[error.reason] += 1
        else:
            with stopping_where_full():
                folder.add(made.record())
                work.add(made)
        progress()

    @contextmanager
    def stopping_where_full() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            work.stopped = f"cannot write to {folder.path} ({error.strerror})"
            chat.give_up(work.stopped)

    work.usage = chat.usage
    progress()
    await for_each(numbered(), work_on, concurrency)
