"""One book of the studio, and the planning, writing or rewriting that is going on in it.

Every finished section is in the book's folder before the next one begins, and every finished call
is in the store. So a reload, a lost connection or a kill loses nothing, and what is resumed takes
finished sections from the store.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentwrite.book import (
    Book,
    PlanFile,
    book_lock,
    load_book,
    plan_yaml,
    read_plan_yaml,
    save_book,
)
from agentwrite.engine import CountingPool, Engine, TokenUse
from agentwrite.errors import WriteError
from agentwrite.export import markdown_of
from agentwrite.pace import Pace
from agentwrite.studio.shelf import Draft, Spent, kept_settings, load_draft
from agentwrite.writing.plan import Plan
from agentwrite.writing.state import Instruction, Section
from agentwrite.writing.writer import Writer
from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically

Doing = Literal["planning", "writing", "rewriting"]


@dataclass
class ShownSection:
    """A section as the page shows it. `revision` is the book's when it last changed."""

    number: int
    text: str
    words: int
    target: int
    revision: int = 0


class Work:
    """A book that is open. `changed` is set on every change, then replaced with a new event."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path, self.engine = path, engine
        self.book: Book | None = None  # once the text is finished
        self.draft = Draft(instruction="")
        self.plan: PlanFile | None = None
        self.sections: dict[int, ShownSection] = {}
        self.revision = self.plan_revision = 0
        self.changed = asyncio.Event()
        self.doing: Doing | None = None
        self.error = ""
        self.comes_from_store = False  # the last writing made no call
        self._task: asyncio.Task[None] | None = None
        self._pool: CountingPool | None = None
        self._use, self._pace = TokenUse(), Pace()
        self._load()
        self._notify(plan=True)

    @property
    def name(self) -> str:
        """The folder's name without its ending."""
        return self.path.stem

    @property
    def state(self) -> str:
        """What goes on; else new, planned, stopped or done."""
        if self.doing:
            return "stopping" if self._pool and self._pool.is_stopped else self.doing
        if self.book:
            return "stopped" if self.book.unfinished_rewrite else "done"
        return "stopped" if self.sections else "planned" if self.plan else "new"

    @property
    def spent(self) -> Spent:
        """What all calls for this book have cost, those in other runs of the server included."""
        return self._spent_before.plus(self._use.made)

    def as_dict(self) -> dict[str, Any]:
        """The book without its plan and its text."""
        words = sum(section.words for section in self.sections.values())
        goal = self.plan.plan.words if self.plan else self.draft.length
        is_writing = self.doing == "writing"
        return {
            "name": self.name,
            "title": self.draft.title,
            "instruction": self.draft.instruction,
            "state": self.state,
            "error": self.error,
            "words": words,
            "goal": goal,
            "sections": len(self.sections),
            "seconds_left": self._pace.seconds_left((goal or 0) - words) if is_writing else None,
            "rewrite_left": sorted(self.book.unfinished_rewrite) if self.book else [],
            "spent": self.spent.model_dump(),
            "comes_from_store": self.comes_from_store,
            "seed": self.draft.seed,
        }

    def steps(self) -> list[dict[str, Any]]:
        """The steps of the plan."""
        return [step.model_dump() for step in self.plan.steps] if self.plan else []

    def markdown(self) -> str:
        """The text as far as it is written. Raises InputError if there is none."""
        if not self.plan or not self.sections:
            raise InputError("nothing is written yet")
        texts = [self.sections[number].text for number in sorted(self.sections)]
        return markdown_of(texts, self.plan.plan, self.draft.title)

    def refresh(self) -> None:
        """Read the folder again if another program has changed it."""
        if not self.doing and self._files() != self._read_files:
            self._load()
            self._notify(plan=True)

    def save_plan(self, plan: PlanFile) -> None:
        """Replace the plan of a text that is not begun. Raises InputError."""
        if self.doing or self.sections:
            raise InputError(
                "sections are written by this plan already: a changed plan needs a copy of the text"
            )
        self.engine.check_plan(plan.plan)
        self._write_plan(plan.instruction, plan.plan)

    def start(self) -> None:
        """Plan or write the text, or resume what was stopped. Raises InputError."""
        if self.doing:
            return
        if self.book:
            if not self.book.unfinished_rewrite:
                raise InputError("this text is finished: its sections can be rewritten")
            self._begin("rewriting", self._rewrite)
        elif self.plan:
            self.engine.check_plan(self.plan.plan)
            self.draft.check_settings(self.engine.settings)
            self._begin("writing", self._write)
        else:
            self.engine.check_words(self.draft.length)
            self._begin("planning", self._plan)

    def rewrite(self, notes: Mapping[int, str]) -> None:
        """Rewrite the sections that have a note. Raises InputError."""
        if self.doing or not self.book:
            raise InputError("sections can be rewritten once the text is finished")
        if wrong := [number for number in notes if number not in self.sections]:
            raise InputError(f"there is no section {wrong[0]}: 1 to {len(self.sections)}")
        self.book.begin_rewrite(notes)
        self._begin("rewriting", self._rewrite)

    def stop(self) -> None:
        """End after the calls in flight, which are paid for; the second time, end at once."""
        if self._pool and self._pool.is_stopped and self._task:
            self._task.cancel()
        elif self._pool:
            self._pool.is_stopped = True
            self._notify()

    async def close(self) -> None:
        """End at once; finished sections are kept."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _begin(self, doing: Doing, work: Callable[[Writer], Awaitable[None]]) -> None:
        self.doing, self.error, self.comes_from_store = doing, "", False
        self._spent_before, self._use, self._pace = self.spent, TokenUse(), Pace()
        self._pool = self.engine.counting(self._use, is_asked_by_hand=True)
        self._task = asyncio.create_task(self._run(self._pool, work))
        self._notify()

    async def _run(self, pool: CountingPool, work: Callable[[Writer], Awaitable[None]]) -> None:
        writer = self.engine.writer(pool, self.draft.seed)
        try:
            with book_lock(self.path):
                try:
                    await work(writer)
                finally:
                    self._save_counts()
            self.comes_from_store = self.doing == "writing" and not self._use.made.calls
        except WriteError as error:
            self.error = "" if pool.is_stopped else str(error)
        except (InputError, OSError) as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"an error in this program: {error!r}"
            raise
        finally:
            self.doing = self._pool = self._task = None
            self._read_files = self._files()
            if self.error:
                self.engine.log(f"{self.name}: {self.error}")
            self._notify()

    async def _plan(self, writer: Writer) -> None:
        plan = await writer.plan(Instruction("", self.draft.instruction, self.draft.length))
        self._write_plan(self.draft.instruction, plan)

    async def _write(self, writer: Writer) -> None:
        assert self.plan
        self.draft.settings = kept_settings(self.engine.settings)
        calls = 0

        def on_section(section: Section, _plan: Plan) -> None:
            nonlocal calls
            made = self._use.made.calls
            self._pace.add(section.words, is_stored=made == calls)
            calls = made
            self.draft.add(self.path, section)
            self._save_counts()
            self._show(section.number, section.text, section.words, section.target)

        plan = self.plan.plan
        instruction = Instruction("", self.plan.instruction, plan.words)
        self._pace.start()
        text = await writer.write(instruction, on_section, plan=plan)
        output = self.path.with_suffix(".md")
        # one file for each section: too slow for the server's event loop
        self.book = await asyncio.to_thread(
            save_book, output, text, self.engine.settings, self.draft.title
        )
        await asyncio.to_thread(self.book.save_text)
        self._save_counts()
        (self.path / "draft.json").unlink(missing_ok=True)
        for section in text.sections:
            self._show(section.number, section.text, section.words, section.target)
        self.engine.log(f"{self.name}: {text.words:,} words of {plan.words:,}")

    async def _rewrite(self, writer: Writer) -> None:
        assert self.book
        book, plan = self.book, self.book.plan.plan
        instruction = Instruction("", book.plan.instruction, plan.words)
        for number, note in book.unfinished_rewrite.items():
            section = await writer.rewrite(
                instruction, plan, book.sections, number, note, bias=book.bias
            )
            book.replace(number, section)
            await asyncio.to_thread(book.save_text)
            self._show(number, section.text, section.words, self.sections[number].target)

    def _show(self, number: int, text: str, words: int, target: int) -> None:
        shown = self.sections.get(number)
        if not shown or (shown.text, shown.words) != (text, words):
            section = ShownSection(number, text, words, target, self.revision + 1)
            self.sections[number] = section
        self._notify()

    def _notify(self, plan: bool = False) -> None:
        self.revision += 1
        if plan:
            self.plan_revision = self.revision
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _write_plan(self, instruction: str, plan: Plan) -> None:
        target = self.path / "plan.yaml"
        write_atomically(target, plan_yaml(instruction, plan).encode("utf-8", "backslashreplace"))
        self.plan = read_plan_yaml(target)
        self._notify(plan=True)

    def _save_counts(self) -> None:
        """Keep the counts of the sections and of the money spent."""
        if self.book:
            self.book.update(spent=self.spent.model_dump(), seed=self.draft.seed)
        else:
            self.draft.spent = self.spent
            self.draft.save(self.path)

    def _load(self) -> None:
        """Read the folder. Raises InputError."""
        path, self._read_files = self.path, self._files()
        self.book = load_book(path) if (path / "book.json").exists() else None
        self.sections = {}
        revision = self.revision + 1
        if self.book:
            record = self.book.record
            # a kill after the last section may leave the draft, which knows what was spent
            known = record if "spent" in record or not self._has("draft.json") else None
            before = (
                Spent.model_validate(known.get("spent", {})) if known else load_draft(path).spent
            )
            self.draft = Draft(
                instruction=self.book.plan.instruction, title=record.get("title"),
                seed=record.get("seed"), spent=before,
            )  # fmt: skip
            self.plan = self.book.plan
            for count, text in zip(record["sections"], self.book.sections, strict=True):
                number, words, target = count["number"], count["words"], count["target"]
                self.sections[number] = ShownSection(number, text, words, target, revision)
        else:
            self.draft = load_draft(path)
            self.plan = read_plan_yaml(path / "plan.yaml") if self._has("plan.yaml") else None
            for number, text in self.draft.texts(path).items():
                counts = self.draft.sections[number]
                shown = ShownSection(number, text, counts.words, counts.target, revision)
                self.sections[number] = shown
        self._spent_before, self._use = self.draft.spent, TokenUse()

    def _files(self) -> list[int]:
        """Times that change when another program writes to the folder."""
        names = ("book.json", "draft.json", "plan.yaml")
        return [(self.path / name).stat().st_mtime_ns for name in names if self._has(name)]

    def _has(self, name: str) -> bool:
        return (self.path / name).exists()
