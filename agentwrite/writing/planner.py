"""Plan a text in one or two levels."""

from collections.abc import Awaitable, Callable, Sequence

from agentwrite.errors import WriteError
from agentwrite.model import Answer, ChatModel
from agentwrite.writing.plan import (
    MAX_PLAN_WORDS,
    Level,
    Plan,
    Step,
    joined,
    structured_plan,
)
from agentwrite.writing.plan_reader import read_plan
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.state import Instruction
from longwriter_core.llm import ContextOverflowError, for_each


class Planner:
    """Plans texts with a model."""

    def __init__(self, model: ChatModel, prompts: Prompts) -> None:
        self._model, self._prompts = model, prompts

    async def plan(
        self, instruction: Instruction, affinity: int, answers: list[Answer[Plan]]
    ) -> Plan:
        """Plan a text; one that is too long for a single plan is planned in chapters.

        Appends every answer of the model to `answers`. Raises WriteError.
        """

        async def ask(
            name: str, level: Level, required: int | None, place: str, **texts: str
        ) -> Plan:
            length = f"{required} words" if required else "whatever the instruction needs"
            prompt = self._prompts.render(
                name, inst=instruction.instruction, length=length, **texts
            )
            # Other prompts get plain replies: the paper's protocol has no structured output.
            is_built_in = self._prompts.name == "longwriter"
            structured = structured_plan(required, level) if is_built_in else None
            try:
                answer = await self._model.ask(
                    prompt, lambda reply: read_plan(reply, required, level), place=place,
                    text_id=instruction.id, affinity=affinity, structured=structured,
                )  # fmt: skip
            except ContextOverflowError as error:
                raise WriteError(error.reason, str(error), place) from error
            answers.append(answer)
            return answer.value

        required = instruction.required
        if (required or 0) <= MAX_PLAN_WORDS:
            return await ask("plan", "Paragraph", required, "plan")
        chapters = await ask("chapters", "Chapter", required, "plan of chapters")
        plans: dict[int, Plan] = {}

        async def plan_chapter(chapter: Step) -> None:
            plans[chapter.number] = await ask(
                "chapter", "Paragraph", chapter.words, f"plan of chapter {chapter.number}",
                plan=chapters.text, step=chapter.line,
            )  # fmt: skip

        await all_at_once(chapters.steps, plan_chapter)
        return joined(chapters.steps, [plans[chapter.number] for chapter in chapters.steps])


async def all_at_once(steps: Sequence[Step], work: Callable[[Step], Awaitable[None]]) -> None:
    """Run `work` on all steps concurrently, then raise the first WriteError.

    A failure does not cancel the other steps: their calls in flight are charged anyway, and
    cancelling would lose the replies.
    """
    failures: list[WriteError] = []

    async def work_on(step: Step) -> None:
        try:
            await work(step)
        except WriteError as error:
            failures.append(error)

    await for_each(steps, work_on, len(steps))
    if failures:
        raise failures[0]
