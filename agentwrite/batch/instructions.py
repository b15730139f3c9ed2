"""Read instructions from a JSONL file. The whole file is checked before the first row is used."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from agentwrite.writing.state import Instruction
from agentwrite.writing.writer import MAX_TEXT_WORDS
from longwriter_core.errors import InputError
from longwriter_core.files import sha256
from longwriter_core.jsonl import Line, scan_jsonl
from longwriter_core.text.required_length import required_length

_MAX_PROBLEMS = 5  # maximum number of problems listed in a message
_KNOWN_FIELDS = ("id", "instruction", "prompt", "length", "required")


def check_instructions(path: Path, limit: int | None = None) -> dict[str, str]:
    """Check a file and return the SHA-256 of every instruction by id.

    The instructions are not kept in memory. Raises InputError that lists the first problems with
    their line numbers, and says how many more there are.
    """
    problems: list[str] = []
    lines: dict[str, int] = {}
    hashes: dict[str, str] = {}
    for line in islice(scan_jsonl(path), limit):
        try:
            instruction = _read(line, None)
        except ValueError as error:
            problems.append(f"line {line.number}: {error}")
            continue
        if first := lines.get(instruction.id):
            problems.append(f"line {line.number}: id {instruction.id!r} is already on line {first}")
        lines[instruction.id] = line.number
        hashes[instruction.id] = sha256(instruction.instruction)
    if not lines and not problems:
        problems.append("no instructions")
    if problems:
        more = (
            f"; and {len(problems) - _MAX_PROBLEMS} more" if len(problems) > _MAX_PROBLEMS else ""
        )
        raise InputError(f"{path}: {'; '.join(problems[:_MAX_PROBLEMS])}{more}")
    return hashes


def read_instructions(
    path: Path, limit: int | None = None, default_length: int | None = None
) -> Iterator[Instruction]:
    """Yield the instructions of a checked file in order, skipping blank lines.

    The required length is the row's `length`, else the length named in the instruction, else
    `default_length`. A missing id is derived from the instruction's hash.
    """
    for line in islice(scan_jsonl(path), limit):
        yield _read(line, default_length)


def _read(line: Line, default_length: int | None) -> Instruction:
    """Read a row. Raises ValueError if it is invalid."""
    if line.problem:
        raise ValueError(line.problem)
    row = line.row
    instruction = row.get("instruction", row.get("prompt"))
    if not isinstance(instruction, str):
        raise ValueError("no text under `instruction` or `prompt`")
    if not instruction.strip():
        raise ValueError("the instruction is empty")
    length = row.get("length", row.get("required"))
    if length is not None and not (type(length) is int and 1 <= length <= MAX_TEXT_WORDS):
        raise ValueError(
            f"length must be a whole number from 1 to {MAX_TEXT_WORDS}, not {length!r}"
        )
    id = row.get("id", sha256(instruction)[:16])
    if not isinstance(id, str | int) or isinstance(id, bool) or id == "":
        raise ValueError(f"id must be text or a whole number, not {id!r}")
    return Instruction(
        str(id),
        instruction,
        length or required_length(instruction) or default_length,
        {name: value for name, value in row.items() if name not in _KNOWN_FIELDS},
    )
