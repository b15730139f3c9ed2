"""Write a text step by step: prompts, retries, summaries, and the length of each step.

Source: arXiv 2408.07055, section 3.1.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from agentwrite.errors import WriteError
from agentwrite.model import Answer, ChatModel
from agentwrite.settings import Settings
from agentwrite.writing.budget import Asked, ask_as_planned, ask_next, ask_with_bias
from agentwrite.writing.clean import Cleaned, clean
from agentwrite.writing.companion import Companion, OpenCompanion
from agentwrite.writing.context import Fold, TextSoFar, estimate_tokens
from agentwrite.writing.plan import Plan, Step
from agentwrite.writing.planner import Planner, all_at_once
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.state import Instruction, Section, Text
from longwriter_core.llm import Chat, ContextOverflowError, Rejected
from longwriter_core.text.diagnostics import repetition
from longwriter_core.text.length import count_words
from longwriter_core.text.thinking import without_thinking

_T = TypeVar("_T")

MAX_TEXT_WORDS = 1_000_000  # 50 chapters of about 20,000 words
_MAX_REPETITION = 0.5  # a section with a larger share of its words in repeated passages is a loop
_NO_NEXT = "(The text ends here.)"
_NEXT_CHARACTERS = 2_000  # characters of the following section shown to a rewrite
_OVERFLOW_FACTOR = 0.8  # maximum size of the next prompt, as a share of the one that was too long

# Called with each finished section of a text and the text's plan.
Progress = Callable[[Section, Plan], None]


@dataclass
class _Job:
    """The state of a text that is being written."""

    instruction: Instruction
    affinity: int
    progress: Progress
    planning: list[Answer[Plan]] = field(default_factory=list)
    summaries: list[Answer[str]] = field(default_factory=list)
    companion: Companion | None = None
    max_tokens: int | None = None  # limit for prompts, set once a prompt was too long


class Writer:
    """Writes texts with one model. Texts written concurrently share its call limit."""

    def __init__(
        self,
        chat: Chat,
        settings: Settings,
        *,
        prompts: Prompts | None = None,
        scope: str = "",
        seed: int | None = None,
        companions: OpenCompanion | None = None,
    ) -> None:
        self.settings, self._companions = settings, companions
        self._seed = seed
        self.prompts = prompts or Prompts.load(settings.prompts)
        slots = asyncio.Semaphore(settings.concurrency)

        def model(name: str | None) -> ChatModel:
            return ChatModel(
                chat,
                name or settings.model,
                concurrency=settings.concurrency,
                temperature=settings.temperature,
                max_tokens=settings.max_tokens,
                scope=scope,
                seed=seed,
                extra=settings.extra,
                slots=slots,
            )

        self._model = model(None)
        self._summarizer = model(settings.summary_model)
        self._planner = Planner(model(settings.plan_model), self.prompts)

    async def plan(self, instruction: Instruction) -> Plan:
        """Plan a text without writing it. Raises WriteError."""
        return await self._planner.plan(self._with_seed(instruction), 0, [])

    async def write(
        self,
        instruction: Instruction,
        progress: Progress | None = None,
        affinity: int = 0,
        *,
        plan: Plan | None = None,
        on_plan: Callable[[Plan], None] | None = None,
    ) -> Text:
        """Plan and write a text; `progress` receives each finished section. Raises WriteError.

        If `plan` is given, it is written as is. `on_plan` receives the plan.
        """
        if (instruction.required or 0) > MAX_TEXT_WORDS:
            raise WriteError("too_long", f"more than {MAX_TEXT_WORDS} words are asked for", "plan")
        instruction = self._with_seed(instruction)
        job = _Job(instruction, affinity, progress or (lambda _section, _plan: None))
        if plan is None:
            plan = await self._planner.plan(instruction, affinity, job.planning)
        if on_plan:
            on_plan(plan)
        if self._companions:
            job.companion = self._companions(instruction, affinity, self._model, self._summarizer)
        so_far = TextSoFar(plan)
        write = self._write_parallel if self.settings.parallel else self._write_serially
        sections = await write(job, so_far)
        companion = job.companion
        answers: list[Answer[Any] | Section] = [
            *job.planning,
            *job.summaries,
            *(companion.answers if companion else ()),
            *sections,
        ]
        return Text(
            instruction,
            so_far.text,
            plan,
            tuple(sections),
            so_far.folded,
            self.settings.parallel,
            self.prompts.name,
            self.prompts.sha256,
            sum(answer.asks for answer in job.planning),
            tuple(reason for answer in job.planning for reason in answer.rejected),
            sum(answer.prompt_tokens for answer in answers),
            sum(answer.completion_tokens for answer in answers),
            companion.record() if companion else {},
        )

    async def rewrite(
        self,
        instruction: Instruction,
        plan: Plan,
        sections: Sequence[str],
        number: int,
        note: str,
        *,
        bias: float = 1.0,
    ) -> Section:
        """Rewrite section `number` of `sections` according to `note`. Raises WriteError.

        `bias` is the ratio of written to requested words so far. With the paper's prompts the
        planned words are requested.
        """
        so_far = TextSoFar(plan, tuple(sections[: number - 1]))
        job = _Job(self._with_seed(instruction), 0, lambda _section, _plan: None)
        following = sections[number] if number < len(sections) else _NO_NEXT
        texts = {"section": sections[number - 1], "next": following, "note": note}
        step = plan.steps[number - 1]
        is_official = self.prompts.is_official
        asked = ask_as_planned(step) if is_official else ask_with_bias(step, step.words, bias)
        return await self._rewrite_step(job, so_far, asked, texts)

    async def _rewrite_step(
        self, job: _Job, so_far: TextSoFar, asked: Asked, texts: Mapping[str, str]
    ) -> Section:
        """Rewrite a step; `texts` holds the section, the note, and the text that follows."""
        texts = {**texts, "next": texts["next"][:_NEXT_CHARACTERS]}
        return await self._write_step(job, so_far, asked, "rewrite", texts)

    async def _finish(
        self, job: _Job, so_far: TextSoFar, asked: Asked, draft: Section, companion: Companion
    ) -> Section:
        """Let the companion read a section, and rewrite it if it finds something."""

        async def revise(note: str) -> Section:
            is_last = asked.step.number == len(so_far.plan.steps)
            following = _NO_NEXT if is_last else "(The next step is not written yet.)"
            texts = {"section": draft.text, "next": following, "note": note}
            revised = await self._rewrite_step(job, so_far, asked, texts)
            return revised.after(draft)

        return await companion.finish(draft, asked.step, so_far.shown(), revise)

    def _with_seed(self, instruction: Instruction) -> Instruction:
        """Return the instruction with the seed in its id, since ids are part of the call keys."""
        if self._seed is None:
            return instruction
        return replace(instruction, id=f"{instruction.id} seed {self._seed}".strip())

    async def _write_serially(self, job: _Job, so_far: TextSoFar) -> list[Section]:
        """Write one step after the other; each prompt shows the text before it.

        With the paper's prompts every step requests its planned words, as upstream does.
        """
        sections: list[Section] = []
        goal = job.instruction.required or so_far.plan.words
        for step in so_far.plan.steps:
            if self.prompts.is_official:
                asked = ask_as_planned(step)
            else:
                written = [(section.words, section.requested) for section in sections]
                asked = ask_next(so_far.plan, goal, written)
            section = await self._write_step(job, so_far, asked)
            if job.companion:
                section = await self._finish(job, so_far, asked, section, job.companion)
            so_far.add(section.text)
            sections.append(section)
            job.progress(section, so_far.plan)
        return sections

    async def _write_parallel(self, job: _Job, so_far: TextSoFar) -> list[Section]:
        """Write all steps concurrently from the plan alone, then clean them again in order."""
        written: dict[int, Section] = {}

        async def write(step: Step) -> None:
            section = await self._write_step(job, TextSoFar(so_far.plan), ask_as_planned(step))
            written[step.number] = section
            job.progress(section, so_far.plan)

        await all_at_once(so_far.plan.steps, write)
        sections = []
        for step in so_far.plan.steps:
            section = written[step.number].recleaned(so_far.text)
            if section.text:
                so_far.add(section.text)
            sections.append(section)
        return sections

    async def _write_step(self, job: _Job, so_far: TextSoFar, asked: Asked,
        name: str = "write", texts: Mapping[str, str] | None = None,
    ) -> Section:  # fmt: skip
        """Ask for a step until its text is usable; `texts` fills further prompt placeholders."""
        step = asked.step
        before = so_far.text

        def read(reply: str) -> Cleaned | Rejected:
            cleaned = clean(reply, before, step=step.number)
            if not cleaned.text:
                return Rejected("nothing_new", ", ".join(cleaned.counts))
            repeated = repetition(cleaned.text)
            if repeated > _MAX_REPETITION:
                return Rejected("loop", f"{repeated:.0%} of it is repeated")
            return cleaned

        place = f"section {step.number} of {len(so_far.plan.steps)}"
        while True:
            prompt = self.prompts.render(
                name,
                **(texts or {}),
                inst=job.instruction.instruction,
                plan=self.prompts.plan_of(so_far.plan, step.number),
                text=so_far.shown() + (job.companion.notes() if job.companion else ""),
                step=asked.line,
            )
            tokens = estimate_tokens(prompt)
            if self._fits(job, tokens):
                try:
                    answer = await self._ask(job, prompt, read, place)
                    break
                except ContextOverflowError as error:
                    job.max_tokens, why = int(tokens * _OVERFLOW_FACTOR), str(error)
            else:
                why = f"about {tokens} tokens"
            await self._fold(job, so_far, why, place)
        return Section(
            number=step.number,
            text=answer.value.text,
            words=count_words(answer.value.text),
            target=asked.target,
            requested=asked.requested,
            asks=answer.asks,
            rejected=answer.rejected,
            cleaned=answer.value.counts,
            model=answer.model,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            removed=answer.value.removed,
        )

    def _fits(self, job: _Job, tokens: int) -> bool:
        context = self.settings.context
        if context and tokens + self.settings.max_tokens > context:
            return False
        return job.max_tokens is None or tokens <= job.max_tokens

    async def _fold(self, job: _Job, so_far: TextSoFar, why: str, place: str) -> None:
        """Replace the oldest parts of the text shown with summaries. Raises WriteError."""
        folds = so_far.folds()
        if not folds:
            raise WriteError("context_overflow", why, place)
        for fold in folds:
            if await self._summarise(job, so_far, fold, why, place) != fold:
                return  # the other folds assume that all of this one was folded

    async def _summarise(
        self, job: _Job, so_far: TextSoFar, fold: Fold, why: str, place: str
    ) -> Fold:
        """Fold as much of `fold` as fits in a prompt; returns what was folded."""
        part: Fold | None = fold
        while part:
            prompt = self.prompts.render(
                "summarise", inst=job.instruction.instruction, text=so_far.content(part)
            )
            if self._fits(job, estimate_tokens(prompt)):
                try:
                    answer = await self._summarizer.ask(
                        prompt, _read_summary, place=f"summary before {place}",
                        text_id=job.instruction.id, affinity=job.affinity,
                    )  # fmt: skip
                except ContextOverflowError as error:
                    why = str(error)
                else:
                    job.summaries.append(answer)
                    so_far.replace(part, answer.value)
                    return part
            part = part.half
        raise WriteError("context_overflow", why, place)

    async def _ask(
        self, job: _Job, prompt: str, read: Callable[[str], _T | Rejected], place: str
    ) -> Answer[_T]:
        return await self._model.ask(
            prompt, read, place=place, text_id=job.instruction.id, affinity=job.affinity
        )


def _read_summary(reply: str) -> str | Rejected:
    return without_thinking(reply).strip() or Rejected("empty")
