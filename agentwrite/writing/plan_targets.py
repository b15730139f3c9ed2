"""Read the main point and the target in words from one line or cell of a plan. Pure."""

import re

from longwriter_core.text.numbers import CHINESE_NUMBER, SPELLED, narrow, number

Steps = list[tuple[str, int | None]]  # main point, target in words

TOTAL = re.compile(r"^\W*(?:total\b|in total\b|总计|合计|共计|总字数|全文)", re.IGNORECASE)
_AMOUNT = (
    r"(?:[0-9]{1,3}(?:[ .,][0-9]{3})+(?![0-9])"
    r"|[0-9]{1,6}(?:\.[0-9]{1,2})?(?:\s*(?:k\b|[千万]))?"
    rf"|{CHINESE_NUMBER}{{2,7}}|{SPELLED})"
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
WITH_UNIT = re.compile(
    rf"[\[(]?\s*{_RANGE}[\s-]*(?:words?\b|个?字(?![母符段体]))\s*(?:左右|以内)?\s*[\])]?",
    re.IGNORECASE,
)
_CELL = re.compile(rf"\s*{_RANGE}\s*(?:words?\b|个?字|词)?\s*(?:左右)?\s*", re.IGNORECASE)
_POINT = re.compile(
    r"(?:main\s*(?:points?|ideas?|content)"
    r"|主要内容|主要观点|中心思想|主旨|要点|核心内容|内容要点)\s*:\s*",
    re.IGNORECASE,
)
FIELD = re.compile(rf"{_POINT.pattern}|{_LABEL}|word\s*count|字数|篇幅", re.IGNORECASE)
SHARE = re.compile(r"[0-9]\s*%|\b0\.[0-9]+\b")  # 40% of the text
# What makes an amount part of something else: "2 x 400 words", "1,5 words", "300 words each"
_CONTINUED_BEFORE = re.compile(
    r"(?:[0-9][.,]?|\bx|[×*]|\beach|\bper|每[段节章]|各)\s*$", re.IGNORECASE
)
_CONTINUED_AFTER = re.compile(
    r"\s*[0-9]|[.,][0-9]|\s*(?:x\b|x[0-9]|×|\*\s*[0-9]|each\b|apiece\b|per\b|/\s*paragraph\b)",
    re.IGNORECASE,
)
OTHER_UNIT = re.compile(  # A - 2 pages; B (3 sentences)
    r"[-(:,]\s*(?:about |约)?(?:[0-9][0-9.,-]*|[a-z]+)\s*"
    r"(?:pages?|sentences?|lines|minutes?|页|句话?|行)\W*$",
    re.IGNORECASE,
)
LENGTH_OF_EACH = re.compile(  # Each paragraph is 300 words. 每段300字
    r"\b(?:each|every|per|all)\b[^.]{0,40}[0-9]\s*words\b"
    r"|[0-9]\s*words\s*(?:each|apiece|per)\b|[每各][^。,]{0,12}[0-9]\s*字",
    re.IGNORECASE,
)
_EDGES = " \t\r\n\u3000-–—－:：|,，;；[]【】"


class Unclear(Exception):  # noqa: N818 - not raised outside this module
    """Why a reply cannot be read with certainty."""


def split_target(text: str) -> tuple[str, int | None]:
    """Return the main point and the target in a line. Raises Unclear for several targets."""
    plain = narrow(text)
    labelled = list(_LABELLED.finditer(plain))
    if len(labelled) > 1:
        raise Unclear(f"several word counts in {shortened(text)}")
    amounts = labelled or list(WITH_UNIT.finditer(plain))
    for amount in amounts:
        before = plain[: amount.start("low")]
        if _CONTINUED_BEFORE.search(before) or _CONTINUED_AFTER.match(plain, amount.end()):
            raise Unclear(f"no single word count in {shortened(text)}")
    if len(amounts) > 1:  # "the 500-word decree and its reply (400 words)"
        set_off = [
            amount
            for amount in amounts
            if amount[0].lstrip()[:1] in "([" or _is_last(plain, amount)
        ]
        if len(set_off) != 1:
            raise Unclear(f"several word counts in {shortened(text)}")
        amounts = set_off
    if not amounts and re.search(_LABEL, plain, re.IGNORECASE):
        raise Unclear(f"no word count in {shortened(text)}")
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
    low, high = (number(_ungrouped(part or "")) for part in (amount["low"], amount["high"]))
    low = low or 0
    return round((low + (high or low)) / 2)


def _ungrouped(amount: str) -> str:
    """1 200, 1.200 and 1,200 as 1200."""
    return re.sub(r"(?<=[0-9])[ .,](?=[0-9]{3}(?![0-9]))", "", amount)


def read_cell(text: str) -> int:
    """Return the target in a cell or field. Raises Unclear."""
    amount = _CELL.fullmatch(narrow(text).replace("*", ""))
    if not amount:
        raise Unclear(f"no word count in {text!r}")
    return _middle(amount)


def shortened(text: str) -> str:
    """Shorten a text for a message."""
    line = " ".join(text.split())
    return repr(line[:60] + "…" if len(line) > 60 else line)
