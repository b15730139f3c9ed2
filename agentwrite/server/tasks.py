"""What the tasks of a turn, its imperatives, ask to be written. Pure.

A turn often names the length of something larger than what it asks for: "The novel will be 40,000
words. Write the first scene." So a task with a length decides alone, and tasks for a part of a text
or for something small count only by a length of their own.
"""

import re
from collections.abc import Callable, Sequence

from longwriter_core.text.required_length import required_length

_CLAUSE_END = re.compile(r"[;；，]|(?<=[^\x00-\x7f]),|,(?=[^\x00-\x7f])")
_FOLLOWING = 6  # clauses after a task that may say how long it is to be

_AMOUNT = r"\d[\d,.]{0,12}\s?k?"
_LENGTH = (
    r"(?:(?:about|around|roughly|approximately|some|exactly|of|in|at least|at most|up to|over|"
    r"under|(?:no |not )?(?:more|less|fewer) than|maximum|minimum|max\.?|min\.?|an?)\s+){0,3}"
    rf"((?:{_AMOUNT}|[a-z]{{3,9}}[\s-](?:thousand|hundred))[\s-]*words?\b)"
)
_LENGTH_ZH = (
    r"(?:大约|大概|约|不少于|不超过|至少|控制在|在)*\s*"
    r"([\d,.一二三四五六七八九十百千万两kKwW]{1,12}\s*[个多来]*字)"
)
_PRELUDE = (
    r"\W*(?:(?:please|kindly|now|then|ok|okay|hi|hello|hey|first|so|just|but|and|for now|can you|"
    r"could you|would you|will you|i want you to|i need you to|i'd like you to|help me(?: to)?)\b"
    r"[\s,:!]*)*"
)
_MAKE = (
    r"(?:write|draft|compose|create|make|produce|generate|develop|prepare|craft|give|sing|provide)"
)
_ASK_ZH = r"(?:请你?|先|再|你|现在|帮忙|帮我|给我|替我|为我|麻烦你?|能不能|可以|能否)"
_WRITE_ZH = r"(?:[续扩编撰]?写|撰|创作|起草|生成|列|拟|起|做|设计|取)"
_TASK = re.compile(
    rf"\A{_PRELUDE}(?:{_MAKE}|author|pen|expand|elaborate|discuss|describe|explore|continue|"
    r"rewrite|turn|tell me|start with|begin with)\b"
    rf"|\A\W*(?:{_ASK_ZH}[^写撰创生成列拟起做设取]{{0,20}})*{_WRITE_ZH}",
    re.IGNORECASE,
)
# A favour that is not a text: "Cheer me up!", 帮我看看.
_FAVOUR = re.compile(
    rf"\A{_PRELUDE}(?!let\b)[a-z]+\s+(?:me|us)\b(?!\s+(?:to|a|an|the|and)\s+\d)|\A\W*{_ASK_ZH}+",
    re.IGNORECASE,
)
_OWN_AFFAIR = re.compile(r"\b(?:i|we|my|our|he|she|they)\b|[我他她]|老师", re.IGNORECASE)

_PARTS = (
    r"introduction|intro|conclusion|abstract|acknowledge?ments?|dedication|epigraph|foreword|"
    r"preface|prologue|epilogue|opening|ending|chapter|scene|section|part|paragraph|sentence|page|"
    r"verse|stanza|lines?"
)
_THINGS = (
    r"thesis statement|table of contents|outline|synops[ie]s|summary|blurb|pitch|loglines?|"
    r"tagline|slogan|titles?|names?|headlines?|subject lines?|captions?|hook|plan|schedule|"
    r"timetable|checklist|rubric|e-?mail|letter|message|memo|note|notice|tweet|post(?:card)?|"
    r"bio(?:graphy)?|poem|haiku|limerick|sonnet|song|joke|riddle|toast|prompts?|ads?|advert|"
    r"contract|clause|agreement|invoice|quiz|questions?|tips|ideas?|advice|feedback|reply|"
    r"(?:character|profile|fact) sheet|bullet points|minutes|pep talk|abstracts?"
)
# The object of a task: a part or something small, at the end of its noun phrase.
_SMALL = re.compile(
    rf"\A{_PRELUDE}(?:{_MAKE}|author|pen|rewrite|start with|begin with|turn\b[^.;]{{0,40}}?\binto)"
    r"\s+(?P<before>(?:(?!(?:for|of|about|on|to|that|which|with|from|in|into|and|or)\b)"
    rf"[\w'’,.-]+\s+){{0,5}}?)(?P<noun>{_PARTS}|{_THINGS})"
    r"(?=\s*(?:\Z|[^\w\s-])|\s+(?:for|of|about|on|to|that|which|who|whose|where|with|from|in|into|"
    r"and|or|as|by|at|under|between|after|before|only|is|me|[a-z]+ing|\d+|one|two)\b)",
    re.IGNORECASE,
)
# "a teaching plan", unlike "a plan" and "a writing plan", may be long
_SHORT_PLAN = re.compile(
    r"(?:\A|\b(?:an?|the|me|my|us|our|short|brief|writing|study|reading|daily|weekly)\s+)\Z", re.I
)
_THEN = re.compile(r"\b(?:then|followed by|and the)\b", re.IGNORECASE)
_SMALL_ZH = re.compile(
    rf"{_WRITE_ZH}.{{0,60}}?(?:大纲|提纲|目录|题目|标题|书名|小传|人设|提示词|开头|结尾|开场|建议|摘要|简介|"
    r"梗概|引言|序言|序|前言|后记|致谢|第[\d一二三四五六七八九十]+[章节回幕段]|邮件|诗|段话|句话|段|便条|通知|"
    r"笑话|朋友圈|标语|口号|清单|计划表|时间表)[吧。！!.\s：:]*\Z"
)
# A length of the object itself: next to it, in brackets, after a comma, or "in 300 words". What
# "a song about 10,000 words" means is in doubt.
_BEFORE_OBJECT = re.compile(_LENGTH, re.IGNORECASE)
_AFTER_OBJECT = re.compile(
    rf"(?:\A\s*\d*\s*(?!about\b)|.*?[,(（:]\s*|.*?\b(?=(?:in|within)\s)(?:within\s+)?){_LENGTH}"
    r"(?=\s*(?:\Z|[^\w\s]|long\b|or\b|in length|about\b|on\b|for\b|from\b))",
    re.IGNORECASE | re.DOTALL,
)
_BEFORE_OBJECT_ZH = re.compile(
    rf"{_WRITE_ZH}[一个几段条份篇封首张]*{_LENGTH_ZH}(?:左右|以内)?的?[^的]{{0,4}}\Z"
)
# "It should be about 4,000 words.", 大约800字: what follows a task and says its length.
_IT = (
    rf"(?:(?:it|(?:the|this) (?:{_PARTS}|{_THINGS})|length|aim for|make it|keep it|"
    r"(?:the|your) (?:story|text|answer|response|piece|output) (?:should|must|has to))\b"
    r"(?![^.]*\b(?:part|from|whole|full)\b)[^.\d]{0,30}?)"
)
_IT_ZH = r"(?:(?:字数|篇幅|长度|要求|本章|这[章节段])[^\d一二三四五六七八九十百千万]{0,6})"
_SAYS_LENGTH = re.compile(
    rf"\A\W*{_IT}?[\s:]*{_LENGTH}|\A\W*{_IT_ZH}?{_LENGTH_ZH}|\A\W*字数[^\d]{{0,8}}(\d{{2,6}})",
    re.IGNORECASE,
)


def decided_words(
    sentences: Sequence[str], may_ask: Callable[[str], bool]
) -> tuple[bool, int | None]:
    """Whether the tasks among a turn's sentences decide about its length, and the length.

    `may_ask` says whether a sentence may ask for a text of the length that it names.
    """
    clauses = [part for each in sentences for part in _CLAUSE_END.split(each) if part.strip()]
    tasks = [number for number, clause in enumerate(clauses) if _TASK.match(clause)]
    if not tasks:
        favours = [clause for clause in clauses if _FAVOUR.match(clause)]
        with_length = [clause for clause in clauses if required_length(clause)]
        is_own_affair = all(_OWN_AFFAIR.search(clause) for clause in with_length)
        return is_own_affair and any(clause not in with_length for clause in favours), None
    lengths, all_are_small = [], True
    for number in tasks:
        clause = clauses[number]
        rest = clauses[number + 1 : number + 1 + _FOLLOWING]
        if is_small(clause):
            lengths.append(_own_length(clause) or _said_length(rest))
        else:
            all_are_small = False
            length = required_length(clause)
            lengths.append(length if length and may_ask(clause) else None)
    found = [length for length in lengths if length]
    return bool(found) or all_are_small, max(found, default=None)


def is_small(task: str) -> bool:
    """Whether a task asks for a part of a text, or for what is never thousands of words long."""
    if _SMALL_ZH.search(task):
        return True
    match = _SMALL.match(task)
    if not match or _THEN.search(task):
        return False
    return match["noun"].lower() != "plan" or bool(_SHORT_PLAN.search(match["before"]))


def _own_length(task: str) -> int | None:
    """The length that a task for something small names for it."""
    if match := _SMALL.match(task):
        own = _BEFORE_OBJECT.search(match["before"]) or _AFTER_OBJECT.match(task[match.end() :])
    else:
        start = _SMALL_ZH.search(task)
        own = _BEFORE_OBJECT_ZH.match(task[start.start() :]) if start else None
    return required_length(f"Write {next(filter(None, own.groups()))}") if own else None


def _said_length(clauses: Sequence[str]) -> int | None:
    """The length that the clauses after a task name for it."""
    for clause in clauses:
        if match := _SAYS_LENGTH.match(clause):
            length = next(filter(None, match.groups()))
            return required_length(f"Write {length}") or required_length(f"写{length}字")
    return None
