"""Whether a command may write into a book's folder: no text replaces another one in silence."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentwrite.book import PlanFile, book_path, load_book, read_record
from agentwrite.settings import Settings
from longwriter_core.errors import InputError

_TECHNICAL = {"base_urls", "concurrency", "timeout", "max_cost", "batch"}  # change no text


@dataclass(frozen=True)
class Origin:
    """Where a text comes from: its instruction, or a plan's file; and what else decides it."""

    instruction: str
    required: int | None
    settings: Settings
    seed: int | None
    plan_file: Path | None = None
    plan: PlanFile | None = None

    def fields(self, output: Path) -> dict[str, Any]:
        """What book.json keeps of it, and the files of the text in other formats."""
        kept = read_record(book_path(output)) or {}
        files = [*kept.get("copies", []), kept.get("output", output.name)]
        return {
            "seed": self.seed,
            "plan_file": self._plan_name(book_path(output)),
            "copies": sorted(set(files) - {output.name}),
        }

    def is_written(self, output: Path) -> bool:
        """Whether the folder beside `output` holds this very text, with a file of another name.

        Raises InputError if writing this text would lose another one.
        """
        folder = book_path(output)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file, and the book's folder goes there: move it")
        kept = read_record(folder)
        if kept is None:
            return False
        is_named = output.name in (kept.get("output"), *kept.get("copies", []))
        if output.name != kept.get("output") and self._is_same_text(kept, folder):
            return not is_named or bool(kept.get("rewritten"))
        advice = "choose another -o, or remove the folder"
        if not is_named or not self._is_same_origin(kept, folder):
            raise InputError(f"{folder} holds another text, {kept.get('output')}: {advice}")
        if kept.get("rewritten"):
            raise InputError(f"{folder} has rewritten sections, which would be lost: {advice}")
        return False

    def _plan_name(self, folder: Path) -> str | None:
        return os.path.relpath(self.plan_file, folder.parent) if self.plan_file else None

    def _is_same_origin(self, kept: dict[str, Any], folder: Path) -> bool:
        if self.plan_file:
            own = (folder / "plan.yaml").resolve()
            if self.plan_file.resolve() == own or "plan_file" not in kept:
                return True
            return bool(kept["plan_file"] == self._plan_name(folder))
        same = bool(kept.get("instruction") == self.instruction)
        return same and kept.get("plan_file") is None

    def _is_same_text(self, kept: dict[str, Any], folder: Path) -> bool:
        settings = self.settings.model_dump(mode="json", exclude=_TECHNICAL)
        known = {
            name: value
            for name, value in dict(kept.get("settings") or {}).items()
            if name in settings
        }
        given = (self.instruction, self.required, self.seed)
        if given != (kept.get("instruction"), kept.get("required"), kept.get("seed")):
            return False
        if settings != known:
            return False
        if self.plan:
            return self.plan.plan == load_book(folder).plan.plan
        return kept.get("plan_file") is None
