"""The run folder: finished rows, failures, settings and calls. It survives a kill at any time.

DIR/texts.jsonl    one row per finished text; `dpo` has samples.jsonl with one row per prompt
DIR/failed.jsonl   one row per failed instruction, with the reason
DIR/settings.json  the settings that all rows share
DIR/run.json       the number of instructions of the last run
DIR/calls/         every finished call
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from agentwrite.errors import WriteError
from agentwrite.writing.state import Instruction
from longwriter_core.errors import InputError
from longwriter_core.files import sha256, write_atomically
from longwriter_core.jsonl import Line, append_jsonl, drop_torn_line, scan_jsonl, write_jsonl
from longwriter_core.llm import Store


class RunFolder:
    """A locked run folder. Use as `with RunFolder(path, settings) as folder`."""

    def __init__(self, path: Path, settings: Mapping[str, Any], rows: str = "texts.jsonl") -> None:
        self.path = path
        self.rows, self.failures = path / rows, path / "failed.jsonl"
        self.store = Store(path / "calls")
        self.finished: dict[str, str] = {}  # id -> SHA-256 of its instruction
        self._settings = dict(settings)

    def __enter__(self) -> Self:
        """Lock the folder. Raises InputError if it is unusable, in use, or has other settings."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise InputError(f"cannot write to {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise InputError(f"{self.path} is in use by another run: wait until it ends") from error
        try:
            self.store.check()
            self._bind_settings()
            for file in (self.rows, self.failures):
                drop_torn_line(file)
            self._find_finished()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._lock.close()

    def look(self) -> Self:
        """Read the folder without writing to it, for a dry run."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"cannot write to {self.path}: it is a file")
        self._has_settings()
        self._find_finished()
        return self

    def check_finished(self, wanted: Mapping[str, str]) -> None:
        """Raise InputError if a finished id now has another instruction."""
        changed = [id for id, hash in wanted.items() if self.finished.get(id, hash) != hash]
        if changed:
            raise InputError(
                f"{self.rows} has other instructions under {len(changed)} of these ids, such as "
                f"{changed[0]!r}: choose another folder, or other ids"
            )

    def note_size(self, instructions: int) -> None:
        """Keep the number of instructions, from which `unfinished` knows what is missing."""
        data = json.dumps({"instructions": instructions})
        write_atomically(self.path / "run.json", data.encode())

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a finished row. Raises OSError, for example if the disk is full."""
        append_jsonl(self.rows, row)
        self.finished[str(row["id"])] = sha256(row["instruction"])

    def add_failure(self, instruction: Instruction, error: WriteError) -> None:
        """Append a failure with its reason. Raises OSError."""
        append_jsonl(
            self.failures,
            {
                **instruction.fields,
                "id": instruction.id,
                "instruction": instruction.instruction,
                "required": instruction.required,
                "reason": error.reason,
                "detail": error.detail,
                "place": error.place,
            },
        )

    def compact_failures(self) -> int:
        """Keep only the last failure of each unfinished instruction; returns their number."""
        last = {str(row["id"]): row for row in read_rows(self.failures)}
        left = [row for id, row in last.items() if id not in self.finished]
        if left:
            write_jsonl(self.failures, left)
        else:
            self.failures.unlink(missing_ok=True)
        return len(left)

    def _find_finished(self) -> None:
        self.finished = {str(row["id"]): sha256(row["instruction"]) for row in read_rows(self.rows)}

    def _bind_settings(self) -> None:
        if not self._has_settings():
            data = json.dumps(self._settings, indent=2, ensure_ascii=False)
            write_atomically(self.path / "settings.json", data.encode("utf-8", "backslashreplace"))

    def _has_settings(self) -> bool:
        """Whether there are rows with these settings. Raises InputError if the settings differ."""
        path = self.path / "settings.json"
        try:
            old = json.loads(path.read_bytes())
        except FileNotFoundError:
            old = None
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error}): restore it, or delete it") from error
        if (
            old is None or not self.rows.exists()
        ):  # without rows, the next run may change the settings
            return False
        if old != self._settings:
            names = sorted(
                name
                for name in {*old, *self._settings}
                if old.get(name) != self._settings.get(name)
            )
            changes = (
                f"{name} {old.get(name)!r}, not {self._settings.get(name)!r}" for name in names
            )
            raise InputError(
                f"{self.path} was begun with {'; '.join(changes)}: choose another folder, or the "
                "same settings"
            )
        return True


def missing_texts(folder: Path, texts: int) -> int:
    """The number of instructions of a run folder without a text, of which it has `texts`.

    Folders of earlier releases do not know how many there are: their failures count.
    """
    failed = sum(1 for _ in read_rows(folder / "failed.jsonl"))
    try:
        wanted = int(json.loads((folder / "run.json").read_bytes())["instructions"])
    except (OSError, ValueError, KeyError, TypeError):
        wanted = texts + failed
    return max(0, wanted - texts)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSONL file; yields nothing if the file does not exist.

    Skips an incomplete last line, as left by a kill. Raises InputError naming a damaged line.
    """
    return (line.row for line in _lines(path))


def rows_by_id(path: Path) -> Iterator[dict[str, Any]]:
    """Yield rows like `read_rows`, but sorted by id, since rows finish in any order.

    Memory holds only ids and offsets. Also raises InputError for an id that occurs twice.
    """
    offsets: dict[str, int] = {}
    for line in _lines(path):
        if offsets.setdefault(str(line.row["id"]), line.offset) != line.offset:
            raise InputError(f"{path} has id {line.row['id']!r} twice: delete one of the lines")
    if offsets:
        with path.open("rb") as file:
            for _, offset in sorted(offsets.items()):
                file.seek(offset)
                yield json.loads(file.readline())


def _lines(path: Path) -> Iterator[Line]:
    if not path.exists():
        return
    for line in scan_jsonl(path):
        problem = line.problem
        if not problem and not {"id", "instruction"} <= line.row.keys():
            problem = "no id or no instruction"
        if problem and not line.is_complete:
            return
        if problem:
            raise InputError(
                f"{path}, line {line.number}: damaged ({problem}); delete the line, and its text "
                "is rebuilt from the finished calls"
            )
        yield line
