"""Rows of a JSONL file that a user gave us; the first line that is none ends the reading."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number, from 1, and row of every line that is not blank, one at a time.

    Raises InputError that names the line which is not a JSON object in UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.strip():
                    yield number, _read(raw, f"{path}, line {number}")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _read(raw: bytes, place: str) -> dict[str, Any]:
    try:
        row: Any = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise InputError(f"{place}: not a JSON object")
    return row
