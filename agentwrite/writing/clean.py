"""Remove everything from a section that is not prose. Pure; each rule has a name and a count.

The built-in prompts ask for the section between <section_text> tags, so that remarks of the model
stay outside. The rules below them are for replies without tags, for other prompts, and for what
models put between the tags anyway. They look at the first and last line only, never at the prose in
between. scripts/measure_cleaning.py measures what they miss and what they damage.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from agentwrite.writing.remarks import (
    BARE_OPENING,
    CLOSING,
    CLOSING_ZH,
    COUNT_BEHIND_TEXT,
    COUNT_LABEL,
    END_MARKER,
    IDENTIFIER,
    LABELS,
    MAIN_POINT,
    MAX_LINE,
    NOTES,
    NUMBER,
    OPENING,
    OPENING_ZH,
    PLAN_LINE,
    ROLE,
    WORD_COUNT,
    Line,
)
from longwriter_core.text.length import count_words
from longwriter_core.text.numbers import CHINESE_NUMBER, narrow
from longwriter_core.text.numbers import number as parse_number
from longwriter_core.text.special_tokens import strip_special_tokens
from longwriter_core.text.thinking import without_thinking

TAG = "section_text"

_MAX_NOTES_LINES = 40
_MAX_NOTES = 1 / 3  # share of the words; a count within the text does not begin notes
_LETTER = re.compile(r"\A\W*(?:dear\b|尊敬的|亲爱的|敬爱的)", re.IGNORECASE)

# Wrappers

_TAGGED = re.compile(rf"<{TAG}>(?P<text>.*?)(?:</{TAG}>|\Z)", re.DOTALL | re.IGNORECASE)
_ANY_TAG = re.compile(rf"</?{TAG}>", re.IGNORECASE)
_FENCED = re.compile(
    r"\A(?P<fence>`{3,}|~{3})[ \t]*(?:markdown|md|text|txt|plaintext)?[ \t]*\n"
    r"(?P<text>.*?)\n?(?P=fence)\Z",
    re.DOTALL,
)
_FENCED_PART = re.compile(
    r"(?:\A|\n)```[ \t]*(?:markdown|md|text|txt|plaintext)?[ \t]*\n(?P<text>.*?)\n"
    r"```[ \t]*(?=\n|\Z)",
    re.DOTALL,
)
_PROSE = re.compile(r"[#*\"'“‘「『《A-Z\u4e00-\u9fff].*[.!?…。！？\"'”’」』]\**", re.DOTALL)
_MAX_REMARK_WORDS = 25  # before and after a fenced text
_WRAPPED = re.compile(
    r"\A<(?P<tag>section|paragraph|text|content|answer|output|response|chapter|正文|段落)>"
    r"(?P<text>[^<>]*)</(?P=tag)>\Z"
)

# Lines

_RULE_LINE = re.compile(r"[ \t]*(?:(?:[-*_=—–][ \t]*){3,}|[＊※~]{3,})[ \t]*\Z")
_HEADING = re.compile(
    rf"(?:(?P<level>\#{{1,6}})[ \t]+(?P<title>[^\n]+)|\*\*(?P<bold>[^\n*]{{1,80}})\*\*"
    rf"|(?P<plain>(?:chapter|part)[ \t]+{NUMBER}\b[^\n]{{0,80}}"
    rf"|第{NUMBER}[章节回部卷][^\n]{{0,40}}))[ \t]*",
    re.IGNORECASE,
)
_CONTINUED = re.compile(r"[\s(（\[【]*(?:continued|cont\.?|续)[\s)）\]】]*\Z", re.IGNORECASE)

_MAX_TITLE = 100  # characters
_MIN_OVERLAP = 30  # characters; texts share shorter passages by chance
_TAIL = 4_000  # characters before the section that are searched for an overlap
# Shorter paragraphs, such as dialogue, may be repeated. In bytes: a Chinese character has three.
_MIN_PARAGRAPH = 30
_MIN_REPEATED = 200  # characters repeated from anywhere in the text; less only from its end
_PROSE_WORDS = 5  # a fenced text of fewer words is kept as it is


@dataclass(frozen=True)
class Cleaned:
    """A cleaned section, and how often each rule removed something."""

    text: str
    counts: Counter[str] = field(default_factory=Counter)
    removed: tuple[tuple[str, str], ...] = ()  # (rule, removed text); thinking is not recorded


def clean(raw: str, before: str = "", *, is_reply: bool = True, step: int | None = None) -> Cleaned:
    """Return the new prose in `raw`, ready to be appended to the text `before`.

    Between the tags, an identifier is removed only if it is that of `step` and stands alone:
    "Paragraph 3: The court finds" and "Word count: 90,000" begin judgments and query letters.

    With `is_reply` false, `raw` was cleaned before: only what it repeats of `before` is removed.
    """
    counts: Counter[str] = Counter()
    removed: list[tuple[str, str]] = []
    text = raw.strip()

    def apply(rule: str, after: str) -> None:
        nonlocal text
        after = after.strip()
        if after != text:
            counts[rule] += 1
            if rule != "thinking":
                removed.append((rule, _difference(text, after)))
            text = after

    rules: list[tuple[str, Callable[[str], str]]] = [
        ("repeated_heading", lambda text: _without_repeated_heading(text, before)),
        ("repeated_text", lambda text: _without_repeated_text(text, before)),
    ]
    if is_reply:
        apply("thinking", without_thinking(text))
        apply("special_tokens", strip_special_tokens(text))
        is_tagged = bool(_TAGGED.search(text))
        tagged = _between_tags(text)
        if tagged is not None:
            apply("outside_tags", tagged)
        else:  # talk belongs outside the tags; inside, what looks like talk is prose
            rules.insert(0, ("meta_talk", _without_talk))
        rules.insert(0, ("fence", _without_wrapper))  # a tag on a line of its own is no remark
        rules += [
            ("plan_line", _without_plan_line),
            ("paragraph_identifier", lambda text: _without_identifier(text, step, is_tagged)),
            ("notes", _without_notes),
            ("end_marker", _without_end_marker),
            ("word_count", lambda text: _without_word_count(text, is_tagged)),
        ]
    while True:  # a removal may expose another: "Sure! Here it is:", "Paragraph 3", "# Title"
        seen = text
        for rule, apply_rule in rules:
            apply(rule, apply_rule(text))
        if text == seen:
            return Cleaned(text, counts, tuple(removed))


def _between_tags(text: str) -> str | None:
    """Return the text between the tags that the prompt asks for; None without these tags.

    If most of the words are outside, the model did not keep to the form: only the tags are removed.
    """
    if not _ANY_TAG.search(text):
        return None
    inside = "\n\n".join(match["text"].strip() for match in _TAGGED.finditer(text))
    without = _ANY_TAG.sub("", text)
    return inside if 2 * count_words(inside) >= count_words(without) and inside else without


def _difference(text: str, after: str) -> str:
    """Return the parts of `text` that are missing in `after`: its beginning, end or middle."""
    if after and after in text:
        return "\n…\n".join(part.strip() for part in text.split(after, 1) if part.strip())
    start = _common_prefix(text, after)
    end = _common_prefix(text[start:][::-1], after[start:][::-1])
    return text[start : len(text) - end].strip()


def _common_prefix(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _first(text: str) -> tuple[Line, str]:
    """Return the first line, and the text after it without a divider such as "---"."""
    first, _, rest = text.partition("\n")
    return Line(first), _strip_rules(rest)


def _last(text: str) -> tuple[Line, str]:
    """Return the last line, and the text before it without a divider such as "---"."""
    rest, _, last = text.rpartition("\n")
    return Line(last), _strip_rules(rest[::-1])[::-1]


def _strip_rules(text: str) -> str:
    """Remove blank lines and dividers from the beginning of a text, which may be reversed."""
    text = text.lstrip()
    while text and _RULE_LINE.match(text.partition("\n")[0]):
        text = text.partition("\n")[2].lstrip()
    return text


def _without_talk(text: str) -> str:
    line, rest = _first(text)
    if line.matches(OPENING, OPENING_ZH):
        return rest
    if line.matches(BARE_OPENING) and text.partition("\n")[0].rstrip("* ").endswith(
        tuple("!！,，")
    ):
        return rest
    if line.matches(LABELS) or (line.has_colon and LABELS.fullmatch(line.text.rstrip(":"))):
        return rest if line.is_set_off or line.has_colon else text
    if role := ROLE.match(text):
        return text[role.end() :]
    line, rest = _last(text)
    is_talk = line.matches(CLOSING, CLOSING_ZH) and not _LETTER.match(text)
    return rest if is_talk else text


def _without_end_marker(text: str) -> str:
    line, rest = _last(text)
    return rest if line.matches(END_MARKER) else text


def _without_notes(text: str) -> str:
    """Remove notes about the text that follow a word count or a heading such as "Key Beats"."""
    lines = text.split("\n")
    for place in range(max(1, len(lines) - _MAX_NOTES_LINES), len(lines) - 1):
        if len(lines[place]) > MAX_LINE or not lines[place].strip():
            continue
        line = Line(lines[place])
        is_count = re.search(COUNT_LABEL, line.text, re.IGNORECASE) and line.matches(WORD_COUNT)
        if is_count or (line.is_set_off and line.matches(NOTES)):
            notes = count_words("\n".join(lines[place:]))
            headings = map(_HEADING.fullmatch, lines[place + 1 :])  # another chapter is no note
            if any(heading and not heading["bold"] for heading in headings):
                continue
            if notes <= _MAX_NOTES * count_words(text):
                return _strip_rules("\n".join(lines[:place])[::-1])[::-1]
    return text


def _without_word_count(text: str, is_tagged: bool) -> str:
    for line, rest in (_last(text),) if is_tagged else (_first(text), _last(text)):
        has_digit = any(character.isdecimal() for character in line.text)
        if line.text.lower().startswith("count") and not line.is_set_off:
            continue
        if line.matches(WORD_COUNT) and (has_digit or line.is_set_off or "字数" in line.text):
            return rest
    start = max(0, len(text) - MAX_LINE)
    return text[:start] + COUNT_BEHIND_TEXT.sub("", text[start:])


def _without_plan_line(text: str) -> str:
    for line, rest in (_first(text), _last(text)):
        if line.matches(PLAN_LINE):
            return rest
    line, rest = _first(text)
    if line.matches(MAIN_POINT):  # "主要内容：…" alone may be prose; a word count below it is not
        count, after = _first(rest)
        return after if count.matches(WORD_COUNT) else text
    return text


def _without_identifier(text: str, step: int | None, is_tagged: bool) -> str:
    if not is_tagged:
        return IDENTIFIER.sub(_keep_markup, text)
    line, _, rest = text.partition("\n")
    found = IDENTIFIER.match(line)
    if not found or found.end() < len(line) or step is None:
        return text
    number = re.search(rf"{CHINESE_NUMBER}+|\d+", narrow(found[0]))
    value = parse_number(number[0]) if number else None
    return rest if value == step else text


def _keep_markup(identifier: re.Match[str]) -> str:
    """Return the markup to keep: heading marks and an opening "**", if text follows."""
    if bool(identifier["open"]) != bool(identifier["close"]):
        return identifier[0]
    rest = identifier.string[identifier.end() :]
    if not rest or rest.startswith("\n"):
        return ""
    line = rest.partition("\n")[0]
    is_bold = identifier["bold"] and "**" in line and "**" not in identifier[0][4:]
    return identifier["markup"] + ("**" if is_bold else "")


def _without_wrapper(text: str) -> str:
    """Remove a code fence or a pair of tags around the whole text, or around all but remarks."""
    for wrapper in (_FENCED, _WRAPPED):
        if (match := wrapper.match(text)) and match.end() == len(text):
            inside = match["text"]
            if "```" not in inside and count_words(inside) >= _PROSE_WORDS:
                return inside
    if text.count("```") == 2 and (match := _FENCED_PART.search(text)):
        inside, outside = match["text"], text[: match.start()] + text[match.end() :]
        is_prose = bool(_PROSE.fullmatch(inside.strip()))
        is_remark = count_words(outside) <= min(_MAX_REMARK_WORDS, count_words(inside))
        if is_prose and is_remark and count_words(inside) >= _PROSE_WORDS:
            return inside
    return text


# Repetitions


def _without_repeated_heading(text: str, before: str) -> str:
    """Remove a leading heading that `before` has as its title, or that is still open at its end.

    A heading is open until one of its own level follows: a recipe may begin with "Ingredients" even
    if the recipe before it did.
    """
    first, _, rest = text.partition("\n")
    if not before or len(first) > MAX_LINE:
        return text
    heading = _HEADING.fullmatch(first.strip())
    title = _plain(first)
    is_speaker = heading and heading["bold"] and rest and not rest.startswith("\n")
    may_be_title = heading or (len(first) <= _MAX_TITLE and rest.startswith("\n"))
    if is_speaker or not may_be_title or len(title) < 2:
        return text
    open_headings: list[tuple[int, str]] = []
    main_title = ""
    for line in before.split("\n"):
        if len(line) <= MAX_LINE and (match := _HEADING.fullmatch(line.strip())):
            level = len(match["level"]) if match["level"] else 7
            main_title = main_title or _plain(line)
            open_headings = [each for each in open_headings if each[0] < level]
            open_headings.append((level, _plain(line)))
    known = {each for _, each in open_headings} | {main_title}
    return rest if title == main_title or (heading and title in known) else text


def _plain(heading: str) -> str:
    """Return a heading's words, without case, markup, punctuation and "(continued)"."""
    return re.sub(r"[\W_]+", " ", _CONTINUED.sub("", heading.strip("#*_ \t"))).strip().casefold()


def _is_paragraph(paragraph: str, text: str) -> bool:
    # most paragraphs do not occur in the text, and `in` is a hundred times faster
    return paragraph in text and any(line.strip() == paragraph for line in text.split("\n"))


def _without_repeated_text(text: str, before: str) -> str:
    """Remove the leading paragraphs, or part of a paragraph, that `before` already contains.

    A passage from the middle of `before` must be long: slug lines, refrains and formulas of
    contracts are repeated on purpose.
    """
    rest, repeated, last = text, 0, ""
    while rest:
        first, _, following = rest.partition("\n")
        first = first.strip()
        is_long = len(first.encode(errors="replace")) >= _MIN_PARAGRAPH
        if not is_long or not _is_paragraph(first, before):
            break
        repeated += len(first)
        rest, last = following.lstrip(), first
    tail = before.rstrip()[-_TAIL:]
    if repeated >= _MIN_REPEATED or (last and last == tail.rpartition("\n")[2].strip()):
        return rest
    opening = text.lstrip(".… \n")  # "... and the wardens wrote it down"
    start = tail.find(opening[:_MIN_OVERLAP]) if len(opening) >= _MIN_OVERLAP else -1
    while start >= 0:
        if opening.startswith(tail[start:]):
            return opening[len(tail) - start :]
        start = tail.find(opening[:_MIN_OVERLAP], start + 1)
    return text
