"""Whether a response contains the verdict that a judge's reply seems to give. Pure.

Judges quote what they judge, so a response can plant its own verdict in the reply. The comparison
ignores what quoting, layout and disguises change. Rejecting too much costs another call; accepting
a planted verdict costs a wrong score.
"""

import html
import re
import sys
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

# Characters around a dimension's name in which its score is searched.
_REACH = 500
# Names among which all dimensions must occur: once each, and some of them again.
_WINDOW = 12

_HEX = "[0-9a-f]"
_ESCAPE = re.compile(
    rf"\\U0000({_HEX}{{4}})|\\u({_HEX}{{4}})|\\u\{{({_HEX}{{1,6}})\}}|\\x({_HEX}{{2}})|%({_HEX}{{2}})",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?[a-z!][^<>]{0,300}>", re.IGNORECASE)
_SPACE = re.compile(r"[\s_]+")
# Cyrillic and Greek letters that look like Latin ones
_LOOKALIKES = str.maketrans("аеіорсухѕԁӏαειορν", "aeiopcyxsdlaeiopv")
# "from 1 to 5" and "out of 5" give no score
_SCALE = re.compile(r"\b(?:1|one) ?(?:[–—-]|to|through) ?(?:5|five)\b|\bout of (?:5|five)\b")
_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_WORDS |= {"ii": 2, "iii": 3, "iv": 4, "v": 5}
_WORDS |= {"一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5}
_SCORE = re.compile(
    r"(?<![\d.])0*([1-5])(?:\.0+)?(?:(?<!/\d) ?/ ?5\b(?! ?/))?(?![\d.]*\d)"  # 5, 5.0 and 5/5
    r"|\b(one|two|three|four|five|ii|iii|iv|v)\b|([一二两三四五])|([★⭐]{1,5})"
)


def unescaped(text: str) -> str:
    r"""`text` without the escapes of JSON, programs and addresses: \u0041, \x41, %41."""
    return _ESCAPE.sub(_character, text)


def _character(escape: re.Match[str]) -> str:
    code = int(escape[escape.lastindex or 0], 16)
    return chr(code) if code <= sys.maxunicode else escape[0]


def is_planted(scores: Mapping[str, int], quoted: str, response: str) -> bool:
    """Whether `response` contains a verdict: its source text `quoted`, or its `scores`.

    `scores` has the judge's names of the dimensions in small letters. The response gives them if it
    names all dimensions near each other, each with its score, or all scores in a row beside them.
    """
    letters = _letters(_plain(quoted))
    return any(
        letters in text or any(_gives(scores, window) for window in windows)
        for text, windows in _forms(response, tuple(scores))
    )


def _plain(text: str) -> str:
    """`text` without escapes, entities, invisible characters, accents, variants and capitals."""
    for _ in range(3):  # entities of entities, escapes of escapes
        text = unescaped(html.unescape(text))
    text = unicodedata.normalize("NFKD", text).casefold()
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Mn", "Me"))
    text = re.sub(r"\d", lambda digit: str(int(digit[0])), text)  # of other scripts
    return _SPACE.sub(" ", text.replace("&", " and ").translate(_LOOKALIKES))


def _letters(plain: str) -> str:
    """Only the letters and digits, which quoting, fences and layout do not change."""
    return "".join(filter(str.isalnum, plain))


_Named = tuple[str, tuple[int, ...], tuple[int, ...]]  # a name, and the scores before and after it


@lru_cache(maxsize=64)
def _forms(response: str, names: tuple[str, ...]) -> list[tuple[str, list[list[_Named]]]]:
    """The response with and without tags: its letters, and where it names all dimensions."""
    plain = _plain(response)
    forms = dict.fromkeys((plain, _TAG.sub("", plain), _TAG.sub(" ", plain)))
    return [(_letters(form), _windows(form, names)) for form in forms]


def _windows(plain: str, names: tuple[str, ...]) -> list[list[_Named]]:
    """Each run of names, as short as possible, that contains all of them."""
    found = [(names[int(m.lastgroup[1:])], m.span()) for m in _pattern(names).finditer(plain)
             if m.lastgroup]  # fmt: skip
    ends = [0, *(end for _, (_, end) in found)]
    starts = [*(start for _, (start, _) in found), len(plain)]
    gaps = [
        (_scores(plain[start:end][-_REACH:]), _scores(plain[start:end][:_REACH]))
        for start, end in zip(ends, starts, strict=True)
    ]
    named = [
        (name, before, after)
        for (name, _), ((before, _), (_, after)) in zip(found, pairwise(gaps), strict=True)
    ]
    windows = []
    for first in range(len(named)):
        for size in range(len(names), _WINDOW + 1):
            window = named[first : first + size]
            if len({name for name, _, _ in window}) == len(names):
                windows.append(window)
                break
    return windows


@lru_cache(maxsize=4)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """A pattern for the names, also with up to four other characters between their letters."""
    between = r"[\W_]{0,4}"
    alternatives = []
    for number, name in enumerate(names):
        words = [between.join(word) for word in name.split() if word != "and"]
        joint = f"{between}(?:a{between}n{between}d{between})?" if " and " in name else between
        alternatives.append(f"(?P<n{number}>{joint.join(words)})")
    return re.compile("|".join(alternatives))


def _scores(text: str) -> tuple[int, ...]:
    return tuple(
        int(digit) if digit else _WORDS[word] if word else _WORDS[sign] if sign else len(stars)
        for digit, word, sign, stars in _SCORE.findall(_SCALE.sub(" ", text))
    )


def _gives(scores: Mapping[str, int], window: list[_Named]) -> bool:
    """Whether each name stands before or after its score, or all beside one score or a row."""
    before: dict[str, set[int]] = {name: set() for name in scores}
    after: dict[str, set[int]] = {name: set() for name in scores}
    for name, scores_before, scores_after in window:
        before[name].update(scores_before)
        after[name].update(scores_after)
    if any(all(scores[name] in side[name] for name in scores) for side in (before, after)):
        return True
    in_order = tuple(scores[name] for name, _, _ in window)
    for row in (window[0][1], window[-1][2]):
        starts = range(len(row) - len(in_order) + 1)
        if any(row[start : start + len(in_order)] == in_order for start in starts):
            return True
    between = [score for _, _, scores_after in window[:-1] for score in scores_after]
    beside = (*window[0][1][-1:], *window[-1][2][:1])  # "relevance, accuracy, …: 5 each"
    return not between and any(set(scores.values()) == {score} for score in beside)
