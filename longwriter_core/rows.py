"""Read the rows of a JSONL, CSV or Parquet file, one (or a batch) in memory at a time."""

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.jsonl import scan_jsonl

_BATCH = 64  # rows of a Parquet file held in memory


@dataclass(frozen=True)
class NumberedRow:
    """A row of a file. `number` is its line, or its place in a Parquet file, from 1."""

    number: int
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str = ""  # why the line is not a row; then there are no fields


def numbered_rows(path: Path) -> Iterator[NumberedRow]:
    """Yield every row of a JSONL, CSV or Parquet file, by its ending; other files are JSONL.

    Raises InputError if the file cannot be read.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        yield from _read_parquet(path)
    elif ending == ".csv":
        yield from _read_csv(path)
    else:
        for line in scan_jsonl(path):
            yield NumberedRow(line.number, line.row, line.problem)


def _read_parquet(path: Path) -> Iterator[NumberedRow]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield NumberedRow(number, row)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"cannot read {path}: {str(error).partition(chr(10))[0]}") from error


def _read_csv(path: Path) -> Iterator[NumberedRow]:
    """Yield the rows of a CSV file with a header. Empty cells are left out, whole numbers read."""
    csv.field_size_limit(sys.maxsize)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            start = 2  # the header is on line 1
            for row in reader:
                if None in row or None in row.values():
                    yield NumberedRow(start, problem="not as many cells as the header")
                else:
                    cells = {name: _cell(value) for name, value in row.items() if value != ""}
                    yield NumberedRow(start, cells)
                start = reader.line_num + 1
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {str(error).partition(chr(10))[0]}") from error


def _cell(value: str) -> str | int:
    is_number = value.isascii() and value.isdecimal() and len(value) < 10
    return int(value) if is_number and str(int(value)) == value else value
