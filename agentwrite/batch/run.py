"""Write texts for many instructions, with limited calls and memory. Runs can be resumed."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agentwrite.batch.instructions import InstructionFile, check_instructions
from agentwrite.batch.queue import Handler, OnSection, Pool, RunProgress, run_queue
from agentwrite.batch.ray import Cluster
from agentwrite.batch.run_dir import RunFolder
from agentwrite.settings import Settings
from agentwrite.story.companion import companions
from agentwrite.writing.plan import Plan
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.state import Instruction, Section, Text
from agentwrite.writing.writer import Writer
from longwriter_core.errors import InputError
from longwriter_core.jsonl import write_jsonl
from longwriter_core.llm import Store, run_async


@dataclass
class WritingProgress(RunProgress[Text]):
    """Counts of a run so far. Sections and words are those written by this run."""

    sections: int = 0
    words: int = 0
    without_length: int = 0  # texts without a required length
    folded: int = 0  # texts whose beginning was replaced with a summary in the last prompts
    written: float = 0.0  # texts, with unfinished ones counted by the written share of their plan
    bad_rows: int = 0  # rows of the input that are no instruction
    cleaned: Counter[str] = field(default_factory=Counter)  # rule -> removals
    rejected: Counter[str] = field(default_factory=Counter)  # reason -> retried replies

    def add(self, text: Text) -> None:
        """Add a finished text."""
        super().add(text)
        self.without_length += text.instruction.required is None
        self.folded += text.folded > 0
        self.cleaned += text.cleaned
        self.rejected += text.rejected

    def add_section(self, words: int, share: float) -> None:
        """Add a finished section with its share of the plan."""
        self.sections += 1
        self.words += words
        self.written += share


def run(
    path: str | Path,
    output: str | Path,
    settings: Settings,
    *,
    limit: int | None = None,
    default_length: int | None = None,
    strict: bool = False,
    cluster: Cluster | None = None,
    progress: Callable[[WritingProgress], None] = lambda _progress: None,
) -> WritingProgress:
    """Write a text for every instruction in `path` that has none in the run folder `output`.

    path            a JSONL, CSV or Parquet file with `instruction`, `prompt` or `messages`, and
                    optionally `id` and `length`
    output          the run folder; the texts are written to its texts.jsonl
    limit           read only this many instructions from the start of the file
    default_length  required words of instructions that name no length
    strict          refuse a file with a bad row; else bad rows are listed in bad_rows.jsonl
    cluster         a Ray cluster to spread the work over
    progress        called after every section and every text

    Raises InputError if the input, the folder, the cluster or the endpoint cannot be used.
    """
    file = check_instructions(Path(path), limit, default_length, strict=strict)
    wanted = file.hashes
    with RunFolder(Path(output), shared_settings(settings)) as folder:
        folder.check_finished(wanted)
        counts = WritingProgress(len(wanted), sum(id in folder.finished for id in wanted))
        counts.bad_rows = len(file.bad_rows)
        folder.note_size(len(wanted))
        _list_bad_rows(file, folder.path / "bad_rows.jsonl")
        left = (each for each in file if each.id not in folder.finished)
        run_async(_write_all(left, folder, settings, cluster, counts, lambda: progress(counts)))
        folder.compact_failures()
    return counts


def _list_bad_rows(file: InstructionFile, path: Path) -> None:
    if not file.bad_rows:
        path.unlink(missing_ok=True)
        return
    rows = file.bad_rows.items()
    write_jsonl(path, ({file.row_name: number, "problem": problem} for number, problem in rows))


@dataclass(frozen=True, repr=False)  # a repr would show the key
class Writing:
    """The workload of `run`: plan and write a text."""

    settings: Settings
    prompts: Prompts
    key: str

    @asynccontextmanager
    async def open(
        self, store: Store, concurrency: int
    ) -> AsyncIterator[tuple[Pool, Handler[Text]]]:
        """Open the chat pool; yields it and the function that writes a text."""
        async with self.settings.chat(store, self.key) as chat:
            settings = self.settings.model_copy(update={"concurrency": concurrency})
            writer = Writer(chat, settings, prompts=self.prompts, companions=companions(settings))

            async def write(instruction: Instruction, number: int, on_section: OnSection) -> Text:
                def progress(section: Section, plan: Plan) -> None:
                    on_section(section.words, 1 / len(plan.steps))

                return await writer.write(instruction, progress, number)

            yield chat, write


async def _write_all(
    instructions: Iterator[Instruction],
    folder: RunFolder,
    settings: Settings,
    cluster: Cluster | None,
    counts: WritingProgress,
    on_progress: Callable[[], None],
) -> None:
    writing = Writing(settings, Prompts.load(settings.prompts), settings.api_key())
    workload = cluster.spread(writing) if cluster else writing
    async with workload.open(folder.store, settings.concurrency) as (pool, write):
        await run_queue(
            instructions, folder, pool, write, counts, on_progress, settings.concurrency
        )
    if counts.stopped and not counts.sections and not counts.usage.calls:
        raise InputError(f"{settings.model} at {settings.where}: {counts.stopped}")


def shared_settings(settings: Settings) -> dict[str, object]:
    """Return the settings that all texts of a folder share; other settings need another folder."""
    prompts = Prompts.load(settings.prompts)
    names = ("plan_model", "summary_model", "extra", "story", "critic")
    optional = {name: getattr(settings, name) for name in names}
    return {
        **{name: value for name, value in optional.items() if value},
        "model": settings.model,
        "parallel": settings.parallel,
        "prompts": prompts.name,
        "prompts_sha256": prompts.sha256,
        "context": settings.context,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
    }
