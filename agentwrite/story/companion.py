"""Keeps the state of a story and has a critic read each section: the engine's companion."""

from functools import partial
from importlib.resources import files
from typing import Any

from agentwrite.errors import WriteError
from agentwrite.model import Answer, ChatModel
from agentwrite.settings import Settings
from agentwrite.story.critic import read_findings, review, structured_findings
from agentwrite.story.state import StoryState, read_update, structured_update
from agentwrite.writing.companion import OpenCompanion, Revise
from agentwrite.writing.context import estimate_tokens
from agentwrite.writing.plan import Step
from agentwrite.writing.prompts import fill
from agentwrite.writing.state import Instruction, Section
from longwriter_core.llm import ContextOverflowError

_TAIL = 20_000  # characters before a section that the critic sees if all of it does not fit


def companions(settings: Settings) -> OpenCompanion | None:
    """What opens the companions of texts with these settings, if they ask for any."""
    return partial(StoryCompanion, settings) if settings.story or settings.critic else None


class StoryCompanion:
    """Accompanies one text, with a story state, a critic, or both.

    The state is kept by the model that summarises, and the critic is the model that writes.
    """

    def __init__(
        self,
        settings: Settings,
        instruction: Instruction,
        affinity: int,
        writer: ChatModel,
        summarizer: ChatModel,
    ) -> None:
        self.answers: list[Answer[Any]] = []
        self._settings, self._instruction, self._affinity = settings, instruction, affinity
        self._writer, self._summarizer = writer, summarizer
        self._state = StoryState()
        self._findings: list[dict[str, Any]] = []

    def notes(self) -> str:
        """The state of the story for the next prompt."""
        shown = self._state.shown()
        if not shown:
            return ""
        return f"\n\n[Notes on what the text has established; they are not part of it.]\n\n{shown}"

    async def finish(self, section: Section, step: Step, before: str, revise: Revise) -> Section:
        """Have the section criticised and rewritten, then read what it establishes."""
        if self._settings.critic:
            section = await self._criticise(section, step, before, revise)
        if self._settings.story:
            prompt = _prompt(
                "state",
                inst=self._instruction.instruction,
                notes=self._state.shown() or "(none)",
                section=section.text,
            )
            place = f"story state after section {section.number}"
            try:
                answer = await self._summarizer.ask(
                    prompt, read_update, place=place, text_id=self._instruction.id,
                    affinity=self._affinity, structured=structured_update(),
                )  # fmt: skip
            except ContextOverflowError as error:
                raise WriteError(error.reason, str(error), place) from error
            self.answers.append(answer)
            self._state.add(answer.value, section.number)
        return section

    async def _criticise(
        self, section: Section, step: Step, before: str, revise: Revise
    ) -> Section:
        answer = await self._ask_critic(section, step, before + self.notes())
        self.answers.append(answer)
        reviewed = review(section.text, answer.value.findings)
        for findings, is_accepted in ((reviewed.accepted, True), (reviewed.rejected, False)):
            self._findings += [
                {"section": section.number, "accepted": is_accepted, **finding.model_dump()}
                for finding in findings
            ]
        return await revise(reviewed.note) if reviewed.accepted else section

    async def _ask_critic(self, section: Section, step: Step, before: str) -> Answer[Any]:
        """The critic's findings; if all of the text before does not fit, it sees the end."""
        place = f"criticism of section {section.number}"
        context = self._settings.context
        for shown in dict.fromkeys((before, before[-_TAIL:])):
            prompt = _prompt(
                "critic",
                inst=self._instruction.instruction,
                text=shown,
                step=step.line,
                section=section.text,
            )
            tokens = estimate_tokens(prompt) + self._settings.max_tokens
            if context and tokens > context:
                why = f"about {tokens} tokens with the reply"
                continue
            try:
                return await self._writer.ask(
                    prompt, read_findings, place=place, text_id=self._instruction.id,
                    affinity=self._affinity, structured=structured_findings(),
                )  # fmt: skip
            except ContextOverflowError as error:
                why = str(error)
        raise WriteError("context_overflow", why, place)

    def record(self) -> dict[str, Any]:
        """The state and the findings, each where it was asked for."""
        kept: dict[str, Any] = {}
        if self._settings.story:
            kept["story"] = self._state.model_dump()
        if self._settings.critic:
            kept["findings"] = self._findings
        return kept


def _prompt(name: str, **texts: str) -> str:
    template = (files("agentwrite.story") / "prompts" / f"{name}.txt").read_text(encoding="utf-8")
    return fill(template, texts)
