"""Read the instruction, metadata and language of a dataset row. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longwriter_core.conversation import first_instruction
from longwriter_core.text.language import Language, is_written_in, main_language

_IDS = ("conversation_hash", "conversation_id", "id", "uuid", "prompt_id")

_LANGUAGE_NAMES: dict[str, Language] = {
    **dict.fromkeys(("english", "en", "eng"), "en"),
    **dict.fromkeys(("chinese", "zh", "zho", "chi", "cmn", "mandarin", "中文"), "zh"),
}


@dataclass(frozen=True)
class Candidate:
    """The first user turn of row number `row` (from 1), with its metadata in the dataset."""

    row: int
    row_id: str | None
    instruction: str
    declared_language: str | None = None  # as the dataset writes it
    is_toxic: bool = False
    is_redacted: bool = False


def read_candidate(row: Mapping[str, Any], number: int) -> Candidate | None:
    """Read the candidate in a row; returns None if the row has no user text."""
    first = first_instruction(row)
    if not first:
        return None
    text, turn, turns = first
    row_id = next((row[name] for name in _IDS if isinstance(row.get(name), str | int)), None)
    language = (turn or {}).get("language") or row.get("language")
    # Use the flags of every turn, because later turns may be worse than the first.
    return Candidate(
        row=number,
        row_id=None if row_id is None else str(row_id),
        instruction=text,
        declared_language=str(language) if language else None,
        is_toxic=any(map(_is_toxic, (row, *turns))),
        is_redacted=any(_is_true(part.get("redacted")) for part in (row, *turns)),
    )


def language_of(candidate: Candidate) -> Language | None:
    """Return the language of an instruction; None if it is neither English nor Chinese.

    A language declared by the dataset must match the script of the instruction, else the result is
    None. Without a declared language, it is detected.
    """
    written = main_language(candidate.instruction)
    if candidate.declared_language is not None:
        # such as "zh_CN" or "Simplified Chinese"
        names = re.split(r"[\W_]+", candidate.declared_language.lower())
        declared = next(filter(None, map(_LANGUAGE_NAMES.get, names)), None)
        return written if declared == written else None
    return written if is_written_in(candidate.instruction, written) else None


def _is_toxic(part: Mapping[str, Any]) -> bool:
    flags = [part.get("toxic")]
    for name in ("openai_moderation", "moderation"):
        value = part.get(name)
        moderations = value if isinstance(value, list) else [value]
        flags += [result.get("flagged") for result in moderations if isinstance(result, Mapping)]
    return any(map(_is_true, flags))


def _is_true(flag: Any) -> bool:
    """Whether a flag is set; accepts 1 and "True", as in datasets converted from CSV."""
    return str(flag).strip().lower() in ("true", "1", "1.0", "yes")
