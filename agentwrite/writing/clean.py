"""Remove everything from a section that is not prose. Pure; each rule has a name and a count."""

import re
from collections import Counter
from dataclasses import dataclass, field

from longwriter_core.text.required_length import CHINESE_NUMBER, NUMBER_WORD
from longwriter_core.text.special_tokens import strip_special_tokens
from longwriter_core.text.thinking import without_thinking

_NUMBER = rf"(?:\d{{1,4}}|{CHINESE_NUMBER}{{1,4}}|{NUMBER_WORD})"

# Matches the identifier in "**Paragraph 3:** The harbour…"; the rest of the line is kept. Matches
# only at the start and only if a delimiter follows the number: "Paragraph 3 of the law" is kept.
_IDENTIFIER = re.compile(
    rf"\A(?P<markup>#{{0,6}}[ \t]*)(?P<bold>\*{{0,2}})[\[(【]?"
    rf"(?:paragraph[ \t]*{_NUMBER}|段落[ \t]*{_NUMBER}|第[ \t]*{_NUMBER}[ \t]*段落?)[\])】]?"
    r"[ \t]*(?:\*{2}[ \t]*[:：\-–—.]?|[:：\-–—.、]\**|(?=\n|\Z))[ \t]*",
    re.IGNORECASE,
)
# The step's plan line, repeated by the model.
_PLAN_LINE = re.compile(
    r"\A[^\n]*(?:main point|word count|主要内容|字数)\s*[:：][^\n]*(?:words?|字)?[^\n]*(?:\n+|\Z)",
    re.IGNORECASE,
)
_WORD_COUNT = re.compile(
    r"(?<!\s)\s*[\[(（【*_]*\s*(?:total\s+)?(?:word\s+count|字[数數])(?:统计|統計)?\s*[:：]?\s*(?:about|约)?\s*"
    r"[\d,]+\s*(?:words?|字)?\s*[\])）】*_.。]*\s*\Z",
    re.IGNORECASE,
)
_POLITE = r"(?:sure|certainly|of course|absolutely|understood|okay|great)\b"
_HERE_IT_IS = (
    r"(?:here(?:[’']s| is| are| comes| follows)|below is|the following is|this is"
    r"|(?:i[’']ll|i will|let me) (?:now )?(?:write|continue)|continuing)"
    r"\b[^\n]{0,60}?\b(?:paragraph|section|step|continuation|next part|text|subtask|writing)\b"
    r"[^\n]{0,60}"
)
_META_OPENING = re.compile(
    r"\A[\s*_#>]*(?:"  # no quotation mark, because a character may say "Sure!"
    # without a leading "Sure!", require a colon, because prose can start like this
    rf"{_POLITE}[^\n]{{0,20}}?[,.!:]\W*{_HERE_IT_IS}[:.…]\**|{_HERE_IT_IS}:\**"
    rf"|{_POLITE}[,.!](?:[ \t]*(?:i(?:[’']ll| will| can|[’']d| would)|here|let)\b[^\n]{{0,60}})?"
    r"|(?:好的|当然|没问题|明白了|收到)[，。！,!：:]?"
    r"(?:[^\n]{0,40}(?:第.{1,4}段|段落|部分|内容|续写|撰写|正文)[^\n]{0,20}[：:。！])?"
    r"|(?:以下|下面|接下来)(?:是|将|为)?(?:我|您|根据|按照|第|下一|续写|接续|正文|本|该|关于|这)"
    r"[^\n]{0,40}[：:]"
    r"|(?:以下|下面)(?:是|为)正文[^\n]{0,10}"
    r")[ \t]*(?:\n+|\Z)",
    re.IGNORECASE,
)
_META_CLOSING = re.compile(
    r"(?:\A|\n)\W*(?:"
    r"(?:i hope this|hope this (?:helps|meets)|(?:please )?let me know|feel free to"
    r"|would you like me|shall i|if you(?:[’']d| would) like,? i)\b[^\n]{0,200}"
    r"|(?:to be continued|continued in the next|end of (?:paragraph|section)"
    r"|in the next (?:paragraph|section),? (?:i|we)\b)[^\n]{0,120}"
    r"|(?:希望(?:[这這]|以上)[^\n]{0,10}(?:段|[内內]容|部分|文)|如果您|如您|[请請]告[诉訴]我|[请請][让讓]我知道)[^\n]{0,60}"
    r"|(?:未完待[续續]|待[续續]|本段完|本[节節]完|此段[结結]束)[^\n]{0,10}"
    r")\s*\Z",
    re.IGNORECASE,
)
_CLOSING_WINDOW = 400  # characters

_HEADING = re.compile(r"\A(?:#{1,6}[ \t]+[^\n]+|\*\*[^\n*]{1,80}\*\*)(?=\n|\Z)")
_ANY_HEADING = re.compile(r"^(?:#{1,6}[ \t]+[^\n]+|\*\*[^\n*]{1,80}\*\*)[ \t]*$", re.MULTILINE)
_MIN_OVERLAP = 30  # characters; texts share shorter passages by chance
_TAIL = 4_000  # characters before the section that are searched for an overlap
_MIN_PARAGRAPH = 30  # characters; shorter paragraphs, such as dialogue, may be repeated


@dataclass(frozen=True)
class Cleaned:
    """A cleaned section, and how often each rule removed something."""

    text: str
    counts: Counter[str] = field(default_factory=Counter)
    removed: tuple[tuple[str, str], ...] = ()  # (rule, removed text); thinking is not recorded


def clean(raw: str, before: str = "") -> Cleaned:
    """Return the new prose in `raw`, ready to be appended to the text `before`.

    The rules inspect only the beginning and the end of `raw`, never the prose in between.
    """
    counts: Counter[str] = Counter()
    removed: list[tuple[str, str]] = []
    text = raw.strip()

    def apply(rule: str, after: str) -> None:
        nonlocal text
        if after != text:
            counts[rule] += 1
            if rule != "thinking":
                removed.append((rule, _difference(text, after)))
            text = after.strip()

    apply("thinking", without_thinking(text))
    apply("special_tokens", strip_special_tokens(text))
    while True:  # a removal may expose another: "Sure! Here it is:", "Paragraph 3", "# Title"
        seen = text
        apply("meta_talk", _META_OPENING.sub("", text))
        apply("plan_line", _without_plan_line(text))
        apply("paragraph_identifier", _IDENTIFIER.sub(_keep_markup, text))
        apply("repeated_heading", _without_repeated_heading(text, before))
        apply("repeated_text", _without_repeated_text(text, before))
        apply("meta_talk", _without_ending(_META_CLOSING, text))
        apply("word_count", _without_word_count(text))
        if text == seen:
            return Cleaned(text, counts, tuple(removed))


def _difference(text: str, after: str) -> str:
    """Return the part of `text` that is missing in `after`: its beginning, end or middle."""
    after = after.strip()
    if text.endswith(after):
        return text.removesuffix(after).strip()
    start = _common_prefix(text, after)
    end = _common_prefix(text[start:][::-1], after[start:][::-1])
    return text[start : len(text) - end].strip()


def _common_prefix(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _without_ending(rule: re.Pattern[str], text: str) -> str:
    """Remove a match of `rule` from the end of `text`; only the last characters are searched."""
    start = max(0, len(text) - _CLOSING_WINDOW)
    return text[:start] + rule.sub("", text[start:])


def _without_word_count(text: str) -> str:
    end = text[-_CLOSING_WINDOW:].casefold()
    # most texts have no word count, and this check is a hundred times faster than the regex
    return (
        _without_ending(_WORD_COUNT, text)
        if "count" in end or "字数" in end or "字數" in end
        else text
    )


def _keep_markup(identifier: re.Match[str]) -> str:
    """Return the markup to keep: heading marks and an opening "**", if text follows."""
    rest = identifier.string[identifier.end() :]
    if not rest or rest.startswith("\n"):
        return ""
    line = rest.partition("\n")[0]
    is_bold = identifier["bold"] and "**" in line and "**" not in identifier[0][4:]
    return identifier["markup"] + ("**" if is_bold else "")


def _without_plan_line(text: str) -> str:
    line = text.partition("\n")[0]
    is_step = re.search(r"main point\s*:.*word count\s*:", line, re.IGNORECASE) or re.search(
        r"(?:段落|第).{0,8}(?:要点|主要内容|主旨).*字数\s*[:：]", line
    )
    return _PLAN_LINE.sub("", text, count=1) if is_step else text


def _without_repeated_heading(text: str, before: str) -> str:
    heading = _HEADING.match(text)
    if not heading:
        return text
    known = {_plain(match[0]) for match in _ANY_HEADING.finditer(before)}
    return text[heading.end() :] if _plain(heading[0]) in known else text


def _plain(heading: str) -> str:
    return heading.strip("#* \t:：").casefold()


def _is_paragraph(paragraph: str, text: str) -> bool:
    # most paragraphs do not occur in the text, and `in` is a hundred times faster
    return paragraph in text and any(line.strip() == paragraph for line in text.split("\n"))


def _without_repeated_text(text: str, before: str) -> str:
    """Remove the leading paragraphs, or part of a paragraph, that `before` already contains."""
    first, _, rest = text.partition("\n")
    while len(first) >= _MIN_PARAGRAPH and _is_paragraph(first.strip(), before):
        first, _, rest = rest.lstrip().partition("\n")
        text = f"{first}\n{rest}" if rest else first
    tail = before.rstrip()[-_TAIL:]
    start = tail.find(text[:_MIN_OVERLAP]) if len(text) >= _MIN_OVERLAP else -1
    while start >= 0:
        if text.startswith(tail[start:]):
            return text[len(tail) - start :]
        start = tail.find(text[:_MIN_OVERLAP], start + 1)
    return text
