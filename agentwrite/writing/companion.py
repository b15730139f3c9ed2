"""What may accompany the writing of a text: the engine's only hook for story state and critic.

A companion reads each finished section, may have it rewritten, and may add notes to the prompts of
the sections that follow.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from agentwrite.model import Answer, ChatModel
from agentwrite.writing.plan import Step
from agentwrite.writing.state import Instruction, Section

# Rewrites the section at hand by a note.
Revise = Callable[[str], Awaitable[Section]]


class Companion(Protocol):
    """Accompanies the writing of one text."""

    answers: list[Answer[Any]]  # of the companion's own calls, for the counts of the text

    def notes(self) -> str:
        """What the prompt for the next section shows after the text so far; "" for nothing."""

    async def finish(self, section: Section, step: Step, before: str, revise: Revise) -> Section:
        """Read a finished section; returns it or what replaces it. Raises WriteError.

        `before` is the text so far as the prompt for the section showed it.
        """

    def record(self) -> dict[str, Any]:
        """What the row of the text keeps, by name."""


# Opens the companion of a text: its instruction, affinity, and the models that write and summarise.
OpenCompanion = Callable[[Instruction, int, ChatModel, ChatModel], Companion]
