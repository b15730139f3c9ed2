"""What goes wrong in long text, measured without a judge. Pure.

Heuristics, not verdicts: each says what it looks at, so that a reader can tell a real fault from
an odd style.
"""

import re
from dataclasses import asdict, dataclass

from longwriter_core.text.language import Language, is_written_in, main_language
from longwriter_core.text.length import count_words

# Opening words that refuse. Only short responses count: a story may open with "I'm sorry".
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

# What may follow the final punctuation: quotes, brackets, emphasis, code fences, blanks.
_CLOSERS = "\"'”’»」』)]}）】》*_`~#-— \t\r\n\u3000"
_PAUSES = (",", "，", "、", ";", "；", ":", "：")
_VERSE = 4  # so many lines in a row without final punctuation are a style, not a fault
_FINAL = re.compile(r"([.!?…。！？]|the end|完|终)$", re.IGNORECASE)

_UNIT = re.compile(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+")
_ASCII_UNIT = re.compile(r"[a-zA-Z]+")  # the same where there is nothing else, in half the time
# A window of ten words is the duplicate n-gram of arXiv 2112.11446 (Gopher), table A1; Chinese
# takes about two characters a word.
_WINDOW = {"en": 10, "zh": 20}

_ASKS_FOR = {
    "en": re.compile(
        r"\b(in|into) english\b|[用成]英[文语]|英[文语](撰写|写作|写一|作文)", re.IGNORECASE
    ),
    "zh": re.compile(r"\b(in|into) chinese\b|[用成](中文|汉语)", re.IGNORECASE),
}


@dataclass(frozen=True)
class Diagnostics:
    """Faults of one response: 0 or 1 each, `repetition` a share from 0 to 1."""

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
FAULTS = tuple(name for name in METRICS if name != "repetition")  # 0 or 1 each


def diagnose(prompt: str, response: str, *, reached_limit: bool = False) -> Diagnostics:
    """Every diagnostic of `response` to `prompt`.

    `reached_limit` says that the backend stopped at its token limit, which counts as cut off
    whatever the last character is.
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
    """Whether a text that is not empty ends without final punctuation.

    In a poem or a list that has none at its lines' ends, the last line needs none either.
    """
    lines = [body for line in text.splitlines() if (body := line.rstrip(_CLOSERS))][-_VERSE:]
    if not lines or _FINAL.search(lines[-1]):
        return False
    is_verse = len(lines) == _VERSE and not any(_FINAL.search(line) for line in lines)
    return not is_verse or lines[-1].endswith(_PAUSES)


def is_refusal(text: str) -> bool:
    """Whether a short text opens by declining the request, in English or Chinese."""
    opening = text.strip()[:_REFUSAL_WINDOW]
    return bool(_REFUSAL.search(opening)) and count_words(text) < _REFUSAL_MAX_WORDS


def is_to_be_continued(text: str) -> bool:
    """Whether the last lines put the rest off instead of writing it."""
    return bool(_TO_BE_CONTINUED.search(text.rstrip()[-_TO_BE_CONTINUED_WINDOW:]))


def is_wrong_language(prompt: str, response: str) -> bool:
    """Whether the response is in another language than the prompt asks for."""
    return not is_written_in(response, wanted_language(prompt))


def wanted_language(prompt: str) -> Language:
    """The language that a prompt asks for by name, else the one it is written in."""
    written_in = main_language(prompt)
    other: Language = "en" if written_in == "zh" else "zh"
    return other if _ASKS_FOR[other].search(prompt) else written_in


def repetition(text: str) -> float:
    """Share (0..1) of the words that lie in a run of ten words seen earlier in the text.

    Twenty characters for Chinese. The first occurrence of a passage does not count.
    """
    units = _units(text)
    return sum(end - start for start, end in _repeats(text, units)) / len(units) if units else 0.0


def repeated_passages(text: str) -> list[tuple[int, int]]:
    """Start and end (characters) of every passage that `repetition` counts, in their order."""
    repeats = _repeats(text, _units(text))
    spans = [unit.span() for unit in _UNIT.finditer(text)] if repeats else []
    return [(spans[start][0], spans[end - 1][1]) for start, end in repeats]


def _units(text: str) -> list[str]:
    return (_ASCII_UNIT if text.isascii() else _UNIT).findall(text)


def _repeats(text: str, units: list[str]) -> list[tuple[int, int]]:
    """Start and end (units) of the passages made of runs that were seen before; none overlap."""
    units = list(map(str.lower, units))
    size = _WINDOW[main_language(text)]
    # A hash collision among 200,000 windows has odds of about one in a billion.
    windows = [*map(hash, zip(*(units[start:] for start in range(size)), strict=False))]
    if len(set(windows)) == len(windows):
        return []
    seen: set[int] = set()
    found: list[tuple[int, int]] = []
    for start, window in enumerate(windows):
        if window in seen:
            is_touching = found and start <= found[-1][1]
            first = found.pop()[0] if is_touching else start
            found.append((first, start + size))
        seen.add(window)
    return found
