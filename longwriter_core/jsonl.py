"""The only reader and writer of JSONL files: one JSON object per line, in UTF-8.

`read_jsonl` stops at the first bad line with an InputError. `scan_jsonl` reports bad lines and
continues, for callers that list every problem, need byte offsets, or expect a torn last line.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.files import open_atomically

Row = dict[str, Any]

_BLOCK = 65_536  # bytes read at a time when looking for the last newline


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a JSONL file that is not blank."""

    number: int  # from 1
    offset: int  # bytes before it in the file
    is_complete: bool  # ends in a newline; a kill while appending leaves a line that does not
    row: Row = field(default_factory=dict)
    problem: str = ""  # why the line is not a row, such as "not UTF-8"; then `row` is empty


def scan_jsonl(path: Path) -> Iterator[Line]:
    """Every line of a file that is not blank, in order, one in memory at a time.

    Raises InputError if the file cannot be read.
    """
    offset = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.strip():
                    yield _parse(raw, number, offset)
                offset += len(raw)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """The line number, from 1, and the row of every line that is not blank.

    Raises InputError if the file cannot be read or contains a bad line; the error names the line.
    """
    for line in scan_jsonl(path):
        if line.problem:
            raise InputError(f"{path}, line {line.number}: {line.problem}")
        yield line.number, line.row


def jsonl_line(row: Mapping[str, Any], default: Callable[[Any], Any] | None = None) -> bytes:
    r"""`row` as a line of a JSONL file. `default` converts values that JSON does not have.

    Models emit lone surrogates, which UTF-8 cannot hold: they are written as JSON escapes (\ud83d)
    and read back as they were.
    """
    text = json.dumps(row, ensure_ascii=False, default=default)
    return (text + "\n").encode("utf-8", "backslashreplace")


def write_jsonl(
    path: Path, rows: Iterable[Mapping[str, Any]], default: Callable[[Any], Any] | None = None
) -> None:
    """Write `rows` to `path`. The file appears complete or not at all. Raises OSError."""
    with open_atomically(path) as file:
        for row in rows:
            file.write(jsonl_line(row, default))


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Append `row` to `path`. Raises OSError, for example if the disk is full.

    The row survives if the process is killed. It is not synced to disk, so a power cut may lose it.
    Callers therefore append only rows that they can rebuild from calls that are synced.
    """
    with path.open("ab") as file:
        size = file.tell()
        try:
            file.write(jsonl_line(row))
            file.flush()
        except OSError:
            os.ftruncate(file.fileno(), size)  # half a row would damage the next one
            raise


def drop_torn_line(path: Path) -> None:
    """Cut off a last line without a newline, which a kill while appending leaves behind."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def _parse(raw: bytes, number: int, offset: int) -> Line:
    is_complete = raw.endswith(b"\n")
    problem = "not a JSON object"
    try:
        row: Any = json.loads(raw.decode("utf-8-sig").rstrip())
        if isinstance(row, dict):
            return Line(number, offset, is_complete, row)
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except json.JSONDecodeError as error:  # its own message counts lines within this line
        problem = f"not JSON ({error.msg} at column {error.colno})"
    except (ValueError, RecursionError) as error:  # a number that is too long, or deep nesting
        problem = f"not JSON ({error})"
    return Line(number, offset, is_complete, problem=problem)
