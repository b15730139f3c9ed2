"""Many texts: bounded in calls and memory, resumable, every failure with its reason."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agentwrite.batch.instructions import check_instructions, read_instructions
from agentwrite.batch.queue import Calls, Make, Note, Work, no_note, run_queue
from agentwrite.batch.ray import Cluster
from agentwrite.batch.run_dir import RunFolder
from agentwrite.settings import Settings
from agentwrite.writing.plan import ONE_PLAN, Plan
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.state import Instruction, Section, Text
from agentwrite.writing.writer import Writer
from longwriter_core.errors import InputError
from longwriter_core.llm import Store, run_async


@dataclass
class Tally(Work[Text]):
    """What a run has done so far. Words are those of this run's sections."""

    sections: int = 0
    words: int = 0
    planned: int = 0  # texts whose length the plan decided, since nothing named one
    folded: int = 0  # texts whose beginning the last steps saw only as a summary
    written: float = 0.0  # texts, counting those that are begun by their share of the plan
    cleaned: Counter[str] = field(default_factory=Counter)  # by rule
    rejected: Counter[str] = field(default_factory=Counter)  # replies asked for again, by reason

    def add(self, text: Text) -> None:
        """Count a finished text."""
        super().add(text)
        self.planned += text.instruction.required is None
        self.folded += text.folded > 0
        self.cleaned += text.cleaned
        self.rejected += text.rejected


def run(
    path: Path,
    output: Path,
    settings: Settings,
    *,
    limit: int | None = None,
    default_length: int | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[Tally], None] = lambda _tally: None,
) -> Tally:
    """Write a text for every instruction in `path` that has none in `output` yet.

    A `cluster` spreads the work over its machines. `progress` is called after every section and
    every text. Raises InputError for input, folder, cluster or endpoint that cannot be used.
    """
    wanted = check_instructions(path, limit)
    with RunFolder(output, _in_common(settings)) as folder:
        folder.check_finished(wanted)
        tally = Tally(len(wanted), sum(id in folder.finished for id in wanted))
        todo = (
            instruction
            for instruction in read_instructions(path, limit, default_length)
            if instruction.id not in folder.finished
        )
        run_async(_write_all(todo, folder, settings, cluster, tally, progress))
        folder.compact_failures()
    return tally


@dataclass(frozen=True, repr=False)  # a repr would show the key
class Writing:
    """All that writing takes along to a worker."""

    settings: Settings
    prompts: Prompts
    key: str

    @asynccontextmanager
    async def open(
        self, store: Store, concurrency: int, note: Note = no_note
    ) -> AsyncIterator[tuple[Calls, Make[Text]]]:
        """The chat, and the function that writes a text; `note` gets each section."""

        def on_section(section: Section, plan: Plan) -> None:
            note(section.words, 1 / len(plan.steps))

        async with self.settings.chat(store, self.key) as chat:
            # no scope: the folder is the run's own, and a server may come back at another address
            settings = self.settings.model_copy(update={"concurrency": concurrency})
            writer = Writer(chat, settings, prompts=self.prompts)
            yield chat, lambda instruction, turn: writer.write(instruction, on_section, turn)


async def _write_all(
    todo: Iterator[Instruction],
    folder: RunFolder,
    settings: Settings,
    cluster: Cluster | None,
    tally: Tally,
    progress: Callable[[Tally], None],
) -> None:
    writing = Writing(settings, Prompts.load(settings.prompts), settings.api_key())

    def note(words: int, share: float) -> None:
        tally.sections += 1
        tally.written += share
        tally.words += words
        progress(tally)

    opening = cluster.spread(writing) if cluster else writing
    async with opening.open(folder.store, settings.concurrency, note) as (calls, make):
        await run_queue(
            todo, folder, calls, make, tally, lambda: progress(tally), settings.concurrency
        )
    if tally.stopped and not tally.sections:
        raise InputError(f"{settings.model} at {settings.where}: {tally.stopped}")


def _in_common(settings: Settings) -> dict[str, object]:
    """What all texts of a folder share; another model, say, belongs in another folder."""
    prompts = Prompts.load(settings.prompts)
    return {
        "model": settings.model,
        "parallel": settings.parallel,
        "prompts": prompts.name,
        "prompts_sha256": prompts.sha256,
        "context": settings.context,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
    }


@dataclass
class Estimate:
    """What writing would call, roughly: sections of 500 words, English tokens, no reply in vain."""

    texts: int = 0
    without_length: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, instruction: Instruction, *, parallel: bool) -> None:
        """Count one text; one without a length counts as 5,000 words."""
        words = instruction.required or 5_000
        steps = max(1, round(words / 500))
        chapters = round(words / 5_000) if words > ONE_PLAN else 0
        plan = 50 * steps  # tokens: a line for each step
        asked = len(instruction.instruction) // 3
        text = words * 4 // 3
        self.texts += 1
        self.without_length += instruction.required is None
        self.calls += 1 + chapters + steps
        self.prompt_tokens += (1 + chapters + steps) * (asked + 300) + steps * plan
        self.prompt_tokens += 0 if parallel else text * (steps - 1) // 2
        self.completion_tokens += plan + text


def estimate(
    path: Path,
    output: Path,
    settings: Settings,
    *,
    limit: int | None = None,
    default_length: int | None = None,
) -> Estimate:
    """What `run` would call; no call is made and nothing is written. Raises InputError."""
    wanted = check_instructions(path, limit)
    folder = RunFolder(output, _in_common(settings)).look()
    folder.check_finished(wanted)
    found = Estimate()
    for instruction in read_instructions(path, limit, default_length):
        if instruction.id not in folder.finished:
            found.add(instruction, parallel=settings.parallel)
    return found
