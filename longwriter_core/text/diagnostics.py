"""Faults of long texts, measured without a judge.

These are heuristics. Each one documents what it measures, so that a reader can tell a real fault
from an unusual style.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from longwriter_core.text.endings import is_cut_off, is_to_be_continued
from longwriter_core.text.language import is_written_in, language_of, main_language
from longwriter_core.text.refusals import is_refusal
from longwriter_core.text.style import WORD, diversity, slop, words_of
from longwriter_core.text.thinking import has_leftover_thinking

# Duplicate n-grams of ten words as in arXiv 2112.11446 (Gopher), table A1. A Chinese word has about
# two characters.
_REPEAT_WINDOW = {"en": 10, "zh": 20}

# The languages that a prompt may ask for by name, in English and in Chinese.
_NAMES = {
    "ar": ("Arabic", "阿拉伯"), "cs": ("Czech", "捷克"), "da": ("Danish", "丹麦"),
    "de": ("German", "德"), "el": ("Greek", "希腊"), "en": ("English", "英"),
    "es": ("Spanish", "西班牙"), "fi": ("Finnish", "芬兰"), "fr": ("French", "法"),
    "hi": ("Hindi", "印地"), "hu": ("Hungarian", "匈牙利"), "id": ("Indonesian", "印尼"),
    "it": ("Italian", "意大利"), "ja": ("Japanese", "日"), "ko": ("Korean", "韩"),
    "nl": ("Dutch", "荷兰"), "no": ("Norwegian", "挪威"), "pl": ("Polish", "波兰"),
    "pt": ("Portuguese", "葡萄牙"), "ro": ("Romanian", "罗马尼亚"), "ru": ("Russian", "俄"),
    "sv": ("Swedish", "瑞典"), "th": ("Thai", "泰"), "tr": ("Turkish", "土耳其"),
    "uk": ("Ukrainian", "乌克兰"), "vi": ("Vietnamese", "越南"), "zh": ("Chinese", "中"),
}  # fmt: skip
_CODES = {name.lower(): code for code, names in _NAMES.items() for name in names} | {"汉": "zh"}
_ASKS_FOR = re.compile(
    rf"\b(?:in|into) (?:\w+ )?({'|'.join(name for name, _ in _NAMES.values())})\b(?-i:(?! [A-Z]))"
    rf"|[用成以]({'|'.join(name for _, name in _NAMES.values())}|汉)[文语]"
    rf"|({'|'.join(name for _, name in _NAMES.values())})[文语](?:撰写|写作|写一|作文|回答)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Diagnostics:
    """Faults and style of one response.

    All are 0 or 1, except `repetition` and `diversity`, which are shares from 0 to 1, and `slop`,
    which is a rate per 1,000 words. A higher value is better only for `diversity`.
    """

    empty: float
    cut_off: float
    repetition: float
    wrong_language: float
    refusal: float
    to_be_continued: float
    leftover_thinking: float
    slop: float
    diversity: float

    def as_dict(self) -> dict[str, float]:
        """Metric name -> value."""
        return dict(vars(self))


METRICS = tuple(Diagnostics.__dataclass_fields__)
# The metrics that are 0 or 1.
FAULTS = tuple(name for name in METRICS if name not in ("repetition", "slop", "diversity"))


def diagnose(prompt: str, response: str, *, reached_limit: bool = False) -> Diagnostics:
    """Every diagnostic of `response` to `prompt`.

    `reached_limit` means that the backend stopped at its token limit. The response then counts as
    cut off, however it ends.
    """
    return Diagnostics(
        empty=float(not response.strip()),
        cut_off=float(reached_limit or is_cut_off(response)),
        repetition=repetition(response),
        wrong_language=float(is_wrong_language(prompt, response)),
        refusal=float(is_refusal(response)),
        to_be_continued=float(is_to_be_continued(response)),
        leftover_thinking=float(has_leftover_thinking(response)),
        slop=slop(response),
        diversity=diversity(response),
    )


def is_wrong_language(prompt: str, response: str) -> bool:
    """Whether the response is in another language than the prompt asks for."""
    return not is_written_in(response, wanted_language(prompt))


def wanted_language(prompt: str) -> str:
    """The language that a prompt asks for by name, otherwise the one it is written in.

    A code such as "en" or "zh".
    """
    if named := _ASKS_FOR.search(prompt):
        return _CODES[next(filter(None, named.groups())).lower()]
    return language_of(prompt)


def repetition(text: str) -> float:
    """Share (0..1) of the words that belong to a run of ten words that occurred earlier.

    In Chinese, a run is twenty characters. The first occurrence of a passage does not count.
    """
    words = _lowercase_words(text)
    return sum(end - start for start, end in _repeats(text, words)) / len(words) if words else 0.0


def repeated_passages(text: str) -> list[tuple[int, int]]:
    """Start and end, in characters, of the passages that `repetition` counts, in order."""
    repeats = _repeats(text, _lowercase_words(text))
    spans = [word.span() for word in WORD.finditer(text)] if repeats else []
    return [(spans[start][0], spans[end - 1][1]) for start, end in repeats]


def _lowercase_words(text: str) -> Sequence[str]:
    # Lower case can change how many words a text outside ASCII has: "İ" becomes two characters.
    return words_of(text.lower()) if text.isascii() else [*map(str.lower, words_of(text))]


def _repeats(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Start and end, in words, of the passages that occurred before, merged if they touch."""
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
