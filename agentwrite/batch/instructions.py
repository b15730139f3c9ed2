"""Read instructions from a JSONL, CSV or Parquet file, whose rows are all checked first.

A row holds `instruction` or `prompt`, or a conversation under `messages`, whose first user message
is the instruction; and optionally `id` and `length` in words.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from agentwrite.writing.state import Instruction
from agentwrite.writing.writer import MAX_TEXT_WORDS
from longwriter_core.conversation import first_instruction
from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.rows import NumberedRow, numbered_rows
from longwriter_core.text.required_length import required_length

_MAX_PROBLEMS = 5  # maximum number of problems listed in a message
_CONVERSATIONS = ("messages", "conversations", "conversation")
_NUMBER = re.compile(r"([0-9]{1,9}|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.0*)?")
_KNOWN_FIELDS = ("id", "instruction", "prompt", "length", "required", *_CONVERSATIONS)


@dataclass
class InstructionFile:
    """The instructions of a file, checked by `check_instructions`. Iterating reads it again."""

    path: Path
    limit: int | None = None
    default_length: int | None = None
    hashes: dict[str, str] = field(default_factory=dict)  # id -> SHA-256 of the instruction
    bad_rows: dict[int, str] = field(default_factory=dict)  # line or row number -> problem

    @property
    def row_name(self) -> str:
        """What a number in `bad_rows` counts."""
        return "row" if self.path.suffix.lower() == ".parquet" else "line"

    def __iter__(self) -> Iterator[Instruction]:
        """Yield the good instructions in order.

        The required length is the row's `length`, else the length named in the instruction, else
        `default_length`. A missing id is derived from the instruction's hash.
        """
        for row in islice(numbered_rows(self.path), self.limit):
            if row.number not in self.bad_rows:
                yield _read(row, self.default_length)


def check_instructions(
    path: Path, limit: int | None = None, default_length: int | None = None, *, strict: bool = True
) -> InstructionFile:
    """Check the rows of a file, which are not kept in memory.

    Raises InputError that lists the first bad rows and says how many more there are. If not
    `strict`, that is only an error if all rows are bad.
    """
    file = InstructionFile(path, limit, default_length)
    lines: dict[str, int] = {}
    for row in islice(numbered_rows(path), limit):
        try:
            instruction = _read(row, None)
        except ValueError as error:
            file.bad_rows[row.number] = str(error)
            continue
        if first := lines.get(instruction.id):
            file.bad_rows[row.number] = (
                f"id {instruction.id!r} is already on {file.row_name} {first}"
            )
            continue
        lines[instruction.id] = row.number
        file.hashes[instruction.id] = sha256(instruction.instruction)
    if not lines and not file.bad_rows:
        raise InputError(f"{path}: no instructions")
    if file.bad_rows and (strict or not lines):
        problems = [f"{file.row_name} {n}: {problem}" for n, problem in file.bad_rows.items()]
        more = len(problems) - _MAX_PROBLEMS
        raise InputError(
            f"{path}: {'; '.join(problems[:_MAX_PROBLEMS])}"
            f"{f'; and {more} more' if more > 0 else ''}"
        )
    return file


def _read(row: NumberedRow, default_length: int | None) -> Instruction:
    """Read a row. Raises ValueError if it is invalid."""
    if row.problem:
        raise ValueError(row.problem)
    fields = row.fields
    instruction = fields.get("instruction", fields.get("prompt"))
    if any(isinstance(fields.get(name), list) for name in (*_CONVERSATIONS, "prompt")):
        first = first_instruction(fields)
        instruction = first.text if first else None
    if not isinstance(instruction, str):
        raise ValueError("no text under `instruction`, `prompt` or `messages`")
    if not instruction.strip():
        raise ValueError("the instruction is empty")
    length = _length(fields.get("length"))
    if length is None:
        length = _length(fields.get("required"))
    id = fields.get("id")
    if id is None:
        id = sha256(instruction)[:16]
    if not isinstance(id, str | int) or isinstance(id, bool) or id == "":
        raise ValueError(f"id must be text or a whole number, not {id!r}")
    return Instruction(
        str(id),
        instruction,
        length or required_length(instruction) or default_length,
        {name: _plain(value) for name, value in fields.items() if name not in _KNOWN_FIELDS},
    )


def _length(value: Any) -> int | None:
    """The length that a row names, or None. Raises ValueError unless it is a whole number.

    Tables write 300.0 and NaN in a column that has empty cells, and "300" or "1,000" as text.
    """
    number = value
    if isinstance(value, str) and (digits := _NUMBER.fullmatch(value.strip())):
        number = int(digits[1].replace(",", ""))
    if number is None or (isinstance(number, float | Decimal) and math.isnan(number)):
        return None
    is_number = isinstance(number, int | float | Decimal) and not isinstance(number, bool)
    if is_number and 1 <= number <= MAX_TEXT_WORDS and number == int(number):
        return int(number)
    raise ValueError(f"length must be a whole number from 1 to {MAX_TEXT_WORDS}, not {value!r}")


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: Parquet also has dates, bytes and decimals."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | None) else str(value)
