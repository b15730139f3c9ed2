"""General SFT and preference sets: the common shapes of a row in, one shape out.

SFT         messages | conversations (ShareGPT) | conversation, lists of turns
            prompt, instruction, query or question | response, output, completion or answer
preference  messages | prompt | question, and chosen | rejected: text, a turn, or a list of
            turns that ends on the answer, as in UltraFeedback binarized
"""

from collections.abc import Mapping
from typing import Any

from longwriter_eval.special_tokens import strip_special_tokens

Message = dict[str, str]  # role and content

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
}
_LISTS = ("messages", "conversations", "conversation")
_ASKED = ("prompt", "instruction", "query", "question")
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
    for name in _LISTS:
        if row.get(name):
            turns = _turns(row[name])
            break
    else:
        asked, answered = _first_text(row, _ASKED), _first_text(row, _ANSWERED)
        if asked is None or answered is None:
            raise UnusableRowError("shape")
        if isinstance(row.get("input"), str) and row["input"].strip():  # as in Alpaca
            asked = f"{asked}\n\n{row['input']}"
        turns = [("user", asked), ("assistant", answered)]
    if turns[0][0] != "system" and (system := _first_text(row, _SYSTEM)):
        turns.insert(0, ("system", system))
    if turns[-1][0] == "user":
        turns.pop()
    return _checked(turns, "assistant")


def preference(row: Mapping[str, Any]) -> tuple[list[Message], Message, Message]:
    """What was asked, the better and the worse answer.

    Raises UnusableRowError, also with `different_prompts`, `identical` and `too_short`.
    """
    chosen, rejected = (_answer(row.get(name)) for name in ("chosen", "rejected"))
    asked = [turns[:-1] for turns in (chosen, rejected) if len(turns) > 1]
    if len(asked) == 2 and asked[0] != asked[1]:
        raise UnusableRowError("different_prompts")
    if row.get("messages"):
        turns = _turns(row["messages"])
        if turns in (chosen, rejected):  # some sets repeat the whole conversation here
            turns = turns[:-1]
    elif asked:
        turns = asked[0]
    elif isinstance(row.get("prompt"), list):
        turns = _turns(row["prompt"])
    elif text := _first_text(row, _ASKED):
        turns = [("user", text)]
    else:
        raise UnusableRowError("shape")
    if turns[0][0] != "system" and (system := _first_text(row, _SYSTEM)):
        turns = [("system", system), *turns]
    messages = _checked(turns, "user")
    better, worse = (
        _checked([*turns, answer[-1]], "assistant")[-1] for answer in (chosen, rejected)
    )
    if better == worse:
        raise UnusableRowError("identical")
    if min(len(better["content"]), len(worse["content"])) < _SHORTEST_ANSWER:
        raise UnusableRowError("too_short")
    return messages, better, worse


def _turns(turns: Any) -> list[tuple[str, str]]:
    if not isinstance(turns, list) or not turns:
        raise UnusableRowError("shape")
    return [_turn(turn) for turn in turns]


def _turn(turn: Any) -> tuple[str, str]:
    if not isinstance(turn, Mapping):
        raise UnusableRowError("shape")
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
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


def _first_text(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((row[name] for name in names if isinstance(row.get(name), str)), None)
