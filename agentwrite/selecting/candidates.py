"""Reading an instruction out of a row, whatever shape its data set has. Pure.

WildChat, LMSYS   {"conversation": [{"role": "user", "content": …}], "language": "English",
                   "toxic": false, "redacted": false, "openai_moderation": [{"flagged": …}]}
ShareGPT          {"conversations": [{"from": "human", "value": …}]}
chat              {"messages": [{"role": "user", "content": …}]}
plain, Alpaca     {"instruction": …, "input": …} or {"prompt": …}
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_CONVERSATIONS = ("conversation", "conversations", "messages", "prompt")
_TEXTS = ("instruction", "prompt", "query", "question")
_IDS = ("conversation_hash", "conversation_id", "id", "uuid", "prompt_id")
_USERS = ("user", "human")


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
    turns = next((turns for name in _CONVERSATIONS if (turns := _turns(row.get(name)))), [])
    turn = next((turn for turn in turns if _role(turn) in _USERS), None)
    text = _text_of(turn) if turn else _plain(row)
    if not text.strip():
        return None
    sources = (turn or {}, row)
    declared = next((each["language"] for each in sources if each.get("language")), None)
    row_id = next((row[name] for name in _IDS if isinstance(row.get(name), str | int)), None)
    return Candidate(
        row=number,
        row_id=None if row_id is None else str(row_id),
        instruction=text.strip(),
        declared=str(declared) if declared else None,
        # of any turn: what a conversation comes to, its first words often only lead up to
        is_toxic=any(map(_is_toxic, (row, *turns))),
        is_redacted=any(_is_set(each.get("redacted")) for each in (row, *turns)),
    )


def _turns(value: Any) -> list[Mapping[str, Any]]:
    return [turn for turn in value if isinstance(turn, Mapping)] if isinstance(value, list) else []


def _role(turn: Mapping[str, Any]) -> str:
    return str(turn.get("role", turn.get("from", ""))).lower()


def _text_of(turn: Mapping[str, Any]) -> str:
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):  # parts: text and images
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _plain(row: Mapping[str, Any]) -> str:
    for name in _TEXTS:
        if isinstance(text := row.get(name), str) and text.strip():
            more = row.get("input")
            return f"{text}\n\n{more}" if isinstance(more, str) and more.strip() else text
    return ""


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
