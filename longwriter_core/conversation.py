"""The only reader of chat-shaped rows: instructions, SFT rows and preference rows. Pure.

Data sets on the hub have these shapes, and `conversation`, `preference` and `first_instruction`
read all of them:

question    messages | conversations (ShareGPT) | conversation (WildChat): a list of turns
            prompt, instruction, query, question or input: text; prompt may be a list of turns
SFT         the question, and response, output, completion or answer: text
preference  the question, and chosen | rejected: text, a turn, or a list of turns that ends on the
            answer (UltraFeedback binarized)

The question keeps its other parts: a system prompt, the `input` (Alpaca) or `context` (Dolly) of
the instruction, and the `history` before it.

`training_conversations` reads only the columns that this project writes and changes nothing, so
training uses exactly what the file contains.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from longwriter_core.text.special_tokens import encodable, special_token_in, strip_special_tokens

Message = dict[str, str]  # role and content
_Turn = tuple[str, str]  # the same, before it is checked

Reason = Literal[
    "shape", "role", "turns", "empty", "encoding", "special_tokens", "different_prompts",
    "identical", "too_short",
]  # fmt: skip

TRAINING_ROLES = ("system", "user", "assistant")
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
_QUESTIONS = ("prompt", "instruction", "query", "question", "input")
_CONTEXTS = ("input", "context")  # what the question is about
_ANSWERS = ("response", "output", "completion", "answer")
_SYSTEMS = ("system", "system_prompt")

# axolotl's own strategies search the rendered template for the answer, starting at its beginning.
# An answer as short as "A" or "assistant" would match inside a header and cut the target there.
_MIN_ANSWER_CHARACTERS = 20


class UnusableRowError(ValueError):
    """A row that cannot be used. `reason` is for counting; the message completes "row 7 …"."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class FirstInstruction(NamedTuple):
    """The first instruction of a row, with the turns as they are in the data set."""

    text: str
    turn: Mapping[str, Any] | None  # None if the instruction is in a field of its own
    turns: list[Mapping[str, Any]]


def first_instruction(row: Mapping[str, Any]) -> FirstInstruction | None:
    """The first user turn of a row of any shape; None if no user turn contains text.

    Only this turn is used, so other turns may be malformed. Images in the turn are skipped.
    """
    lists = (row[name] for name in (*_LISTS, "prompt") if isinstance(row.get(name), list))
    objects = ([turn for turn in turns if isinstance(turn, Mapping)] for turns in lists)
    turns = next(filter(None, objects), [])
    turn = next((turn for turn in turns if _ROLES.get(_role(turn)) == "user"), None)
    text = _lenient_content(turn) if turn else _question(row)
    return FirstInstruction(text.strip(), turn, turns) if text.strip() else None


def conversation(row: Mapping[str, Any]) -> list[Message]:
    """The messages of an SFT row: at most one system message, then user and assistant in turn.

    The last message is the assistant's; a trailing user message is dropped. Raises
    UnusableRowError with `shape`, `role`, `turns`, `empty`, `encoding` or `special_tokens`.
    """
    turns = _listed(row)
    if not turns:
        answer = next((row[name] for name in _ANSWERS if row.get(name) is not None), None)
        turns = [*_asked(row), *_answer(answer)]
    turns = _with_system(row, turns)
    if turns and turns[-1][0] == "user":
        turns.pop()
    return _checked(turns, "assistant")


def preference(row: Mapping[str, Any]) -> tuple[list[Message], Message, Message]:
    """The prompt's messages, the chosen and the rejected answer of a preference row.

    Raises UnusableRowError, also with `different_prompts`, `identical` and `too_short`.
    """
    chosen, rejected = (_answer(row.get(name)) for name in ("chosen", "rejected"))
    prompts = [turns[:-1] for turns in (chosen, rejected) if len(turns) > 1]
    turns = _listed(row)
    if turns in (chosen, rejected):  # some data sets repeat the whole conversation here
        turns = turns[:-1]
    turns = turns or (prompts[0] if prompts else _asked(row))
    if any(prompt != turns for prompt in prompts):
        raise UnusableRowError("different_prompts", "has answers to different prompts")
    turns = _with_system(row, turns)
    messages = _checked(turns, "user")
    better, worse = (
        _checked([*turns, answer[-1]], "assistant")[-1] for answer in (chosen, rejected)
    )
    if better == worse:
        raise UnusableRowError("identical", "has the same text as `chosen` and `rejected`")
    if min(len(better["content"]), len(worse["content"])) < _MIN_ANSWER_CHARACTERS:
        raise UnusableRowError(
            "too_short", f"has an answer of fewer than {_MIN_ANSWER_CHARACTERS} characters"
        )
    return messages, better, worse


def training_pair(row: Mapping[str, Any]) -> tuple[list[Message], Message, Message]:
    """The prompt's messages, the chosen and the rejected answer of a row of DPO data, unchanged.

    Reads `messages` with one `chosen` and one `rejected` message, as `agentwrite dpo` writes them,
    and two whole conversations as `chosen` and `rejected`, as most data sets on the hub have them.
    Raises UnusableRowError for other shapes.
    """
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if isinstance(chosen, list) and isinstance(rejected, list):
        if not chosen or not rejected or chosen[:-1] != rejected[:-1]:
            raise UnusableRowError("different_prompts", "has answers to different prompts")
        return chosen[:-1], chosen[-1], rejected[-1]
    if isinstance(chosen, Mapping) and isinstance(rejected, Mapping):
        return list(row.get("messages") or []), dict(chosen), dict(rejected)
    raise UnusableRowError(
        "shape", "has `chosen` and `rejected` that are neither two messages nor two conversations"
    )


def shared_prefix(row: Mapping[str, Any]) -> int:
    """The number of characters that both answers of a DPO row share and that carry no loss.

    `agentwrite dpo --steps` writes it as `prefix_characters`. Other rows have none: 0. Raises
    UnusableRowError if the answers do not begin with the same text of that length.
    """
    length = row.get("prefix_characters")
    if length is None:
        return 0
    chosen, rejected = (answer["content"] for answer in training_pair(row)[1:])
    if not isinstance(length, int) or not 0 <= length < min(len(chosen), len(rejected)):
        raise UnusableRowError(
            "shape", f"has {length!r} as `prefix_characters`, which is not a part of its answers"
        )
    if chosen[:length] != rejected[:length]:
        raise UnusableRowError(
            "shape",
            f"has answers that differ in their first {length} characters, which "
            "`prefix_characters` says they share",
        )
    return length


def training_messages(row: Mapping[str, Any]) -> list[Message]:
    """The messages of an SFT row, with their texts unchanged; an empty list if it has none.

    Reads `messages`, as this project writes them, and the other lists of turns of data sets on the
    hub: `conversations` or `conversation`, with `role` and `content` or, as in ShareGPT, `from` and
    `value`. A list of something else is returned as it is.
    """
    turns: Any = next((row[name] for name in _LISTS if row.get(name)), [])
    if row.get("messages") or not isinstance(turns, list):
        return turns  # type: ignore[no-any-return]
    if not all(isinstance(turn, Mapping) for turn in turns):
        return turns
    return [
        {"role": _ROLES.get(_role(turn), _role(turn)), "content": _content(turn)} for turn in turns
    ]


def training_conversations(row: Any, dpo: bool) -> list[list[Message]]:
    """The conversations of a training row, unchanged: one for SFT; for DPO chosen and rejected.

    Raises UnusableRowError if the row cannot be trained on.
    """
    if not isinstance(row, Mapping):
        raise UnusableRowError("shape", "is not an object")
    if dpo:
        prompt, *answers = training_pair(row)
        conversations = [[*prompt, answer] for answer in answers]
    else:
        conversations = [training_messages(row)]
    for messages in conversations:
        _check_training(messages)
    if dpo:
        shared_prefix(row)
    answer, *others = (messages[-1]["content"].strip() for messages in conversations)
    if not answer:
        raise UnusableRowError("empty", "has an empty answer")
    if answer in others:
        raise UnusableRowError("identical", "has the same text as `chosen` and `rejected`")
    return conversations


def _check_training(messages: list[Message]) -> None:
    """Raise UnusableRowError for what chat templates cannot render, or would render wrongly."""
    if not isinstance(messages, list) or not messages:
        raise UnusableRowError("shape", "has no list of messages")
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise UnusableRowError("shape", "has a message without text as its `content`")
        if message.get("role") not in TRAINING_ROLES:
            raise UnusableRowError(
                "role",
                f"has a message of the role {message.get('role')!r}, not of "
                f"{', '.join(TRAINING_ROLES)}",
            )
    roles = [message["role"] for message in messages]
    if roles[-1] != "assistant":
        raise UnusableRowError("turns", "does not end with an answer of the role assistant")
    if "user" not in roles:
        raise UnusableRowError("turns", "has no message of the role user")
    if roles[0] == "assistant":
        raise UnusableRowError("turns", "begins with an answer, which has no prompt")
    for message, following in pairwise(messages):
        if message["role"] == "assistant":
            if following["role"] != "user":  # GLM-4 ends an answer with the user's header
                raise UnusableRowError(
                    "turns",
                    f"has a message of the role {following['role']!r} right after an answer",
                )
            if not message["content"].strip():
                raise UnusableRowError("empty", "has an empty answer")
    for message in messages:
        if token := special_token_in(message["content"]):
            raise UnusableRowError(
                "special_tokens",
                f"has {token} in a text, which a tokenizer takes for the end or start of a turn",
            )
        _check_encoding(message["content"])


def _check_encoding(text: str) -> None:
    if encodable(text) != text:  # no loader could read the file
        raise UnusableRowError("encoding", "has half of a character (a lone surrogate) in a text")


def _listed(row: Mapping[str, Any]) -> list[_Turn]:
    """The turns of a row that has a list of turns; otherwise an empty list."""
    return next((_turns(row[name]) for name in _LISTS if row.get(name)), [])


def _asked(row: Mapping[str, Any]) -> list[_Turn]:
    """The turns up to and including the question, read from the row's separate fields."""
    if isinstance(row.get("prompt"), list):  # as in TRL
        return _turns(row["prompt"])
    question, history = _question(row), row.get("history")
    if not question:
        raise UnusableRowError("shape", "has no question")
    turns = [("user", question)]
    for pair in reversed(history if isinstance(history, list) else []):
        if not isinstance(pair, list | tuple) or list(map(type, pair)) != [str, str]:
            raise UnusableRowError("shape", "has a `history` that is not a list of pairs of text")
        turns = [("user", pair[0]), ("assistant", pair[1]), *turns]
    return turns


def _question(row: Mapping[str, Any]) -> str:
    """The question and its context, from the row's separate fields; "" without them."""
    name = next((name for name in _QUESTIONS if _is_text(row.get(name))), None)
    if name is None:
        return ""
    # a `prompt` is complete; Alpaca's was made from the other fields
    names = [name] if name == "prompt" else [name, *_CONTEXTS]
    return "\n\n".join(row[name] for name in dict.fromkeys(names) if _is_text(row.get(name)))


def _with_system(row: Mapping[str, Any], turns: list[_Turn]) -> list[_Turn]:
    """Add the row's system prompt if the turns have none; remove an empty system turn."""
    if turns[0][0] == "system":
        return turns if turns[0][1].strip() else turns[1:]
    system = next((row[name] for name in _SYSTEMS if _is_text(row.get(name))), None)
    return [("system", system), *turns] if system else turns


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _turns(turns: Any) -> list[_Turn]:
    if not isinstance(turns, list) or not turns:
        raise UnusableRowError("shape", "has no list of turns")
    return [_turn(turn) for turn in turns]


def _turn(turn: Any) -> _Turn:
    if not isinstance(turn, Mapping):
        raise UnusableRowError("shape", "has a turn that is not an object")
    role, content = _role(turn), _content(turn)
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        if all(isinstance(part, str) for part in parts):
            content = "".join(map(str, parts))
    if not isinstance(content, str):
        raise UnusableRowError("shape", "has a turn without text")
    if role not in _ROLES:  # for example a tool's
        raise UnusableRowError("role", f"has a turn of the role {role!r}")
    return _ROLES[role], content


def _role(turn: Mapping[str, Any]) -> str:
    # a Parquet file of both shapes has role and from, content and value, half of them null
    role = turn["role"] if turn.get("role") is not None else turn.get("from")
    return str(role).lower()


def _content(turn: Mapping[str, Any]) -> Any:
    return turn["content"] if turn.get("content") is not None else turn.get("value")


def _lenient_content(turn: Mapping[str, Any]) -> str:
    content = _content(turn)
    if isinstance(content, list):  # text and images
        parts = (part.get("text") for part in content if isinstance(part, Mapping))
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _answer(value: Any) -> list[_Turn]:
    """The turns of an answer, which may include the turns before it."""
    if isinstance(value, str):
        return [("assistant", value)]
    turns = _turns(value if isinstance(value, list) else [value])
    if turns[-1][0] != "assistant":
        raise UnusableRowError("turns", "has an answer that is not the assistant's")
    return turns


def _checked(turns: list[_Turn], last: str) -> list[Message]:
    """Stripped messages, after checking that the turns alternate as chat templates require."""
    dialogue = turns[1:] if turns and turns[0][0] == "system" else turns
    roles = [role for role, _ in dialogue]
    expected = [("user", "assistant")[number % 2] for number in range(len(roles))]
    if not roles or roles != expected or roles[-1] != last:
        raise UnusableRowError(
            "turns", f"does not alternate between user and assistant, ending with the {last}"
        )
    messages = []
    for role, content in turns:
        text = content.strip()
        if not text:
            raise UnusableRowError("empty", f"has an empty turn of the {role}")
        _check_encoding(text)
        if strip_special_tokens(text) != text:
            raise UnusableRowError(
                "special_tokens", "has a special token in a text, which would end the turn there"
            )
        messages.append({"role": role, "content": text})
    return messages
