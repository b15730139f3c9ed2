"""What a user keeps of a text and may change: a plan in YAML, and the folder beside the text.

`agentwrite write -o name.md` writes the text and name.book/ with

    plan.yaml        the plan, which `agentwrite write --plan` takes
    sections/        the text of each section: 001.md, 002.md, …
    book.json        the instruction, the model, the sections' counts, the tokens spent
    removed.jsonl    what cleaning removed, with its section and rule
    replaced.jsonl   sections that `agentwrite rewrite` replaced
    story.json       people, places, facts and open threads (with --story)
    findings.jsonl   what the critic found, and whether its quote was in the text (with --critic)
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from agentwrite.export import markdown_of, save_text
from agentwrite.settings import Settings
from agentwrite.writing.budget import measured_bias
from agentwrite.writing.plan import MAX_STEP_WORDS, Plan, Step
from agentwrite.writing.state import Section, Text
from longwriter_core.errors import InputError
from longwriter_core.files import locked, write_atomically
from longwriter_core.jsonl import append_jsonl, scan_jsonl, write_jsonl
from longwriter_core.text.length import count_words

_HEADER = """\
# The plan of one text. Edit it, then run
#   agentwrite write --plan THIS_FILE --model MODEL -o NAME.md
#
# You may change every main point and every word count (Chinese: characters), and add, remove or
# reorder steps: they are written in the order in which they stand here. `chapter` is optional and
# begins a chapter. The text will be as long as the word counts add up to. If you change the
# instruction, the model sees the new one with this plan.
"""

_ENDINGS = (".md", ".markdown", ".txt", ".html", ".htm", ".epub", ".docx")  # left out in NAME.book

_REPAIR = (
    "Sections before this one were rewritten. Change only what contradicts them or repeats them, "
    "and give everything else back word for word. Their author was told: {note}"
)


class EditableStep(BaseModel):
    """A step in plan.yaml."""

    model_config = ConfigDict(extra="forbid")

    main_point: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    words: int = Field(ge=1, le=MAX_STEP_WORDS["Paragraph"], strict=True)
    chapter: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None


class PlanFile(BaseModel):
    """plan.yaml."""

    model_config = ConfigDict(extra="forbid")

    instruction: str = Field(min_length=1)
    steps: list[EditableStep] = Field(min_length=1)

    @property
    def plan(self) -> Plan:
        """The plan that its steps are."""
        steps = tuple(
            Step(n, " ".join(step.main_point.split()), step.words)
            for n, step in enumerate(self.steps, 1)
        )
        starts = [n for n, step in enumerate(self.steps, 1) if step.chapter]
        ends = [*starts[1:], len(steps) + 1][: len(starts)]
        chapters = tuple(
            (
                Step(
                    place,
                    " ".join((self.steps[start - 1].chapter or "").split()),
                    sum(step.words for step in steps[start - 1 : end - 1]),
                    "Chapter",
                ),
                start,
            )
            for place, (start, end) in enumerate(zip(starts, ends, strict=True), 1)
        )
        return Plan(steps, chapters=chapters)


def plan_yaml(instruction: str, plan: Plan) -> str:
    """The text of plan.yaml."""
    import yaml

    chapters = {first: chapter.point for chapter, first in plan.chapters}
    steps = [
        {
            **({"chapter": chapters[step.number]} if step.number in chapters else {}),
            "main_point": step.point,
            "words": step.words,
        }
        for step in plan.steps
    ]
    body = yaml.safe_dump(
        {"instruction": instruction, "steps": steps},
        allow_unicode=True, sort_keys=False, width=100,
    )  # fmt: skip
    return f"{_HEADER}\n{body}"


def read_plan_yaml(path: Path) -> PlanFile:
    """The plan in a file that `agentwrite plan` wrote and a person may have edited.

    Raises InputError that lists every problem.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.safe_load(text)
        twice = _repeated_key(yaml.compose(text, Loader=yaml.SafeLoader))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if twice:
        raise InputError(f"{path}: {twice}")
    if not isinstance(data, dict):
        raise InputError(f"{path}: the file must be as agentwrite plan writes it")
    try:
        return PlanFile.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(f"{_place(fault['loc'])}: {fault['msg']}" for fault in error.errors())
        raise InputError(f"{path}: {problems}") from error


def _repeated_key(root: Any) -> str:
    """The first key that a mapping of a YAML tree has twice, with its line; YAML keeps the last."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(getattr(node, "value", None), list):
            continue
        seen.add(id(node))
        keys: set[str] = set()
        for child in node.value:
            if not isinstance(child, tuple):
                waiting.append(child)
                continue
            key, value = child
            if str(key.value) in keys:
                return f"line {key.start_mark.line + 1}: {key.value} is given twice"
            keys.add(str(key.value))
            waiting.append(value)
    return ""


def _place(location: tuple[str | int, ...]) -> str:
    names = [f"step {part + 1}" if isinstance(part, int) else part for part in location]
    return ", ".join(name for name in names if name != "steps" or len(names) == 1) or "the file"


@dataclass
class Book:
    """A written text with all that a rewrite needs."""

    path: Path
    output: str  # name of the file with the whole text, beside the folder
    plan: PlanFile
    settings: Mapping[str, Any]
    sections: list[str]
    record: dict[str, Any]

    @property
    def text(self) -> str:
        """The whole text in Markdown."""
        return markdown_of(self.sections, self.plan.plan, self.record.get("title"))

    @property
    def is_rewritten(self) -> bool:
        """Whether sections were replaced since the text was written."""
        return bool(self.record.get("rewritten"))

    def save_text(self) -> Path:
        """Write the whole text beside the folder, in all its formats; returns where."""
        path = self.path.parent / self.output
        for name in (self.output, *self.record.get("copies", [])):
            save_text(path.with_name(Path(name).name), self.text, self.record.get("title"))
        return path

    def begin_rewrite(self, notes: Mapping[int, str]) -> dict[int, str]:
        """Record the notes of a rewrite; returns those whose sections are still to be rewritten.

        The rewrite that was interrupted, if it had the same notes, is resumed: its finished
        sections are not rewritten, and paid for, again.
        """
        asked = {str(number): note for number, note in notes.items()}
        unfinished = self.record.get("rewrite") or {}
        if unfinished.get("notes") != asked:
            for number in self.unfinished_rewrite:  # a kill may have left a text there
                _write_section(self.path, number, self.sections[number - 1])
            # a rewrite that is resumed asks exactly what it would have asked, which is in the store
            before = {str(number): self.sections[number - 1] for number in notes}
            rewrite = {"notes": asked, "left": sorted(notes), "before": before, "bias": self.bias}
            self.update(rewrite=rewrite)
        return self.unfinished_rewrite

    @property
    def bias(self) -> float:
        """The ratio of written to requested words, as it was when the current rewrite began."""
        begun = (self.record.get("rewrite") or {}) if self.unfinished_rewrite else {}
        counts = [(section["words"], section["requested"]) for section in self.record["sections"]]
        return float(begun.get("bias") or measured_bias(counts))

    @property
    def unfinished_rewrite(self) -> dict[int, str]:
        """The sections that a rewrite has still to rewrite, with their notes."""
        rewrite = self.record.get("rewrite") or {"notes": {}, "left": []}
        return {number: rewrite["notes"][str(number)] for number in rewrite["left"]}

    def update(self, **fields: Any) -> None:
        """Set fields of book.json."""
        self.record |= fields
        _write_json(self.path / "book.json", self.record)

    def replace(self, number: int, section: Section) -> None:
        """Put a rewritten section in its place; the old one goes to replaced.jsonl."""
        replaced = [{"section": number, "text": self.sections[number - 1]}]
        _append_once(self.path / "replaced.jsonl", replaced)
        self.sections[number - 1] = section.text
        _write_section(self.path, number, section.text)
        counts = self.record["sections"][number - 1]
        counts |= {"words": section.words, "requested": section.requested}
        self.record["words"] = sum(map(count_words, self.sections))
        self.record["prompt_tokens"] += section.prompt_tokens
        self.record["completion_tokens"] += section.completion_tokens
        self.record["rewritten"] = sorted({*self.record.get("rewritten", []), number})
        removed = [
            {"section": number, "rule": rule, "removed": piece} for rule, piece in section.removed
        ]
        _append_once(self.path / "removed.jsonl", removed)
        if rewrite := self.record.get("rewrite"):
            rewrite["left"] = [other for other in rewrite["left"] if other != number]
            if not rewrite["left"]:
                del self.record["rewrite"]
        _write_json(self.path / "book.json", self.record)


def rewrite_notes(
    sections: Iterable[int], count: int, note: str, *, repair: bool = False
) -> dict[int, str]:
    """The note for each section to rewrite; with `repair`, also for all sections that follow."""
    wanted = sorted(set(sections))
    notes = dict.fromkeys(wanted, note.strip())
    if repair:
        following = range(wanted[0] + 1, count + 1)
        repair_note = _REPAIR.format(note=note.strip())
        notes |= {n: repair_note for n in following if n not in notes}
    return notes


@contextmanager
def book_lock(path: Path) -> Iterator[None]:
    """Hold a book's folder against other processes. Raises InputError if one holds it."""
    try:
        with locked(path / ".lock"):
            yield
    except BlockingIOError as error:
        raise InputError(f"{path} is being changed by another process: wait for it") from error


def book_path(output: Path) -> Path:
    """The folder beside a text: name.md has name.book, and name.1 has name.1.book."""
    name = output.stem if output.suffix.lower() in _ENDINGS else output.name
    return output.with_name(f"{name}.book")


def save_book(
    output: Path,
    text: Text,
    settings: Settings,
    title: str | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Book:
    """Write the folder beside `output`; returns the book. Raises OSError.

    `origin` holds further fields of book.json.
    """
    path = book_path(output)
    path.mkdir(exist_ok=True)
    (path / "sections").mkdir(exist_ok=True)
    instruction = text.instruction.instruction
    write_atomically(path / "plan.yaml", plan_yaml(instruction, text.plan).encode())
    for old in (path / "sections").glob("*.md"):
        if old.stem.isdecimal() and int(old.stem) > len(text.sections):
            old.unlink()
    for section in text.sections:
        _write_section(path, section.number, section.text)
    removed = [
        {"section": section.number, "rule": rule, "removed": piece}
        for section in text.sections
        for rule, piece in section.removed
    ]
    write_jsonl(path / "removed.jsonl", removed)
    record = text.record()
    for name in ("text", "plan", "chapters", "id"):
        del record[name]
    for name in ("story.json", "findings.jsonl"):  # of a text that had them
        (path / name).unlink(missing_ok=True)
    if "story" in record:
        _write_json(path / "story.json", record.pop("story"))
    if "findings" in record:
        write_jsonl(path / "findings.jsonl", record.pop("findings"))
    record |= {
        "output": output.name,
        "title": title,
        "settings": settings.model_dump(mode="json", exclude={"base_urls", "concurrency"}),
        "base_urls": settings.public_urls,
        **(origin or {}),
    }
    _write_json(path / "book.json", record)
    return load_book(path)


def read_record(path: Path) -> dict[str, Any] | None:
    """The book.json in a folder, or None without one. Raises InputError."""
    try:
        record = json.loads((path / "book.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}/book.json: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"cannot read {path}/book.json: it is not an object")
    return record


def book_folder(path: Path) -> Path:
    """The folder that `path` names: itself, or the one beside a text."""
    return path if path.suffix == ".book" else book_path(path)


def load_book(path: Path) -> Book:
    """The book in a folder that `agentwrite write -o` made. Raises InputError."""
    path = book_folder(path)
    try:
        record = json.loads((path / "book.json").read_text(encoding="utf-8"))
        count = len(record["sections"])
        sections = [
            section_path(path, n).read_text(encoding="utf-8").strip() for n in range(1, count + 1)
        ]
        rewrite = record.get("rewrite") or {}
        for number in rewrite.get("left", []):  # a kill may have left a text that is not counted
            sections[number - 1] = rewrite.get("before", {}).get(str(number), sections[number - 1])
        output, settings = str(record["output"]), dict(record["settings"])
    except FileNotFoundError as error:
        raise InputError(
            f"{error.filename} is missing: name the folder NAME.book that `agentwrite write -o "
            "NAME.md` made"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    plan = read_plan_yaml(path / "plan.yaml")
    if len(plan.steps) != count:
        raise InputError(
            f"{path}/plan.yaml has {len(plan.steps)} steps and the text has {count} sections: to "
            "write a changed plan, use agentwrite write --plan"
        )
    return Book(path, Path(output).name, plan, settings, sections, record)


def section_path(path: Path, number: int) -> Path:
    """The file of a section."""
    return path / "sections" / f"{number:03}.md"


def _write_section(path: Path, number: int, text: str) -> None:
    data = f"{text}\n".encode("utf-8", "backslashreplace")
    write_atomically(section_path(path, number), data)


def _append_once(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append rows, unless the file ends with them since a kill interrupted what followed."""
    if path.exists():
        last = [line.row for line in scan_jsonl(path)][-len(rows) :]
        if last == rows:
            return
    for row in rows:
        append_jsonl(path, row)


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, ensure_ascii=False, indent=1, default=str)
    write_atomically(path, f"{text}\n".encode("utf-8", "backslashreplace"))
