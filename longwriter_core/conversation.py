"""General SFT and preference sets: the common shapes of a row in, one shape out.

SFT         messages | conversations (ShareGPT) | conversation, lists of turns
            prompt, instruction, query, question or input | response, output, completion or answer
preference  the same for what was asked, and chosen | rejected: text, a turn, or a list of turns
            that ends on the answer, as in UltraFeedback binarized

What else belongs to the question is never left out: a system prompt, an `input` (Alpaca) or
`context` (Dolly) beside the instruction, the `history` before it.
"""

from collections.abc import Mapping
from typing import Any

from longwriter_core.text.special_tokens import strip_special_tokens

Message = dict[str, str]  # role and content

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}
_LISTS = ("messages", "conversations", "conversation")
_ASKED = ("prompt", "instruction", "query", "question", "input")
_BESIDE = ("input", "context")  # what the instruction is about
_ANSWERED = ("response", "output", "completion", "answer")
_SYSTEM = ("system", "system_prompt")
# axolotl looks for the answer in the filled template, from its beginning: one as short as "A" or
# "assistant" it would find in a header, and cut the target there. Characters.
_SHORTEST_ANSWER = 20


class UnusableRowError(ValueError):
    """A row that is no data, with one word to count by."""


def conversation(row: Mapping[str, Any]) -> list[Message]:
    """The turns of an SFT row: a system turn or none, then user and assistant in turn.

    It ends on the assistant; a last turn of the user is left out. Raises UnusableRowError with
    `shape`, `role`, `turns`, `empty`, `encoding` or `special_tokens`.
    """
    turns = _listed(row)
    if not turns:
        answered = next((row[name] for name in _ANSWERED if row.get(name) is not None), None)
        turns = [*_asked(row), *_answer(answered)]
    turns = _with_system(row, turns)
    if turns and turns[-1][0] == "user":
        turns.pop()
    return _checked(turns, "assistant")


def preference(row: Mapping[str, Any]) -> tuple[list[Message], Message, Message]:
    """What was asked, the better and the worse answer.

    Raises UnusableRowError, also with `different_prompts`, `identical` and `too_short`.
    """
    chosen, rejected = (_answer(row.get(name)) for name in ("chosen", "rejected"))
    inside = [turns[:-1] for turns in (chosen, rejected) if len(turns) > 1]
    turns = _listed(row)
    if turns in (chosen, rejected):  # some sets repeat the whole conversation here
        turns = turns[:-1]
    turns = turns or (inside[0] if inside else _asked(row))
    if any(each != turns for each in inside):
        raise UnusableRowError("different_prompts")
    turns = _with_system(row, turns)
    messages = _checked(turns, "user")
    better, worse = (
        _checked([*turns, answer[-1]], "assistant")[-1] for answer in (chosen, rejected)
    )
    if better == worse:
        raise UnusableRowError("identical")
    if min(len(better["content"]), len(worse["content"])) < _SHORTEST_ANSWER:
        raise UnusableRowError("too_short")
    return messages, better, worse


def _listed(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The turns of a row that has them in a list; none where it has not."""
    return next((_turns(row[name]) for name in _LISTS if row.get(name)), [])


def _asked(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The turns up to the question of a row that has them in fields of their own."""
    if isinstance(row.get("prompt"), list):  # as in TRL
        return _turns(row["prompt"])
    history = row.get("history")
    question = next((name for name in _ASKED if _is_text(row.get(name))), None)
    if question is None:
        raise UnusableRowError("shape")
    parts = [question, *_BESIDE] if question != "prompt" else [question]  # it is filled in there
    texts = [row[name] for name in dict.fromkeys(parts) if _is_text(row.get(name))]
    turns = [("user", "\n\n".join(texts))]
    for pair in reversed(history if isinstance(history, list) else []):
        if not isinstance(pair, list | tuple) or list(map(type, pair)) != [str, str]:
            raise UnusableRowError("shape")
        turns = [("user", pair[0]), ("assistant", pair[1]), *turns]
    return turns


def _with_system(row: Mapping[str, Any], turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """With the row's system prompt, where it is not among the turns; without an empty one."""
    if turns[0][0] == "system":
        return turns if turns[0][1].strip() else turns[1:]
    system = next((row[name] for name in _SYSTEM if _is_text(row.get(name))), None)
    return [("system", system), *turns] if system else turns


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _turns(turns: Any) -> list[tuple[str, str]]:
    if not isinstance(turns, list) or not turns:
        raise UnusableRowError("shape")
    return [_turn(turn) for turn in turns]


def _turn(turn: Any) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise UnusableRowError("shape")
    # a Parquet file of both shapes has all four, half of them null
    role, content = (
        turn.get(name) if turn.get(name) is not None else turn.get(other)
        for name, other in (("role", "from"), ("content", "value"))
    )
    if isinstance(content, list):  # parts, of which only text is text
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise UnusableRowError("shape")
        content = "".join(map(str, parts))
    if not isinstance(content, str):
        raise UnusableRowError("shape")
    if not isinstance(role, str) or role not in _ROLES:  # a tool's turn, say
        raise UnusableRowError("role")
    return _ROLES[role], content


def _answer(value: Any) -> list[tuple[str, str]]:
    """An answer, perhaps after the turns that it answers."""
    if isinstance(value, str):
        return [("assistant", value)]
    turns = _turns(value if isinstance(value, list) else [value])
    if turns[-1][0] != "assistant":
        raise UnusableRowError("turns")
    return turns


def _checked(turns: list[tuple[str, str]], last: str) -> list[Message]:
    """Messages of turns that follow each other as templates want them, outer blanks taken off."""
    said = turns[1:] if turns and turns[0][0] == "system" else turns
    roles = [role for role, _ in said]
    expected = [("user", "assistant")[number % 2] for number in range(len(roles))]
    if not roles or roles != expected or roles[-1] != last:
        raise UnusableRowError("turns")
    messages = []
    for role, content in turns:
        text = content.strip()
        if not text:
            raise UnusableRowError("empty")
        try:
            text.encode()
        except UnicodeEncodeError as error:  # half a surrogate pair: no loader would read it
            raise UnusableRowError("encoding") from error
        if strip_special_tokens(text) != text:  # a tokenizer would end the turn there
            raise UnusableRowError("special_tokens")
        messages.append({"role": role, "content": text})
    return messages
