"""Faults of long texts, measured without a judge.

These are heuristics: each documents what it looks at, so that a reader can tell a real fault from
an unusual style.
"""

import re
from dataclasses import asdict, dataclass

from longwriter_core.text.language import Language, is_written_in, main_language
from longwriter_core.text.length import count_words

# Refusing openings. They count only in short responses, since a story may open with "I'm sorry".
_REFUSAL = re.compile(
    r"\b(i[’']?m (very |so |really )?sorry|i apologi[sz]e|unfortunately)\b.{0,60}"
    r"\b(can[’']?t|cannot|can not|unable|not able|won[’']?t)\b"
    r"|\bi([’']?m| am|) (can[’']?t|cannot|can not|unable to|not able to|won[’']?t) "
    r"(help|assist|write|create|provide|fulfil|fulfill|comply|generate|complete|do that|evaluate)"
    r"|\bas an ai\b.{0,60}\b(can[’']?t|cannot|unable|not able)\b"
    r"|(抱歉|对不起|很遗憾).{0,20}(无法|無法|不能|没法)"
    r"|作为(一个|一名)?(AI|人工智能|语言模型).{0,30}(无法|不能)"
    r"|^\W*我(无法|無法|不能)(为您|为你)?(提供|完成|满足|协助|帮助|生成|撰写|写)",
    re.IGNORECASE | re.DOTALL,
)
_REFUSAL_WINDOW = 300  # characters
_REFUSAL_MAX_WORDS = 200

_TO_BE_CONTINUED = re.compile(
    r"to be continued|continued in (the )?(next|following) (part|chapter|section|response|message)"
    r"|continued in part|[\[(]continue[sd]?\b[^\])\n]{0,40}[\])]\W*$|^\W*continue[sd]?\.\.\.\W*$"
    r"|未完待续|待续|下回分解|（?此处省略|由于篇幅",
    re.IGNORECASE | re.MULTILINE,
)
_TO_BE_CONTINUED_WINDOW = 200  # characters

# Characters that may follow the final punctuation: quotes, brackets, Markdown, blanks.
_CLOSERS = "\"'”’»」』)]}）】》*_`~#-— \t\r\n\u3000"
_PAUSES = (",", "，", "、", ";", "；", ":", "：")
_VERSE_LINES = 4  # this many lines in a row without final punctuation are a poem or a list
_FINAL_PUNCTUATION = re.compile(r"([.!?…。！？]|the end|完|终)$", re.IGNORECASE)

_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+")
_ASCII_WORD = re.compile(r"[a-zA-Z]+")  # the same for ASCII text, twice as fast
# Duplicate n-grams of ten words as in arXiv 2112.11446 (Gopher), table A1. A Chinese word has about
# two characters.
_REPEAT_WINDOW = {"en": 10, "zh": 20}

_ASKS_FOR = {
    "en": re.compile(
        r"\b(in|into) english\b|[用成]英[文语]|英[文语](撰写|写作|写一|作文)", re.IGNORECASE
    ),
    "zh": re.compile(r"\b(in|into) chinese\b|[用成](中文|汉语)", re.IGNORECASE),
}


@dataclass(frozen=True)
class Diagnostics:
    """Faults of one response: each is 0 or 1, except `repetition`, a share from 0 to 1."""

    empty: float
    cut_off: float
    repetition: float
    wrong_language: float
    refusal: float
    to_be_continued: float

    def as_dict(self) -> dict[str, float]:
        """Metric name -> value."""
        return asdict(self)


METRICS = tuple(Diagnostics.__dataclass_fields__)
FAULTS = tuple(name for name in METRICS if name != "repetition")  # those that are 0 or 1


def diagnose(prompt: str, response: str, *, reached_limit: bool = False) -> Diagnostics:
    """Every diagnostic of `response` to `prompt`.

    `reached_limit`: the backend stopped at its token limit, so the response is cut off, whatever
    its last character is.
    """
    return Diagnostics(
        empty=float(not response.strip()),
        cut_off=float(reached_limit or is_cut_off(response)),
        repetition=repetition(response),
        wrong_language=float(is_wrong_language(prompt, response)),
        refusal=float(is_refusal(response)),
        to_be_continued=float(is_to_be_continued(response)),
    )


def is_cut_off(text: str) -> bool:
    """Whether a non-empty text ends without final punctuation.

    The last line of a poem or list needs none if the lines before it have none.
    """
    lines = [body for line in text.splitlines() if (body := line.rstrip(_CLOSERS))][-_VERSE_LINES:]
    if not lines or _FINAL_PUNCTUATION.search(lines[-1]):
        return False
    is_verse = len(lines) == _VERSE_LINES and not any(
        _FINAL_PUNCTUATION.search(line) for line in lines
    )
    return not is_verse or lines[-1].endswith(_PAUSES)


def is_refusal(text: str) -> bool:
    """Whether a short text opens by refusing the request, in English or Chinese."""
    opening = text.strip()[:_REFUSAL_WINDOW]
    return bool(_REFUSAL.search(opening)) and count_words(text) < _REFUSAL_MAX_WORDS


def is_to_be_continued(text: str) -> bool:
    """Whether the text ends by announcing the rest instead of writing it."""
    return bool(_TO_BE_CONTINUED.search(text.rstrip()[-_TO_BE_CONTINUED_WINDOW:]))


def is_wrong_language(prompt: str, response: str) -> bool:
    """Whether the response is in another language than the prompt asks for."""
    return not is_written_in(response, wanted_language(prompt))


def wanted_language(prompt: str) -> Language:
    """The language that a prompt asks for by name, otherwise the one it is written in."""
    written_in = main_language(prompt)
    other: Language = "en" if written_in == "zh" else "zh"
    return other if _ASKS_FOR[other].search(prompt) else written_in


def repetition(text: str) -> float:
    """Share (0..1) of the words that are in a run of ten words which occurred earlier in the text.

    For Chinese, in a run of twenty characters. The first occurrence of a passage does not count.
    """
    words = _words(text)
    return sum(end - start for start, end in _repeats(text, words)) / len(words) if words else 0.0


def repeated_passages(text: str) -> list[tuple[int, int]]:
    """Start and end, in characters, of the passages that `repetition` counts, in order."""
    repeats = _repeats(text, _words(text))
    spans = [word.span() for word in _WORD.finditer(text)] if repeats else []
    return [(spans[start][0], spans[end - 1][1]) for start, end in repeats]


def _words(text: str) -> list[str]:
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text)


def _repeats(text: str, words: list[str]) -> list[tuple[int, int]]:
    """Start and end, in words, of the passages that occurred before, merged if they touch."""
    words = list(map(str.lower, words))
    size = _REPEAT_WINDOW[main_language(text)]
    # A hash collision among 200,000 windows has odds of about one in a billion.
    windows = [*map(hash, zip(*(words[start:] for start in range(size)), strict=False))]
    if len(set(windows)) == len(windows):
        return []
    seen: set[int] = set()
    repeats: list[tuple[int, int]] = []
    for start, window in enumerate(windows):
        if window in seen:
            is_touching = repeats and start <= repeats[-1][1]
            first = repeats.pop()[0] if is_touching else start
            repeats.append((first, start + size))
        seen.add(window)
    return repeats
