"""Asking for the plan of a text, in one level or two."""

from agentwrite.errors import WriteError
from agentwrite.writing.asking import Answer, Asking, all_at_once
from agentwrite.writing.plan import MAX_PLAN_WORDS, Level, Plan, Step, joined, read_plan
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.state import Instruction
from longwriter_core.llm import ContextOverflowError


class Planner:
    """Plans texts with one model."""

    def __init__(self, asking: Asking, prompts: Prompts) -> None:
        self._asking, self._prompts = asking, prompts

    async def plan(self, instruction: Instruction, turn: int, answers: list[Answer[Plan]]) -> Plan:
        """One plan, or where that cannot hold the text, a plan of chapters and one of each.

        What was asked for it is added to `answers`. Raises WriteError.
        """

        async def ask(
            name: str, level: Level, required: int | None, place: str, **texts: str
        ) -> Plan:
            length = f"{required} words" if required else "whatever the instruction needs"
            prompt = self._prompts.render(
                name, inst=instruction.instruction, length=length, **texts
            )
            try:
                answer = await self._asking.until(
                    prompt, lambda reply: read_plan(reply, required, level), place=place,
                    text_id=instruction.id, turn=turn,
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
