"""Read a plan from the text of a model's reply. Pure.

The paper's format (arXiv 2408.07055, section 3.1) has one line per step:

    Paragraph 1 - Main Point: Why harbours silt up - Word Count: 400 words

Models also return numbered, translated, bulleted, bold or multi-line steps, tables, JSON and YAML;
this module reads all of these. Ambiguous plans are rejected with a reason, because a misread plan
costs a whole text and a retry costs one call.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentwrite.writing.plan import Level, Plan, fit_plan
from longwriter_core.llm import Rejected
from longwriter_core.text.required_length import CHINESE_NUMBER, NUMBER_WORD, narrow, number
from longwriter_core.text.thinking import without_thinking

_Steps = list[tuple[str, int | None]]  # main point, target in words

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
_JOINT = r"\s*(?:-|~|/|,|&|\bto\b|\band\b|至|到|和|、)\s*"
_MERGED = re.compile(  # Paragraphs 2-3, 第二、三段, 1-2.
    rf"(?:paragraph|section|step|chapter|part|subtask|段落|章节|步骤)s?\s*(?P<a>{_N}){_JOINT}"
    rf"(?:paragraph\s*)?(?P<b>{_N})\s*(?:[-:.)\]|(]|$)"
    rf"|第\s*{_N}{_JOINT}第?{_N}\s*(?:段|章|节|部分|步)"
    r"|\(?(?P<c>[0-9]{1,3})\s*(?:-|~|to|and|&)\s*(?P<d>[0-9]{1,3})\)?[.):、]",
    re.IGNORECASE,
)
_UNNUMBERED = re.compile(
    r"(?:introduction|intro|opening|prologue|preface|foreword|conclusion|closing|epilogue|outro"
    r"|afterword|引言|导言|前言|序言|序章|开头|开篇|楔子|结论|结语|结尾|尾声|后记)(?![a-z])",
    re.IGNORECASE,
)
_FINAL = re.compile(
    r"\b(?:final|revised|updated|improved|corrected)\b[^.\n]{0,30}:\W*$"
    r"|(?:最终|修订|修改后|调整后)[^。\n]{0,12}:\W*$",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^\s*(?:[-*•·●▪]\s+)")
_LETTERED = re.compile(r"^\s*\(?[a-z][.)]\s", re.IGNORECASE)
_MARKUP = re.compile(
    r"^[\s>|\\\[【]*(?:[-*•·●▪]\s+)?#{0,6}\s*|\*\*|__|`|(?<!\S)\*(?=\S)|(?<=\S)\*(?!\S)"
)
_TOTAL = re.compile(r"^\W*(?:total\b|in total\b|总计|合计|共计|总字数|全文)", re.IGNORECASE)

_AMOUNT = (
    r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,6}(?:\.[0-9]{1,2})?(?:\s*(?:k\b|[千万]))?"
    rf"|{CHINESE_NUMBER}{{2,7}})"
)
_ABOUT = (
    r"(?:about|around|approximately|approx\.?|roughly|at least"
    r"|no (?:fewer|less) than|minimum(?: of)?"
    r"|min\.?|up to|between|~|≈|约|大约|大概|不少于|不低于|至少)?"
)
_RANGE = rf"{_ABOUT}\s*(?P<low>{_AMOUNT})\+?(?:\s*(?:-|~|to|and|至|到)\s*(?P<high>{_AMOUNT}))?"
_LABEL = (
    r"(?:word\s*count|words|word\s+target|target(?:\s+(?:words|length))?|length"
    r"|字数(?:要求|目标)?|篇幅)\s*(?:requirement)?\s*:"
)
_LABELLED = re.compile(
    rf"{_LABEL}\s*[\[(]?\s*{_RANGE}\s*(?:words?\b|个?字|词)?\s*(?:左右|以内)?\s*[\])]?",
    re.IGNORECASE,
)
_WITH_UNIT = re.compile(
    rf"[\[(]?\s*{_RANGE}[\s-]*(?:words?\b|个?字(?![母符段体]))\s*(?:左右|以内)?\s*[\])]?",
    re.IGNORECASE,
)
_CELL = re.compile(rf"\s*{_RANGE}\s*(?:words?\b|个?字|词)?\s*(?:左右)?\s*", re.IGNORECASE)
_POINT = re.compile(
    r"(?:main\s*(?:points?|ideas?|content)"
    r"|主要内容|主要观点|中心思想|主旨|要点|核心内容|内容要点)\s*:\s*",
    re.IGNORECASE,
)
_FIELD = re.compile(rf"{_POINT.pattern}|{_LABEL}|word\s*count|字数|篇幅", re.IGNORECASE)
_SHARE = re.compile(r"[0-9]\s*%|\b0\.[0-9]+\b")  # 40% of the text
_EDGES = " \t\r\n\u3000-–—－:：|,，;；[]【】"

# Names of a step's fields in tables, JSON and YAML, without spaces and punctuation.
_POINT_NAMES = re.compile(
    r"mainpoints?|mainideas?|maincontent|points?|content|description|topic|summary|主要内容|主要观点"
    r"|中心思想|主旨|要点|核心内容|内容要点|内容|主题"
)
_WORDS_NAMES = re.compile(
    r"wordcounts?|words?|(?:target)?wordcount|targetwords|wordtarget|targetlength|target|length"
    r"|字数|字数要求|目标字数|篇幅"
)
_TOTALS_MAY_MISS = 0.25  # share by which a stated total may differ from the sum of the targets


class _Unclear(Exception):  # noqa: N818 - not raised outside this module
    """Why a reply cannot be read with certainty."""


def read_plan(
    reply: str, required: int | None = None, level: Level = "Paragraph"
) -> Plan | Rejected:
    """Read the plan in a reply and fit it to the required length with `fit_plan`.

    Returns Rejected with "no_plan" if there is no plan, and with "unclear_plan" if its steps or
    their targets are ambiguous.
    """
    text = _after_draft(without_thinking(reply))
    try:
        steps = _read_data(text)
        if steps is None:
            steps = _read_table(text)
        if steps is None:
            steps = [step for step in _read_lines(text, level) if step[0] or step[1]]
    except _Unclear as unclear:
        return Rejected("unclear_plan", str(unclear))
    if not steps:
        return Rejected("no_plan", f"no steps in {_short(text)}")
    return fit_plan(steps, required, level)


def _after_draft(text: str) -> str:
    """Return the text after the last line such as "Final plan:", or the whole text."""
    lines = text.splitlines()
    finals = [n for n, line in enumerate(lines) if _FINAL.search(narrow(_plain(line)))]
    rest = "\n".join(lines[finals[-1] + 1 :]) if finals else ""
    return rest if rest.strip() else text


# JSON and YAML


def _read_data(text: str) -> _Steps | None:
    """Return the steps of a plan in JSON or YAML; None if the reply is neither."""
    import yaml

    fenced = re.findall(r"```[ \t]*(\w*)[ \t]*\n(.*?)(?:\n```|\Z)", text, re.DOTALL)
    kind, body = fenced[0] if len(fenced) == 1 else ("", text)
    body = body.strip()
    if body.startswith(("{", "[{", "[\n")) or kind == "json":
        try:
            data = json.loads(body)
        except (ValueError, RecursionError) as error:
            if body.startswith("{") or kind == "json" or '"' in body[:80]:
                raise _Unclear(f"broken JSON ({error})") from error
            return None
        return _steps_of(data)
    first = body.partition("\n")[0]
    looks_like_yaml = re.fullmatch(r"[\w ]+:\s*|-\s+[\w ]+:\s.*", first) and re.search(
        r"^\s+[\w ]+:\s", body, re.MULTILINE
    )
    if kind not in ("yaml", "yml") and not looks_like_yaml:
        return None
    try:
        return _steps_of(yaml.safe_load(body))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if not kind:
            return None  # lines that begin like YAML: "Here is the plan:"
        raise _Unclear("broken YAML") from error


def _steps_of(data: Any) -> _Steps:
    """Return the steps in a list of objects, or in the only such list of an object."""
    if isinstance(data, Mapping):
        lists = [value for value in data.values() if _is_rows(value)]
        if len(lists) != 1:
            raise _Unclear(f"{len(lists)} lists of steps in the data")
        data = lists[0]
    if not _is_rows(data):
        raise _Unclear("data without a list of steps")
    steps: _Steps = []
    for row in data:
        names = {re.sub(r"[\W_]", "", str(name)).lower(): value for name, value in row.items()}
        points = [value for name, value in names.items() if _POINT_NAMES.fullmatch(name)]
        words = [value for name, value in names.items() if _WORDS_NAMES.fullmatch(name)]
        if len(points) != 1 or not isinstance(points[0], str) or len(words) > 1:
            raise _Unclear("a step without one main point and one word count")
        if any(_is_rows(value) for value in row.values()):
            raise _Unclear("steps within steps")
        steps.append((" ".join(points[0].split()), _cell(str(words[0])) if words else None))
    if len({words is None for _, words in steps}) > 1:
        raise _Unclear("only some steps have a word count")
    return steps


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, Mapping) for x in value)


def _cell(text: str) -> int:
    """Return the target in a cell or field. Raises _Unclear."""
    amount = _CELL.fullmatch(narrow(text).replace("*", ""))
    if not amount:
        raise _Unclear(f"no word count in {text!r}")
    return _middle(amount)


# Tables


def _read_table(text: str) -> _Steps | None:
    """Return the steps in a Markdown table, by its column names; None if there is no table."""
    lines = text.splitlines()
    rules = [n for n, line in enumerate(lines) if "-" in line and re.fullmatch(r"[\s|:\-]+", line)]
    rules = [n for n in rules if n and "|" in lines[n]]
    if not rules:
        return None
    if len(rules) > 1:
        raise _Unclear("more than one table")
    names = [re.sub(r"[\W_]", "", name).lower() for name in _cells(lines[rules[0] - 1])]
    points = [n for n, name in enumerate(names) if _POINT_NAMES.fullmatch(name)]
    words = [n for n, name in enumerate(names) if _WORDS_NAMES.fullmatch(name)]
    if len(points) != 1 or len(words) != 1:
        raise _Unclear(f"a table with the columns {', '.join(names)}")
    steps: _Steps = []
    for line in lines[rules[0] + 1 :]:
        if "|" not in line:
            break
        cells = _cells(line)
        if any(_TOTAL.match(narrow(cell)) for cell in cells):
            continue
        if len(cells) != len(names) or any(_MERGED.match(f"{narrow(c)}.") for c in cells):
            raise _Unclear(f"a row with other columns: {_short(line)}")
        steps.append((cells[points[0]], _cell(cells[words[0]])))
    return steps


def _cells(line: str) -> list[str]:
    return [cell.strip(" \t*`[]") for cell in line.strip().strip("|").split("|")]


# Lines


@dataclass
class _Draft:
    """A step whose lines are being collected."""

    number: int | None  # None for an introduction or a conclusion
    head: str
    fields: list[str] = field(default_factory=list)  # Main Point: …, Word Count: …
    parts: list[str] = field(default_factory=list)  # bullets below it
    more: list[str] = field(default_factory=list)  # other lines


def _read_lines(text: str, level: Level) -> _Steps:
    raw = [line for line in text.splitlines() if "```" not in line]
    lines = [_plain(line) for line in raw]
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
        steps = [_split(line) for line in chosen if not _TOTAL.match(narrow(line))]
        with_target = [step for step in steps if step[1]]
        if len(with_target) > 1 and (not marked or 2 * len(with_target) >= len(steps)):
            return _checked(steps if marked else with_target, lines)
    return []


def _plain(line: str) -> str:
    return _MARKUP.sub("", line).strip()


def _refuse_merged(line: str) -> None:
    """Raise _Unclear for a line that announces several steps."""
    if merged := _MERGED.match(narrow(line)):
        first = _value(merged["a"] or merged["c"] or "")
        second = _value(merged["b"] or merged["d"] or "")
        if first is None or second is None or 0 < second - first < 20:
            raise _Unclear(f"merged steps: {_short(line)}")


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
                raise _Unclear(f"step {value} where step {expected} was expected")
            expected += 1
            steps.append(_Draft(value, line[start:]))
            is_open, is_new_part = True, False
        elif (
            _UNNUMBERED.match(plain)
            and (_WITH_UNIT.search(plain) or (not was.lstrip().startswith("#") and len(plain) < 80))
            and not was[:1].isspace()
            and not _BULLET.match(was)
        ):
            steps.append(_Draft(None, line))
            is_open = True
        elif _TOTAL.match(plain):
            is_open = False
        elif line_kind and (line_kind in _ORDER["Paragraph"]):  # a heading of another level
            rank = _ORDER["Paragraph"].index
            if steps and kind != "numbered" and rank(line_kind) < rank(kind):  # a part of a step
                is_open = False
                if _split(line)[1]:
                    steps[-1].parts.append(line)
            else:
                is_open, is_new_part = False, True
        elif was.lstrip().startswith("#"):
            is_open, is_new_part = False, True
        elif not line:
            is_open = is_open and _target_of(steps[-1]) is None
        elif steps and _FIELD.match(plain):
            steps[-1].fields.append(line)
        elif is_open:
            is_part = _BULLET.match(was) or _LETTERED.match(was) or line_kind == "numbered"
            (steps[-1].parts if is_part else steps[-1].more).append(line)
    return steps


def _target_of(draft: _Draft) -> int | None:
    """Return the target of a step: from its header, its fields, or the sum of its parts."""
    if words := _split(draft.head)[1]:
        return words
    fields = [words for line in draft.fields if (words := _split(line)[1])]
    if len(fields) > 1:
        raise _Unclear(f"{len(fields)} word counts in one step")
    if fields:
        return fields[0]
    if draft.parts:
        parts = [_split(line)[1] for line in draft.parts]
        if all(parts):
            return sum(words or 0 for words in parts)
        if any(parts):
            raise _Unclear("word counts for some parts of a step")
    more = [words for line in draft.more if (words := _split(line)[1])]
    if len(more) > 1:
        raise _Unclear(f"{len(more)} word counts in one step")
    return more[0] if more else None


def _step(draft: _Draft) -> tuple[str, int | None]:
    """Return the main point and the target of a step. Raises _Unclear."""
    words = _target_of(draft)
    lines = [draft.head, *draft.fields, *draft.more, *draft.parts]
    point = " ".join(filter(None, (_split(line)[0] for line in lines)))
    if words is None and draft.number is None:
        raise _Unclear(f"no word count for {_short(draft.head)}")
    if words is None and _SHARE.search(narrow(point)):
        raise _Unclear(f"a share instead of a word count in {_short(point)}")
    return point, words


def _split(text: str) -> tuple[str, int | None]:
    """Return the main point and the target in a line. Raises _Unclear for several targets."""
    plain = narrow(text)
    labelled = list(_LABELLED.finditer(plain))
    if len(labelled) > 1:
        raise _Unclear(f"several word counts in {_short(text)}")
    amounts = labelled or list(_WITH_UNIT.finditer(plain))
    if len(amounts) > 1:  # "the 500-word decree and its reply (400 words)"
        set_off = [
            amount
            for amount in amounts
            if amount[0].lstrip()[:1] in "([" or _is_last(plain, amount)
        ]
        if len(set_off) != 1:
            raise _Unclear(f"several word counts in {_short(text)}")
        amounts = set_off
    if not amounts and re.search(_LABEL, plain, re.IGNORECASE):
        raise _Unclear(f"no word count in {_short(text)}")
    words = None
    if amounts:
        words = _middle(amounts[0]) or None
        start, end = amounts[0].span()
        text = f"{text[:start].rstrip(_EDGES)} {text[end:].lstrip(_EDGES + '.。')}"
    if label := _POINT.search(narrow(text)):
        text = f"{text[: label.start()].rstrip(_EDGES)} {text[label.end() :]}"
    return " ".join(text.split()).strip(_EDGES), words


def _is_last(text: str, amount: re.Match[str]) -> bool:
    rest = text[amount.end() :].strip(_EDGES + ".。)")
    return not rest and text[: amount.start()].endswith("- ")


def _middle(amount: re.Match[str]) -> int:
    low = number(amount["low"]) or 0
    high = number(amount["high"]) if amount["high"] else low
    return round((low + (high or low)) / 2)


def _checked(steps: _Steps, lines: list[str]) -> _Steps:
    """Return `steps`. Raises _Unclear if they contradict the total stated in the reply."""
    totals = [
        words
        for line in lines
        if _TOTAL.match(narrow(line)) and (words := _split(line)[1]) is not None
    ]
    known = [words for _, words in steps if words]
    if known and any(not words and _UNNUMBERED.fullmatch(narrow(point)) for point, words in steps):
        raise _Unclear("no word count for an introduction or conclusion")
    if totals and len(known) == len(steps):
        total = totals[-1]
        if abs(sum(known) - total) > _TOTALS_MAY_MISS * total:
            raise _Unclear(f"the targets add up to {sum(known)}, not to the {total} stated")
    return steps


def _short(text: str) -> str:
    """Shorten a text for a message."""
    line = " ".join(text.split())
    return repr(line[:60] + "…" if len(line) > 60 else line)
