"""What `select` has chosen, what it has turned away, and the two files that say so."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from agentwrite.errors import WriteError
from agentwrite.model import Answer
from agentwrite.selecting.candidates import Candidate
from agentwrite.selecting.rules import TurnedAway
from agentwrite.selecting.screening import Decision
from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.jsonl import jsonl_line
from longwriter_core.llm import ContextOverflowError, Usage
from longwriter_core.text.language import Language
from longwriter_core.text.required_length import required_length

SHOWN = 200  # characters of an instruction in the log of what was turned away


@dataclass
class Selection:
    """What was read, chosen and turned away so far. `usage` is of this run's calls alone."""

    quota: Mapping[str, int]
    total: int | None = None  # rows, where the source says it
    read: int = 0
    asked: int = 0  # instructions that a model decided on
    chosen: Counter[str] = field(default_factory=Counter)  # by language
    turned_away: Counter[str] = field(default_factory=Counter)  # by rule
    failed: Counter[str] = field(default_factory=Counter)  # by reason: no decision to be had
    rejected: Counter[str] = field(default_factory=Counter)  # replies asked for again, by reason
    usage: Usage = field(default_factory=Usage)
    stopped: str = ""  # why the rest was not asked, as with a wrong key

    def has_enough(self, language: str | None) -> bool:
        """Whether the quota of a language is full."""
        if language is None or language not in self.quota:
            return False
        return self.chosen[language] >= self.quota[language]

    @property
    def is_full(self) -> bool:
        """Whether every quota is full. Without quotas, never."""
        return bool(self.quota) and all(map(self.has_enough, self.quota))

    @property
    def missing(self) -> dict[str, int]:
        """Language -> instructions that its quota still lacks."""
        return {
            language: number - self.chosen[language]
            for language, number in self.quota.items()
            if not self.has_enough(language)
        }


@dataclass(frozen=True)
class Row:
    """A row of the source, and the rule that turns it away, if one does."""

    number: int  # from 1
    candidate: Candidate | None
    language: Language | None
    turned_away: TurnedAway | None


def rejects_path(output: Path) -> Path:
    """Where the log of what was not chosen lies: instructions.rejected.jsonl."""
    return output.with_name(f"{output.stem}.rejected.jsonl")


@dataclass
class Log:
    """The two files, and the counts of what is in them."""

    selection: Selection
    chosen: IO[bytes]
    others: IO[bytes]
    source: str
    split: str

    @property
    def is_over(self) -> bool:
        """Whether no further row counts."""
        return self.selection.is_full or bool(self.selection.stopped)

    def add(self, row: Row, answer: Answer[Decision] | None) -> None:
        """Count and write a row that was decided, by a rule, by the model, or by its quota."""
        if self.is_over:
            return
        selection = self.selection
        selection.read += 1
        if selection.has_enough(row.language):  # whatever else was found while that was unknown
            selection.turned_away["quota"] += 1
            return
        if answer:
            selection.asked += 1
            selection.rejected.update(answer.rejected)
        if row.turned_away:
            self._turn_away(row, row.turned_away.rule, row.turned_away.detail)
        elif answer and not answer.value.is_long:
            self._turn_away(row, "model", answer.value.reason)
        elif row.candidate and row.language:
            selection.chosen[row.language] += 1
            self.chosen.write(jsonl_line(self._record(row.candidate, row.language, answer)))

    def add_failure(self, row: Row, error: WriteError | ContextOverflowError) -> None:
        """Count and write a row on which no decision was to be had."""
        if self.is_over or self.selection.has_enough(row.language):
            self.add(row, None)
        elif isinstance(error, WriteError) and error.is_fatal:  # says nothing about this row
            self.selection.stopped = error.detail
        else:
            self.selection.read += 1
            self.selection.failed[error.reason] += 1
            detail = error.detail if isinstance(error, WriteError) else str(error)
            self._write_other(
                row, "failed", f"{error.reason}: {detail}" if detail else error.reason
            )

    def _turn_away(self, row: Row, rule: str, detail: str) -> None:
        self.selection.turned_away[rule] += 1
        self._write_other(row, rule, detail)

    def _write_other(self, row: Row, rule: str, detail: str) -> None:
        candidate = row.candidate
        log = {
            "row": row.number,
            "row_id": candidate.row_id if candidate else None,
            "rule": rule,
            "detail": detail,
            "instruction": candidate.instruction[:SHOWN] if candidate else None,
        }
        self.others.write(jsonl_line(log))

    def _record(
        self, candidate: Candidate, language: Language, answer: Answer[Decision] | None
    ) -> dict[str, Any]:
        """A row as `agentwrite run` reads it."""
        required = required_length(candidate.instruction)
        return {
            "id": sha256(candidate.instruction)[:16],
            "instruction": candidate.instruction,
            "language": language,
            **({"length": required} if required else {}),
            "selection": {
                "source": self.source,
                "split": self.split,
                "row": candidate.row,
                "row_id": candidate.row_id,
                "model": answer.model if answer else None,
                "reason": answer.value.reason if answer else None,
            },
        }


@contextmanager
def writing(output: Path, source: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The two files, each whole under its name when all is done, and not there before."""
    targets = (output, rejects_path(output))
    read = Path(source).expanduser().resolve()
    for target in targets:
        if target.is_dir():
            raise InputError(f"{target} is a folder: name a file for the instructions")
        if target.exists() and not target.is_file():  # a device, which would be replaced by a file
            raise InputError(f"{target} is no file: name one for the instructions")
        if read.exists() and target.resolve() == read:
            raise InputError(f"{target} is the source: name another file for the instructions")
        if read.is_dir() and target.resolve().is_relative_to(read):
            raise InputError(
                f"{target} lies in the source {source}, and would be read as a part of it the next "
                "time: name a file in another folder"
            )
    parts = [target.with_name(f".{target.name}.part") for target in targets]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with parts[0].open("wb") as chosen, parts[1].open("wb") as others:
            yield chosen, others
        for part, target in zip(parts, targets, strict=True):
            part.replace(target)
    except OSError as error:
        raise InputError(
            f"cannot write {output} ({error.strerror}): free or repair its folder"
        ) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
