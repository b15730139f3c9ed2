"""What a selection has decided so far: its counts, and the two files that it writes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from agentwrite.data.sources import check_outputs
from agentwrite.errors import WriteError
from agentwrite.model import Answer
from agentwrite.selecting.candidates import Candidate
from agentwrite.selecting.rules import LANGUAGES
from agentwrite.selecting.screening import Decision
from longwriter_core.errors import InputError
from longwriter_core.files import open_atomically, sha256
from longwriter_core.jsonl import jsonl_line
from longwriter_core.llm import ContextOverflowError, Rejected, Usage
from longwriter_core.text.language import Language
from longwriter_core.text.required_length import required_length

EXCERPT_CHARACTERS = 200  # characters of an instruction shown in the log of rejected rows


@dataclass
class Selection:
    """Counts of rows so far. `usage` counts only the calls of this run."""

    quota: Mapping[str, int]
    total: int | None = None  # rows to read; None if unknown
    read: int = 0
    asked: int = 0  # instructions decided by the model
    chosen: Counter[str] = field(default_factory=Counter)  # by language
    rejected: Counter[str] = field(default_factory=Counter)  # by rule
    failed: Counter[str] = field(default_factory=Counter)  # rows without a decision, by reason
    retries: Counter[str] = field(default_factory=Counter)  # unreadable replies, by reason
    usage: Usage = field(default_factory=Usage)
    stopped: str = ""  # why the run stopped early, for example a wrong key
    state: str = ""  # of the batches that the model is asked in

    def has_enough(self, language: str | None) -> bool:
        """Whether the quota of a language is full."""
        quota = self.quota.get(language or "")
        return quota is not None and self.chosen[language or ""] >= quota

    @property
    def is_full(self) -> bool:
        """Whether there are quotas and all are full."""
        return bool(self.quota) and all(map(self.has_enough, self.quota))

    @property
    def is_over(self) -> bool:
        """Whether the selection has ended, so further rows are ignored."""
        return self.is_full or bool(self.stopped)

    @property
    def missing(self) -> dict[str, int]:
        """Language -> number of instructions missing from its quota."""
        return {
            language: number - self.chosen[language]
            for language, number in self.quota.items()
            if not self.has_enough(language)
        }


def checked_quota(quota: Mapping[str, int] | None) -> dict[str, int]:
    """The quotas. Raises InputError for a language without rules, or a number below 1."""
    for language, number in (quota or {}).items():
        if language not in LANGUAGES:
            raise InputError(f"quota: {language!r} is not among {', '.join(LANGUAGES)}")
        if number < 1:
            raise InputError(f"quota: {language} must be 1 or more, not {number}")
    return dict(quota or {})


@dataclass(frozen=True)
class CheckedRow:
    """A row of the source, and the rule that rejects it, if any."""

    number: int  # from 1
    candidate: Candidate | None
    language: Language | None
    rejected: Rejected | None


@dataclass
class SelectionLog:
    """Writes the decided rows to the two files, and counts them."""

    selection: Selection
    chosen: IO[bytes]
    rejected: IO[bytes]
    source: str
    split: str

    def add(self, row: CheckedRow, answer: Answer[Decision] | None) -> None:
        """Record a row that was decided by a rule, the model or its quota."""
        selection = self.selection
        if selection.is_over:
            return
        selection.read += 1
        if selection.has_enough(row.language):  # the quota filled up while the row waited
            selection.rejected["quota"] += 1
            return
        if answer:
            selection.asked += 1
            selection.retries.update(answer.rejected)
        if row.rejected:
            selection.rejected[row.rejected.reason] += 1
            self._write_rejected(row, row.rejected)
        elif answer and not answer.value.is_long:
            selection.rejected["model"] += 1
            self._write_rejected(row, Rejected("model", answer.value.reason))
        elif row.candidate and row.language:
            selection.chosen[row.language] += 1
            self.chosen.write(jsonl_line(self._record(row.candidate, row.language, answer)))

    def add_failure(self, row: CheckedRow, error: WriteError | ContextOverflowError) -> None:
        """Record a row without a decision by the model; the next run retries it."""
        selection = self.selection
        if selection.is_over or selection.has_enough(row.language):
            self.add(row, None)
        elif isinstance(error, WriteError) and error.is_fatal:  # it would fail all further rows too
            selection.stopped = error.detail
        else:
            selection.read += 1
            selection.failed[error.reason] += 1
            detail = error.detail if isinstance(error, WriteError) else str(error)
            self._write_rejected(
                row, Rejected("failed", f"{error.reason}: {detail}" if detail else error.reason)
            )

    def _write_rejected(self, row: CheckedRow, rejected: Rejected) -> None:
        candidate = row.candidate
        record = {
            "row": row.number,
            "row_id": candidate.row_id if candidate else None,
            "rule": rejected.reason,
            "detail": rejected.detail,
            "instruction": candidate.instruction[:EXCERPT_CHARACTERS] if candidate else None,
        }
        self.rejected.write(jsonl_line(record))

    def _record(
        self, candidate: Candidate, language: Language, answer: Answer[Decision] | None
    ) -> dict[str, Any]:
        """Return the output row, in the format that `agentwrite run` reads."""
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
def open_log(selection: Selection, output: Path, source: str, split: str) -> Iterator[SelectionLog]:
    """Open the log. Its files are written when the block ends without an error."""
    rejects = rejects_path(output)
    check_outputs([output, rejects], [Path(source)])
    try:
        with open_atomically(output) as chosen, open_atomically(rejects) as rejected:
            yield SelectionLog(selection, chosen, rejected, source, split)
    except OSError as error:
        raise InputError(
            f"cannot write {output} ({error.strerror}): free space there, or choose another folder"
        ) from error


def rejects_path(output: Path) -> Path:
    """Return the path of the log of rejected rows, such as instructions.rejected.jsonl."""
    return output.with_name(f"{output.stem}.rejected.jsonl")
