"""Read a plan in lines: numbered, translated, bulleted or multi-line steps. Pure."""

import re
from dataclasses import dataclass, field

from agentwrite.writing.plan import Level
from agentwrite.writing.plan_targets import (
    FIELD,
    LENGTH_OF_EACH,
    OTHER_UNIT,
    SHARE,
    TOTAL,
    WITH_UNIT,
    Steps,
    Unclear,
    shortened,
    split_target,
)
from longwriter_core.text.numbers import CHINESE_NUMBER, NUMBER_WORD, narrow, number

# Step headers. Patterns match the narrow form of a line (see `narrow`) without its markup.
_N = rf"(?:[0-9]{{1,4}}|{CHINESE_NUMBER}{{1,4}}|[IVX]{{1,5}}\b|{NUMBER_WORD})"
_NAMES = {
    "paragraph": rf"(?:paragraph|subtask|step|段落|步骤)\s*\(?{_N}\)?|第\s*{_N}\s*(?:段落|段|步)",
    "section": rf"(?:section|小节)\s*\(?{_N}\)?|第\s*{_N}\s*(?:小节|节)",
    "chapter": rf"(?:chapter|part|章节|部分)\s*\(?{_N}\)?|第\s*{_N}\s*(?:章节|章|部分)",
    "numbered": rf"\(?(?:[0-9]{{1,3}}|{CHINESE_NUMBER}{{1,3}}|[IVX]{{1,5}})(?:[.、)]+|:)(?![0-9])",
}
_HEADERS = {
    name: re.compile(rf"(?:{pattern})(?![0-9A-Za-z])[\s.:、,)\-|\\\]】]*", re.IGNORECASE)
    for name, pattern in _NAMES.items()
}
_ORDER: dict[Level, tuple[str, ...]] = {
    "Paragraph": ("paragraph", "section", "chapter"),
    "Chapter": ("chapter", "section", "paragraph"),
}
_NUMBER_IN_HEADER = re.compile(
    rf"[0-9]{{1,4}}|{CHINESE_NUMBER}{{1,4}}|\b[IVX]{{1,5}}\b|{NUMBER_WORD}", re.IGNORECASE
)
_ROMAN = {"I": 1, "V": 5, "X": 10}
_ENGLISH = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_JOINT = (
    r"\s*(?:,\s*(?:and|&)\s|[-~/,&+]|\b(?:to|and|through|thru|until|plus)\b|[至到和与及、])\s*"
    r"(?:and\s+)?(?:#|paragraph\s*|第)?"
)
_UNIT = r"(?:paragraph|para|section|step|chapter|part|subtask|scene|act|段落|章节|步骤)"
MERGED = re.compile(  # Paragraph 2-3, 第二、三段, 1-2., #2-#3
    rf"{_UNIT}s?\.?\s*(?P<a>{_N}){_JOINT}(?P<b>{_N})\s*(?:[-:.)\]|(]|$)"
    rf"|第\s*{_N}{_JOINT}{_N}\s*(?:段|章|节|部分|步)"
    rf"|\(?(?P<c>[0-9]{{1,3}}){_JOINT}(?P<d>[0-9]{{1,3}})\)?[.):、]"
    r"|#?(?P<e>[0-9]{1,3})\s*(?:-|~|to|and|&|,)\s*#(?P<f>[0-9]{1,3})",
    re.IGNORECASE,
)
_SEVERAL = re.compile(  # Paragraphs 2 through 4, Paragraph 2/3/4, 第二、三、四段, 2, 3 and 4.
    rf"{_UNIT}s\.?\s*[#(]?{_N}|{_UNIT}\.?\s*{_N}(?:{_JOINT}{_N}){{2,}}(?![0-9A-Za-z])"
    rf"|第\s*{_N}(?:{_JOINT}{_N})+\s*(?:自然段|段|章|节|部分|步)"
    rf"|\(?[0-9]{{1,2}}(?:{_JOINT}[0-9]{{1,2}}){{2,}}\)?[.):、]",
    re.IGNORECASE,
)
_UNNAMED = re.compile(  # The next three paragraphs: B - 800 words
    r"(?:the\s+)?(?:next|following|remaining|last|first|final|other|rest)\b"
    rf"[^.:]{{0,20}}\b{_UNIT}s\b"
    rf"|[a-z]{{3,12}}s\s+#?[0-9]{{1,3}}{_JOINT}[0-9]{{1,3}}\b"
    rf"|(?:接下来|后面|其余|剩下|剩余|最后|前|后)的?\s*{_N}?\s*个?(?:自然段|段|节|章|部分)",
    re.IGNORECASE,
)
_MENTIONS_TARGET = re.compile(r"\bwords\b|字数|[-:]\s*[0-9][0-9., ]*k?$", re.IGNORECASE)
_LABELS = ("main point:", "word count:")
_UNNUMBERED = re.compile(
    r"(?:introduction|intro|opening|prologue|preface|foreword|conclusion|closing|epilogue|outro"
    r"|afterword|引言|导言|前言|序言|序章|开头|开篇|楔子|结论|结语|结尾|尾声|后记)(?![a-z])",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^\s*(?:[-*•·●▪]\s+)")
_LETTERED = re.compile(r"^\s*\(?[a-z][.)]\s", re.IGNORECASE)
_MARKUP = re.compile(
    r"^[\s>|\\\[【]*(?:[-*•·●▪]\s+)?#{0,6}\s*|\*\*|__|`|(?<!\S)\*(?=\S)|(?<=\S)\*(?!\S)"
)
_TOTALS_MAY_MISS = 0.25  # share by which a stated total may differ from the sum of the targets


@dataclass
class _Draft:
    """A step whose lines are being collected."""

    number: int | None  # None for an introduction or a conclusion
    head: str
    fields: list[str] = field(default_factory=list)  # Main Point: …, Word Count: …
    parts: list[str] = field(default_factory=list)  # bullets below it
    more: list[str] = field(default_factory=list)  # other lines


def read_lines(text: str, level: Level) -> Steps:
    """Return the steps in the lines of a reply; empty if there are none. Raises Unclear."""
    raw = [line for line in text.splitlines() if "```" not in line]
    lines = [plain_line(line) for line in raw]
    heads = [_header(narrow(line)) for line in lines]
    kinds = {kind for kind, _ in heads}
    for line in lines:
        _refuse_merged(line)
    for kind in (*_ORDER[level], "numbered"):
        if kind in kinds:
            steps = [_step(draft) for draft in _gather(raw, lines, heads, kind)]
            # a numbered list is a plan only if it has several items or a target
            if kind != "numbered" or len(steps) > 1 or any(words for _, words in steps):
                return _checked(steps, lines)
    for marked in (True, False):  # bullets, most of which need a target, then plain lines
        chosen = [
            line
            for line, was in zip(lines, raw, strict=True)
            if line and (not marked or _BULLET.match(was))
        ]
        steps = [split_target(line) for line in chosen if not TOTAL.match(narrow(line))]
        with_target = [step for step in steps if step[1]]
        if len(with_target) > 1 and (not marked or 2 * len(with_target) >= len(steps)):
            return _checked(steps if marked else with_target, lines)
    return []


def plain_line(line: str) -> str:
    """A line without its bullet and markup."""
    return _MARKUP.sub("", line).strip()


def _refuse_merged(line: str) -> None:
    """Raise Unclear for a line that announces several steps."""
    plain = narrow(line)
    if _SEVERAL.match(plain) or (_UNNAMED.match(plain) and WITH_UNIT.search(plain)):
        raise Unclear(f"merged steps: {shortened(line)}")
    if merged := MERGED.match(plain):
        first = _value(merged["a"] or merged["c"] or merged["e"] or "")
        second = _value(merged["b"] or merged["d"] or merged["f"] or "")
        if first is None or second is None or 0 < second - first < 20:
            raise Unclear(f"merged steps: {shortened(line)}")


def _header(line: str) -> tuple[str, int]:
    """Return the kind of step header in a line ("" if none), and the offset after it."""
    for kind, pattern in _HEADERS.items():
        if header := pattern.match(line):
            return kind, header.end()
    return "", 0


def _value(text: str) -> int | None:
    """Parse the number in a header: 3, 三, III, three."""
    text = text.strip()
    if text.isdecimal():
        return int(text)
    if text.lower() in _ENGLISH:
        return _ENGLISH.index(text.lower())
    if text and set(text.upper()) <= set(_ROMAN):
        digits = [_ROMAN[letter] for letter in text.upper()]
        pairs = zip(digits, [*digits[1:], 0], strict=True)
        return sum(-a if a < b else a for a, b in pairs)
    value = number(text)
    return round(value) if value is not None else None


def _gather(
    raw: list[str], lines: list[str], heads: list[tuple[str, int]], kind: str
) -> list[_Draft]:
    """Return the steps announced by headers of `kind`, each with its lines."""
    steps: list[_Draft] = []
    is_open = False  # whether the next line still belongs to the last step
    is_new_part = False  # whether a heading followed the last step
    expected = 1
    for was, line, (line_kind, start) in zip(raw, lines, heads, strict=True):
        plain = narrow(line)
        if line_kind == kind and not (
            kind == "numbered" and steps and was[:1].isspace() and is_open
        ):
            digits = _NUMBER_IN_HEADER.search(plain[:start])
            value = _value(digits[0]) if digits else None
            if value == 1 and is_new_part:
                expected = 1  # numbering restarts in each chapter
            if value is not None and value != expected:
                raise Unclear(f"step {value} where step {expected} was expected")
            expected += 1
            steps.append(_Draft(value, line[start:]))
            is_open, is_new_part = True, False
        elif (
            _UNNUMBERED.match(plain)
            and (WITH_UNIT.search(plain) or (not was.lstrip().startswith("#") and len(plain) < 80))
            and not was[:1].isspace()
            and not _BULLET.match(was)
        ):
            steps.append(_Draft(None, line))
            is_open = True
        elif TOTAL.match(plain):
            is_open = False
        elif line_kind and (line_kind in _ORDER["Paragraph"]):  # a heading of another level
            rank = _ORDER["Paragraph"].index
            if steps and kind != "numbered" and rank(line_kind) < rank(kind):  # a part of a step
                is_open = False
                if split_target(line)[1]:
                    steps[-1].parts.append(line)
            else:
                is_open, is_new_part = False, True
        elif was.lstrip().startswith("#"):
            is_open, is_new_part = False, True
        elif not line:
            is_open = is_open and _target_of(steps[-1]) is None
        elif steps and FIELD.match(plain):
            steps[-1].fields.append(line)
        elif is_open:
            is_part = _BULLET.match(was) or _LETTERED.match(was) or line_kind == "numbered"
            (steps[-1].parts if is_part else steps[-1].more).append(line)
    return steps


def _target_of(draft: _Draft) -> int | None:
    """Return the target of a step: from its header, its fields, or the sum of its parts."""
    if words := split_target(draft.head)[1]:
        return words
    fields = [words for line in draft.fields if (words := split_target(line)[1])]
    if len(fields) > 1:
        raise Unclear(f"{len(fields)} word counts in one step")
    if fields:
        return fields[0]
    if draft.parts:
        parts = [split_target(line)[1] for line in draft.parts]
        if all(parts):
            return sum(words or 0 for words in parts)
        if any(parts):
            raise Unclear("word counts for some parts of a step")
    more = [words for line in draft.more if (words := split_target(line)[1])]
    if len(more) > 1:
        raise Unclear(f"{len(more)} word counts in one step")
    return more[0] if more else None


def _step(draft: _Draft) -> tuple[str, int | None]:
    """Return the main point and the target of a step. Raises Unclear."""
    words = _target_of(draft)
    lines = [draft.head, *draft.fields, *draft.more, *draft.parts]
    point = " ".join(filter(None, (split_target(line)[0] for line in lines)))
    if words is None and draft.number is None:
        raise Unclear(f"no word count for {shortened(draft.head)}")
    if words is None and SHARE.search(narrow(point)):
        raise Unclear(f"a share instead of a word count in {shortened(point)}")
    if words is None and OTHER_UNIT.search(narrow(draft.head)):
        raise Unclear(f"no words in {shortened(draft.head)}")
    return point, words


def _checked(steps: Steps, lines: list[str]) -> Steps:
    """Return `steps`. Raises Unclear if they contradict the total stated in the reply."""
    totals = [
        words
        for line in lines
        if TOTAL.match(narrow(line)) and (words := split_target(line)[1]) is not None
    ]
    known = [words for _, words in steps if words]
    if known and any(not words and _UNNUMBERED.fullmatch(narrow(point)) for point, words in steps):
        raise Unclear("no word count for an introduction or conclusion")
    last = next(line for line in reversed(lines) if line)
    if len(known) < len(steps) and _is_cut(narrow(last)):
        raise Unclear(f"the last line is cut: {shortened(last)}")
    if known and any(
        not words and _MENTIONS_TARGET.search(narrow(point)) for point, words in steps
    ):
        raise Unclear("no word count in some steps")
    if not known and any(LENGTH_OF_EACH.search(narrow(line)) for line in lines):
        raise Unclear("one word count for several steps")
    if totals and len(known) == len(steps):
        total = totals[-1]
        if abs(sum(known) - total) > _TOTALS_MAY_MISS * total:
            raise Unclear(f"the targets add up to {sum(known)}, not to the {total} stated")
    return steps


def _is_cut(line: str) -> bool:
    """Whether a line ends within "Main Point:" or "Word Count:"."""
    dash, tail = line.rpartition(" - ")[1:]
    tail = tail.strip().lower()
    return bool(dash) and any(label.startswith(tail) for label in _LABELS)
