"""What a chat request asks for: a long text to plan and write, or an answer of the model. Pure.

Writing costs money, so only the last user turn decides, and only by its own words: texts that it
quotes or wants to have worked on ("translate this 5,000-word article") are no requests to write.
In doubt, the request goes to the model as it is.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentwrite.thresholds import MAX_INSTRUCTION_CHARACTERS, MAX_INSTRUCTION_WORDS
from longwriter_core.text.length import count_words
from longwriter_core.text.required_length import required_length

# Fields of a request that are the server's own and never passed on.
_SERVER_FIELDS = ("model", "stream", "stream_options", "n")
# What a planned text cannot offer; each with the values that ask for nothing.
_NOT_FOR_TEXTS: dict[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "tools": (),
    "functions": (),
    "logprobs": (False,),
    "modalities": (["text"],),
    "audio": (),
}
_MAX_STOPS = 16

_BLOCK_QUOTE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
# Where a document or a quotation begins; `_closing` says how it ends.
_DOCUMENT_START = re.compile(
    r"^(?P<fence>`{3}|~{3})|<(?P<tag>[A-Za-z][\w-]*)(?:\s[^<>]*)?>|\"{3}", re.MULTILINE
)
_QUOTATION_START = re.compile('["“「『《«]')
_QUOTATION_MARKS = '"“”「」『』《》«» \n'
_QUOTATION_ENDS = {'"': '"', "“": "”", "「": "」", "『": "』", "《": "》", "«": "»"}
_PARAGRAPHS = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])(?=\s|[^\x00-\x7f])|\n|(?<=[。！？])")

_POLITE = (
    r"\W*(?:(?:please|kindly|now|then|ok|okay|hi|hello|hey|can you|could you|would you|will you|"
    r"i want you to|i need you to|i'd like you to|help me(?: to)?)\b[\s,:!]*)*"
)
# Tasks that take a text and return it changed, judged or measured: their length is the text's.
_WORK_ON = re.compile(
    rf"\A{_POLITE}(?:translate|proofread|edit|correct|fix|check|review|critique|grade|score|rate|"
    r"evaluate|analy[sz]e|extract|classify|count|read|compare|format|clean up|polish|tell me|"
    r"find|split|explain|give me feedback|what|which|who|when|where|why|how|is|are|was|were|does|"
    r"do|did|should|has|have)\b"
    r"|\A\W*(?:请|请你|帮我|请帮我|麻烦)*\s*(?:翻译|校对|修改|润色|检查|分析|评价|评分|解释|提取|统计|"
    r"阅读|比较|什么|为什么|怎么|如何|多少|哪)",
    re.IGNORECASE,
)
# Tasks that make a text shorter: the length that follows "in" or "to" is what is asked for.
_SHORTEN = re.compile(
    rf"\A{_POLITE}(?:summari[sz]e|condense|shorten|abridge|outline|cut|reduce|trim|compress)\b"
    r"|\A\W*(?:请|请你|帮我|请帮我|麻烦)*\s*(?:总结|概括|缩写|压缩|精简|摘要|归纳)",
    re.IGNORECASE,
)
_TARGET = re.compile(r"\b(?:in|to|into|as|within)\b|用|成|为|以", re.IGNORECASE)
# "my 10,000-word essay", "this 3,000-word report": a text that exists already.
_EXISTING = re.compile(
    r"\b(?:my|this|these|that|those|your|his|her|its|our|their|existing|attached|above|previous)\s+"
    r"(?:(?!(?:as|into|to|in|an?|with|of|about)\b)\w+\s+){0,2}?[\d,.]+k?[\s-]*words?\b|[这那][篇个部本份章]\s*[\d,.万千]+\s*字",
    re.IGNORECASE,
)
# A sentence that says something about a text, and does not ask for one.
_STATES = re.compile(
    r"\b(?:wrote|written|has|have|had|having|was|were|is|are|read|thanks?|congratulat\w+|finished)\b"
    r"|[有了达][约近超过到]*\s*[\d,.万千]+\s*字|谢",
    re.IGNORECASE,
)
_ASKS_TO_WRITE = re.compile(
    r"\b(?:write|draft|compose|create|produce|generate|develop|prepare|craft|make|expand|need|want|"
    r"require[ds]?|should|must|at least|minimum|limit|give me|provide|continue|rewrite|turn)\b"
    r"|[写撰创编扩续需应]|生成|字数|篇幅|要求|不少于",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ChatRequest:
    """A request whose fields are valid. `words` is the length that it asks to be written."""

    passed: Mapping[str, Any]  # the fields that the model gets
    instruction: str  # the conversation as one text
    words: int | None
    is_streamed: bool
    wants_usage: bool
    seed: str
    stop: tuple[str, ...]

    def check_planned(self, max_words: int) -> None:
        """Raise ValueError where a planned text cannot be what the request asks for."""
        if (self.words or 0) > max_words:
            raise ValueError(
                f"{self.words:,} words are asked for, and this server writes at most "
                f"{max_words:,} (--max-words)"
            )
        for name, harmless in _NOT_FOR_TEXTS.items():
            if (value := self.passed.get(name)) and value not in harmless:
                raise ValueError(
                    f"{name} cannot be combined with a request for {self.words:,} words, which is "
                    "planned and written in sections: leave it out"
                )


def read_request(asked: Any) -> ChatRequest:
    """Check the fields that the server itself uses. Raises ValueError."""
    if not isinstance(asked, dict):
        raise ValueError("not an object")
    if asked.get("n") not in (None, 1):
        raise ValueError("n must be 1: ask several times, with another seed each")
    turns = _turns(asked.get("messages"))
    options = asked.get("stream_options")
    passed = {name: value for name, value in asked.items() if name not in _SERVER_FIELDS}
    return ChatRequest(
        passed={name: value for name, value in passed.items() if value not in (None, [])},
        instruction=_as_one_text(turns),
        words=requested_words(turns[-1][1]),
        is_streamed=bool(asked.get("stream")),
        wants_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        seed=str(asked.get("seed", "")),
        stop=_stops(asked.get("stop")),
    )


def requested_words(turn: str) -> int | None:
    """The length that a user's turn asks to be written, in words; None where in doubt."""
    own = own_words(turn)
    if len(own) > MAX_INSTRUCTION_CHARACTERS or count_words(own) > MAX_INSTRUCTION_WORDS:
        return None  # a text to be worked on, as for `select`
    paragraphs = [part.strip() for part in _PARAGRAPHS.split(own) if part.strip()]
    if not paragraphs:
        return None
    # Instructions stand before or after the text that they are about.
    for task in {_first_sentence(paragraphs[0]), _first_sentence(paragraphs[-1])}:
        if _WORK_ON.match(task) and not _asks_to_write(task):
            return None
        if _SHORTEN.match(task):
            lengths = [required_length(task[target.end() :]) for target in _TARGET.finditer(task)]
            return next((length for length in lengths if length), None)
    sentences = _SENTENCE_END.split(_EXISTING.sub(" ", own))
    return required_length(
        "\n".join(
            sentence
            for sentence in sentences
            if _ASKS_TO_WRITE.search(sentence) or not _STATES.search(sentence)
        )
    )


def own_words(turn: str) -> str:
    """A turn without what it quotes: fences, block quotes, tagged documents and quotations.

    A turn that is nothing but one quotation is the user's own.
    """
    text = _without(_DOCUMENT_START, _BLOCK_QUOTE.sub("", turn))
    unquoted = _without(_QUOTATION_START, text)
    return unquoted if unquoted.strip("…\n .") else text.strip(_QUOTATION_MARKS)


def _without(start: re.Pattern[str], text: str) -> str:
    """`text` without the spans that `start` begins. Takes linear time for any input."""
    kept, at, missing = [], 0, set()
    for opening in start.finditer(text):
        if opening.start() < at:
            continue
        closing = _closing(opening)
        end = -1 if closing in missing else text.find(closing, opening.end())
        if end < 0:
            missing.add(closing)
            if closing.startswith("\n"):  # an open fence goes to the end
                end = len(text)
            else:
                continue
        kept.append(text[at : opening.start()])
        at = end + len(closing)
    return " … ".join([*kept, text[at:]])


def _closing(opening: re.Match[str]) -> str:
    """What ends the span that begins with a match."""
    groups = opening.groupdict()
    if fence := groups.get("fence"):
        return f"\n{fence}"
    if tag := groups.get("tag"):
        return f"</{tag}>"
    return _QUOTATION_ENDS.get(opening[0], opening[0])


def _first_sentence(paragraph: str) -> str:
    return next(filter(str.strip, _SENTENCE_END.split(paragraph)), "")


def _asks_to_write(task: str) -> bool:
    """Whether a task also asks for a text: "Read this and write 5,000 words about it"."""
    writes = re.search(r"\b(?:and|then|to) (?:write|draft|compose|expand)\b|[写扩续]", task)
    return bool(writes) and not task.rstrip().endswith(("?", "？"))


def _turns(messages: Any) -> list[tuple[str, str]]:
    """The role and the text of each message. Raises ValueError."""
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages must be a list with a user message")
    turns = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            with contextlib.suppress(AttributeError, KeyError, TypeError):
                content = "".join(part["text"] for part in content if part["type"] == "text")
        if not isinstance(content, str) or not isinstance(message.get("role"), str):
            raise ValueError("every message must have a role, and text as its content")
        turns.append((message["role"], content))
    if turns[-1][0] != "user" or not turns[-1][1].strip():
        raise ValueError("the last message must be the user's, and not empty")
    return turns


def _as_one_text(turns: list[tuple[str, str]]) -> str:
    """One user message stands for itself; several messages keep who said them."""
    if len(turns) == 1:
        return turns[0][1]
    if len(turns) == 2 and turns[0][0] in ("system", "developer"):
        return "\n\n".join(text for _, text in turns if text.strip())
    return "\n\n".join(f"{role.capitalize()}: {text}" for role, text in turns)


def _stops(stop: Any) -> tuple[str, ...]:
    """The stop sequences; clients such as lm_eval send an empty list. Raises ValueError."""
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ValueError("stop must be a text or a list of texts")
    if len(stops) > _MAX_STOPS:
        raise ValueError(f"stop can hold {_MAX_STOPS} texts, not {len(stops)}")
    return tuple(filter(None, stops))
