"""The studio's folder of books: NAME.book folders, finished ones and drafts.

A finished book is what `agentwrite write -o NAME.md` makes. A draft is a folder without book.json:

    draft.json     the instruction, the settings, the finished sections' counts, the money spent
    plan.yaml      the plan, once there is one
    sections/      the finished sections: 001.md, 002.md, …
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from agentwrite.book import section_path
from agentwrite.settings import Settings
from agentwrite.writing.state import Section
from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_core.llm import Usage

_NAME_CHARACTERS = 48
# Settings that change neither what is asked nor what is stored.
_FREE_SETTINGS = {"base_urls", "concurrency", "timeout", "max_cost", "batch", "plan_model"}


class Spent(BaseModel):
    """The calls that were made for a book, and paid for."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    def plus(self, usage: Usage) -> "Spent":
        """The sum."""
        return Spent(
            calls=self.calls + usage.calls,
            prompt_tokens=self.prompt_tokens + usage.prompt_tokens,
            completion_tokens=self.completion_tokens + usage.completion_tokens,
            usd=self.usd + usage.usd,
        )


class DraftSection(BaseModel):
    """The counts of a finished section of a draft."""

    words: int
    target: int


class Draft(BaseModel):
    """draft.json: a text that is planned or written, and not finished."""

    instruction: str
    title: str | None = None
    length: int | None = None  # required words; None lets the plan decide
    seed: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)  # that its sections were written with
    sections: dict[int, DraftSection] = Field(default_factory=dict)
    spent: Spent = Field(default_factory=Spent)

    def save(self, path: Path) -> None:
        """Write it to the book's folder. Raises OSError."""
        text = self.model_dump_json(indent=1)
        write_atomically(path / "draft.json", f"{text}\n".encode("utf-8", "backslashreplace"))

    def add(self, path: Path, section: Section) -> None:
        """Keep a finished section. Raises OSError."""
        data = f"{section.text}\n".encode("utf-8", "backslashreplace")
        write_atomically(section_path(path, section.number), data)
        self.sections[section.number] = DraftSection(words=section.words, target=section.target)

    def texts(self, path: Path) -> dict[int, str]:
        """The finished sections by their number. Raises OSError."""
        return {
            number: section_path(path, number).read_text(encoding="utf-8").strip()
            for number in sorted(self.sections)
        }

    def check_settings(self, settings: Settings) -> None:
        """Raise InputError if sections were written with other settings: they would be paid for
        a second time.
        """
        now = kept_settings(settings)
        # settings that a later release adds are not in the drafts of earlier ones
        differ = [name for name in now if self.settings.get(name, now[name]) != now[name]]
        if self.sections and differ:
            was = ", ".join(f"{name} {self.settings.get(name)}" for name in differ)
            raise InputError(
                f"this text was begun with {was}: start the server with the same settings to "
                "resume it, or write a copy of it"
            )


def kept_settings(settings: Settings) -> dict[str, Any]:
    """The settings that decide what is asked, as draft.json keeps them."""
    return settings.model_dump(mode="json", exclude=_FREE_SETTINGS)


def load_draft(path: Path) -> Draft:
    """The draft in a book's folder. Raises InputError."""
    try:
        return Draft.model_validate_json((path / "draft.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"cannot read {path.name}/draft.json: {_one_line(error)}") from error


class Shelf:
    """The books in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """The folder of a book. Raises LookupError."""
        # looked up among the folders that exist, so that no name can lead out of this one
        for path in self._folders():
            if path.stem == name:
                return path
        raise LookupError(f"there is no book {name!r}")

    def create(self, name: str) -> Path:
        """A new folder, named after a title or an instruction. Raises OSError."""
        words = re.findall(r"\w+", name)
        stem = "-".join(words).lower()[:_NAME_CHARACTERS].strip("-") or "book"
        number = 1
        while True:
            path = self.folder / f"{stem}{f'-{number}' if number > 1 else ''}.book"
            number += 1
            if path.with_suffix(".md").exists():
                continue  # a finished book is written to this file
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            return path

    def summaries(self) -> list[dict[str, Any]]:
        """Name, title, words and state of each book, the newest first."""
        books = [(path.stat().st_mtime, path) for path in self._folders()]
        return [_summary(path) for _, path in sorted(books, reverse=True)]

    def _folders(self) -> Iterator[Path]:
        for path in self.folder.glob("*.book"):
            if any((path / name).exists() for name in ("book.json", "draft.json")):
                yield path


def _summary(path: Path) -> dict[str, Any]:
    try:
        if (path / "book.json").exists():
            record = json.loads((path / "book.json").read_bytes())
            title = record.get("title") or record["instruction"]
            words, goal, state = record["words"], record.get("required"), "done"
        else:
            draft = load_draft(path)
            words = sum(section.words for section in draft.sections.values())
            title, goal = draft.title or draft.instruction, draft.length
            has_plan = (path / "plan.yaml").exists()
            state = "stopped" if draft.sections else "planned" if has_plan else "new"
    except (InputError, OSError, ValueError, KeyError, TypeError, AttributeError):
        title, words, goal, state = path.stem, 0, None, "unreadable"
    return {
        "name": path.stem, "title": _one_line(title)[:120], "words": words, "goal": goal,
        "state": state,
    }  # fmt: skip


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
