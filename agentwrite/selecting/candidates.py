"""The instruction in a row of a data set, and what the data set says about it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from longwriter_core.conversation import first_instruction

_IDS = ("conversation_hash", "conversation_id", "id", "uuid", "prompt_id")


@dataclass(frozen=True)
class Candidate:
    """The first user turn of row number `row` (from 1), and what the data set says about it."""

    row: int
    row_id: str | None
    instruction: str
    declared: str | None = None  # its language, in the data set's own words
    is_toxic: bool = False
    is_redacted: bool = False


def read_candidate(row: Mapping[str, Any], number: int) -> Candidate | None:
    """The candidate in a row; None where there is no text of a user."""
    instruction = first_instruction(row)
    if not instruction:
        return None
    text, turn, turns = instruction
    sources = (turn or {}, row)
    declared = next((each["language"] for each in sources if each.get("language")), None)
    row_id = next((row[name] for name in _IDS if isinstance(row.get(name), str | int)), None)
    return Candidate(
        row=number,
        row_id=None if row_id is None else str(row_id),
        instruction=text,
        declared=str(declared) if declared else None,
        # of any turn: what a conversation comes to, its first words often only lead up to
        is_toxic=any(map(_is_toxic, (row, *turns))),
        is_redacted=any(_is_set(each.get("redacted")) for each in (row, *turns)),
    )


def _is_toxic(part: Mapping[str, Any]) -> bool:
    return _is_set(part.get("toxic")) or any(
        _is_set(moderation.get("flagged")) for moderation in _moderations(part)
    )


def _is_set(flag: Any) -> bool:
    """Whether a flag is on, also one that came through CSV as 1 or "True"."""
    return str(flag).strip().lower() in ("true", "1", "1.0", "yes")


def _moderations(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in ("openai_moderation", "moderation"):
        value = part.get(name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Mapping):
                yield each
