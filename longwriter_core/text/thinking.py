"""Separates the thinking of reasoning models from their answer, in all common formats. Pure.

<think>…</think>         DeepSeek, Qwen, GLM
<thinking>…</thinking>   prompted models
[THINK]…[/THINK]         Magistral
◁think▷…◁/think▷         Kimi
<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…   gpt-oss

Many chat templates put the opening tag into the prompt, so the reply has only the closing tag. A
reply that was cut while thinking has no closing tag and no answer. Most servers separate the
thinking themselves and send it in a field of the message (`split_message`).

Thinking comes first. A later tag is therefore part of a text about tags, and is kept.
"""

import re
from collections.abc import Mapping
from typing import Any

FORMATS = {
    "think": ("<think>", "</think>"),
    "thinking": ("<thinking>", "</thinking>"),
    "magistral": ("[THINK]", "[/THINK]"),
    "kimi": ("◁think▷", "◁/think▷"),
}
_TAGS = tuple(FORMATS.values())
_ANY_TAG = "|".join(re.escape(tag) for pair in _TAGS for tag in pair)
# At the start of a line, or what is left of a channel of gpt-oss without its special tokens.
_LEFTOVER = re.compile(
    rf"^[ \t]*(?:{_ANY_TAG}|<\|channel\|>)|assistant(?:analysis|commentary|final)(?=[A-Z一-鿿])",
    re.MULTILINE,
)

_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)）」]*\s*\Z")
_SENTENCE_START = re.compile(r"\s*[\"'“‘(（「#*]*[A-Z0-9一-鿿]")

_CHANNEL = re.compile(r"\s*(?:<\|start\|>assistant)?<\|channel\|>(\w+)[^<]{0,80}<\|message\|>")
_FINAL = re.compile(r"<\|start\|>assistant<\|channel\|>final[^<]{0,80}<\|message\|>")
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call)\|>")
# gpt-oss decoded without its special tokens
_PLAIN_CHANNELS = re.compile(r"\s*analysis(?=\S)(.*?)assistantfinal(.*)", re.DOTALL)
_PLAIN_THINKING = re.compile(r"\s*analysis(?=[A-Z一-鿿])(.*)", re.DOTALL)  # cut while thinking


def split_thinking(text: str) -> tuple[str, str]:
    """The thinking at the start of a reply, and the answer after it; "" for what is missing.

    A text without thinking is returned unchanged as the answer.
    """
    if channels := _split_channels(text):
        return channels
    thoughts: list[str] = []
    answer = text
    while parts := _first_thought(answer, is_first=not thoughts):
        thought, answer = parts
        thoughts.append(thought.strip())
    return "\n\n".join(thoughts), answer


def with_thinking(thought: str, answer: str, format: str) -> str:
    """A reply that thinks before it answers, in one of FORMATS. `split_thinking` takes it apart."""
    opening, closing = FORMATS[format]
    return f"{opening}\n{thought}\n{closing}\n\n{answer}"


def without_thinking(text: str) -> str:
    """The answer in a reply; "" if the reply ends before its thinking does."""
    return split_thinking(text)[1]


def has_leftover_thinking(text: str) -> bool:
    """Whether a line of an answer begins with a thinking tag that `split_thinking` has kept.

    This detects broken replies with thinking between paragraphs. Prose that mentions a tag within a
    sentence does not count.
    """
    return bool(_LEFTOVER.search(text))


def split_message(message: Mapping[str, Any]) -> tuple[str, str]:
    """The thinking and the content of a chat message, as the server separated them.

    Reads `reasoning_content` (DeepSeek, vLLM, SGLang), `reasoning` (OpenRouter, vLLM) and typed
    parts of `content` (Mistral). Tags within the content are kept: see `split_thinking`. Raises
    LookupError, TypeError or AttributeError for a malformed message.
    """
    thinking = next(
        (
            message[name]
            for name in ("reasoning_content", "reasoning")
            if isinstance(message.get(name), str)
        ),
        "",
    )
    content = message.get("content") or ""
    if isinstance(content, str):
        return thinking, content
    answer = "".join(part["text"] for part in content if part["type"] == "text")
    return thinking or "".join(map(_thinking_of, content)), answer


def _thinking_of(part: Mapping[str, Any]) -> str:
    """The thinking in a typed part of a message's content."""
    if part["type"] not in ("thinking", "reasoning"):
        return ""
    inner = part.get(part["type"]) or part.get("text") or ""
    return inner if isinstance(inner, str) else "".join(item.get("text", "") for item in inner)


def _first_thought(text: str, is_first: bool) -> tuple[str, str] | None:
    """The thought at the start of `text`, and the rest; None if there is no thought."""
    start = text.lstrip()
    for opening, closing in _TAGS:
        if start.startswith(opening):
            thought, _, rest = start.removeprefix(opening).partition(closing)
            return thought, rest.lstrip()
        # The opening tag may be in the prompt. Then the closing tag begins or ends a line, or
        # stands between two sentences. A tag within a sentence belongs to a text about tags.
        thought, end, rest = text.partition(closing)
        if is_first and end and opening not in thought:
            begins_line = not thought.rpartition("\n")[2].strip()
            ends_line = not rest.partition("\n")[0].strip()
            is_between = bool(_SENTENCE_END.search(thought) and _SENTENCE_START.match(rest))
            if begins_line or ends_line or is_between:
                return thought, rest.lstrip()
    return None


def _split_channels(text: str) -> tuple[str, str] | None:
    """The same for gpt-oss; None for a text without its channels."""
    if plain := _PLAIN_CHANNELS.fullmatch(text):
        return plain[1].strip(), plain[2].lstrip()
    if plain := _PLAIN_THINKING.fullmatch(text):
        return plain[1].strip(), ""
    first, final = _CHANNEL.match(text), _FINAL.search(text)
    if not first and not final:
        return None
    if first and first[1] == "final":
        thinking, answer = "", text[first.end() :]
    elif final:  # the first header may be in the prompt
        thinking, answer = text[first.end() if first else 0 : final.start()], text[final.end() :]
    else:
        return text[first.end() if first else 0 :].strip(), ""
    thinking = _CHANNEL.sub("\n\n", _END_OF_MESSAGE.sub("", thinking))
    return thinking.strip(), _END_OF_MESSAGE.split(answer)[0].strip()
