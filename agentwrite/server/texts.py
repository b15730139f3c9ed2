"""Texts that are being written for chat clients, and what each client sees of them."""

import asyncio
from dataclasses import dataclass, field

from agentwrite.engine import TokenUse
from agentwrite.errors import WriteError
from agentwrite.writing.state import Instruction
from longwriter_core.llm import CallError


@dataclass
class WrittenText:
    """A text that is being written. Several clients may wait for the text of one key."""

    key: str
    instruction: Instruction
    pieces: list[str] = field(default_factory=list)  # finished parts of the text, in order
    changed: asyncio.Event = field(
        default_factory=asyncio.Event
    )  # set on a change, then replaced with a new event
    use: TokenUse = field(default_factory=TokenUse)
    finish_reason: str = "stop"
    failure: WriteError | CallError | None = None
    is_done: bool = False
    waiting: int = 0  # clients
    task: asyncio.Task[None] | None = None

    def add(self, *pieces: str, done: bool = False) -> None:
        """Append finished pieces and notify the waiting clients."""
        self.pieces += pieces
        self.is_done = done
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


@dataclass
class View:
    """One client's view of a text, which ends before the first stop sequence."""

    text: WrittenText
    stop: tuple[str, ...]
    is_ended: bool = False  # whether the client receives nothing more
    failure: WriteError | CallError | None = None  # the error to report at the end

    def visible(self) -> str:
        """Return the text so far, without an end that could start a stop sequence."""
        so_far = "".join(self.text.pieces)
        ends = [at for sequence in self.stop if (at := so_far.find(sequence)) >= 0]
        if ends:
            self.is_ended = True
            return so_far[: min(ends)]
        self.is_ended = self.text.is_done
        self.failure = self.text.failure if self.text.is_done else None
        held = 0 if self.text.is_done else max(map(len, self.stop), default=1) - 1
        return so_far[: len(so_far) - held]
