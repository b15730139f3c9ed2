"""The required length in an instruction, in words (Chinese: characters). Pure.

An instruction may name the length of the text to write, of its parts, of a text to summarise or of
an existing text, and word counts unrelated to any text. Each length is classified by the words
around it. In case of doubt, there is no required length, because a plan without one is better than
a text that is fifty times too long.
"""

import re
from dataclasses import dataclass

from longwriter_core.text.length_focus import focus, is_of_sources, is_own
from longwriter_core.text.numbers import (
    CHINESE_NUMBER,
    NUMBER_WORD,
    SMALL_NUMBERS,
    SPELLED,
    narrow,
    number,
)

_AMOUNT = (
    # not inside a number, but possibly right after a comma: "fifty years of tea,600字"
    r"(?<!\d)(?<!\d[.,])(?:\d(?:\.\d)?e[3-6]\b"
    r"|\d{1,3}(?:,\d{3})+|\d{1,3}(?: 000)+(?!\d)|\d{1,7}(?:\.\d{1,3})?)"
    r"\s*(?:[kKwW](?![A-Za-z])|thousand\b|million\b|m(?![A-Za-z])"
    r"|百万|十万|千万|[十百千](?![^字万])|万(?:\d千?)?|百|千)?"
    rf"|{CHINESE_NUMBER}{{1,9}}"
    rf"|{SPELLED}"
)
_PLUS = r"(?:\s*(?:\+|or (?:more|so)|plus\b))?"
_AT_MOST = (  # "at least 800 words and no more than 1200 words" is a range
    r"[,;]?\s*(?:(?:and|but)\s+)?(?:max(?:imum)?\.?(?:\s+of)?|at most|(?:no|not) more than"
    r"|不超过|不多于|不高于|最多)"
)
_LENGTH = re.compile(
    rf"(?P<low>{_AMOUNT})(?P<dash>{_PLUS}(?:\s*(?:words?|字)?\s*(?:-|~|to|and|or|至|到|、|{_AT_MOST})"
    rf"\s*(?P<high>{_AMOUNT})))?{_PLUS}"
    # 字 also begins 字母 (letter), 字符 (character), 字段 (field) and 字体 (font)
    r"(?P<unit>[\s-]*(?:(?:english|chinese|total)[\s-]+)?words?\b|\s+chinese characters\b"
    r"|\s*[多余来]?\s*个?(?:汉字|字(?![母符段体典幕号节眼迹画面词库帖纹]))|\s*[多余]?词)",
    re.IGNORECASE,
)
# 字数要求：2000左右, Word count: 1500, Length: 2000
_UNITLESS = re.compile(
    rf"(?:字数[^\d\n。]{{0,8}}?|\bword (?:count|limit|target)\s*(?:is|of|should be|must be)?"
    r"[:=\s]{1,3}"
    rf"(?:about |around |roughly |approximately |approx\.? |at least )?"
    rf"|(?:^|[\n.;,(]\s*)words\s*[:=]\s*)"
    rf"(?P<low>{_AMOUNT})(?:\s*(?:-|~|to|至|到)\s*(?P<high>{_AMOUNT}))?",
    re.IGNORECASE,
)
_BLANKS = re.compile(r"\s+")
_TWICE = re.compile(  # 2,000 (two thousand), two thousand (2,000), 5000(五千)
    rf"(?P<digits>\d)\s*\((?:{SPELLED}|{CHINESE_NUMBER}+)\)"
    rf"|(?P<spelled>{SPELLED})\s*\([\d,]+\)",
    re.IGNORECASE,
)
_MAX_PARTS = 5  # different part lengths; with more, the lengths are not reliable
_WINDOW = 60  # characters before and after a length that are searched for cues
_MIN_WORDS = 20  # below it, spelled out: idioms, "in two words", 四字成语

# Nouns for parts of a text. The number of parts and their length must refer to the same noun.
_PART = (
    r"(?P<noun>chapter|section|part|paragraph|essay|stor(?:y|ie)|article|episode|scene|post|letter"
    r"|act|entr(?:y|ie)|module|lesson|essay|piece|volume)"
)
_PART_ZH = r"(?P<noun>章|节|回|部分|段|篇|封|卷|集|个故事|幕)"
_EACH_BEFORE = re.compile(
    rf"\b(?:each|every|per)\b(?!\s*\))(?:\s+{_PART})?[^.。\n;]{{0,40}}$", re.IGNORECASE
)
_EACH_BEFORE_ZH = re.compile(rf"(?:每|各)(?:一|个)?{_PART_ZH}?(?:节|落)?[^，。,.\n；;]{{0,10}}$")
_EACH_AFTER = re.compile(rf"\s*(?:long\s+)?(?:each\b|(?:per|every|a)\s+{_PART}s?\b)", re.IGNORECASE)
_OF_PARTS = re.compile(  # "3 essays of 700 words", where no "each" is needed
    rf"(?P<count>\b\d{{1,3}}|{NUMBER_WORD})[\s-]+(?:[a-z]+\s+){{0,2}}{_PART}s\s+"
    r"(?:of|with|at)\s+(?:about |around |roughly |approximately )?$",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    rf"(?<![\d.,-])(?P<count>\d{{1,3}}|\b{NUMBER_WORD})[\s-]+(?:[a-z]+\s+){{0,2}}?{_PART}s?\b",
    re.IGNORECASE,
)
_COUNTED_ZH = re.compile(
    rf"(?<![第\d.])(?P<count>\d{{1,3}}|[一二两三四五六七八九十]{{1,3}})(?:个)?{_PART_ZH}"
)
_RATE = re.compile(
    r"\s*(?:an?|per|each|every)\s+(?:day|week|month|hour|minute|page|second|night|dollar|session)\b"
    r"|\s*(?:daily|weekly)\b|\s*/|\s*\d+\s*元",
    re.IGNORECASE,
)
_RATE_BEFORE = re.compile(
    r"(?:\b(?:per|every)|\$\s?[\d.,]+ (?:for|per))\s*$"
    r"|(?:每(?:天|日|周|月|分钟|小时)|(?:一)天)[^，。,\n]{0,8}$|每$|稿费.{0,4}$",
    re.IGNORECASE,
)
# Verbs for work on an existing text, whose length is not the required length, unless "to", "into"
# or "in" introduces the length.
_ON_TEXT = re.compile(
    r"\b(?:summari[sz]e|condense|shorten|cut|reduce|trim|edit|proofread|review|translate|analy[sz]e"
    r"|teach(?: me)?|critique|rewrite|expand|extend|lengthen|read|turn|convert|compress|abridge"
    r"|paraphrase|adapt"
    r"|polish|improve|explain|remove|delete|add|discuss|use|using|from|learn|know|knows|"
    r"memori[sz]e|type|typing|define|translat(?:ion|ing)|list|these|this|those|that|following|above"
    r"|below|attached|existing|original|instead of|rather than|than|worth|how many|called|titled"
    r"|what (?:does|do|is)|\$[\d.]+ for|based on|given)\s+(?:[^.\n:;,]{0,40}\s)?"
    r"(?:of |about |around |roughly |the |an? )*$|\b(?:about|on) (?:an?|the) $",
    re.IGNORECASE,
)
_LEADS_TO = re.compile(
    r"\b(?:in|into|to|as|within|at|no more than|no fewer than|not less than|more than|less than"
    r"|(?:at|the) (?:least|most)|over|under|using|use|with|than|minimum|maximum|up to|between"
    r"|(?:writ|draft|creat|compos|produc|prepar|make|is|be|need)[a-z]*"
    r"|(?:write|draft|create|compose|produce|prepare|generate|develop|craft|into)(?: [a-z]+){1,6})"
    r"(?:\s+(?:an?|about|around|roughly|approximately|approx\.?|some|no|not|more|fewer|less|than|at"
    r"|least|most|over|under|just|only|exactly|another|it|up|between|the|next|first|further|of"
    r"|detailed|long|short|new|full|my|me|a[- ]?maximum|maximum|minimum))*\s*\(?$",
    re.IGNORECASE,
)
_OWNED = re.compile(  # my 90,000-word thriller; a title for my 2000-word essay
    r"\b(?P<owner>my|our|his|her|their|its|the author[’']s|this|(?<!so )that|these|those|attached"
    r"|above|following|existing|original|uploaded)\s+"
    r"(?:(?!(?:wants?|needs?|requires?|expects?|asks?|demands?)\b)[a-z]+\s+){0,2}$",
    re.IGNORECASE,
)
_WRITE_MY = re.compile(
    r"\b(?:write|draft|do|finish|compose)(?: me)? (?:my|our)\s+(?:[a-z]+\s+){0,2}$", re.I
)
_DONE = re.compile(
    r"\b(?:(?:have|has|had|[’']ve|[’']s) (?:already |just "
    r"|so far )*(?:written|got|finished|done|drafted)"
    r"|already (?:wrote|written|have)|i (?:wrote|write|finished|typed)|currently|so far"
    r"|i have(?! to\b)|(?:my|the) (?:draft|manuscript|text|novel|essay|book|thesis|story|original)"
    r" (?:is|has|runs?|contains?)|has)\b[^.\n;:]{0,25}$",
    re.IGNORECASE,
)
_DERIVED = re.compile(
    r"\b(?:outline|summary|synopsis|chapter(?: one| \d+)?|plan|titles?|names?|review|introduction"
    r"|abstract|pitch|blurb|cover|structure|table of contents|ideas?|prompts?|feedback|critique"
    r"|tips|advice|plot|themes?|moral|message|argument|gist|characters?|opening"
    r"|ending|excerpt|preface|query letter|conclusion)\s+"
    r"(?:of|for|from|to)\s+(?:an?|the|my|our)\s+(?:[a-z]+\s+){0,3}$",
    re.IGNORECASE,
)
_INSIDE = re.compile(  # a part that the text is to have
    r"\b(?:with|includ(?:e|es|ing)|plus|contain(?:s|ing)?|and|add|followed by)\s+an?\s+"
    r"(?:[a-z]+\s+){0,2}$",
    re.IGNORECASE,
)
# "Write a 7,500-word chapter; the whole book will have 90,000 words."
_ORDERED = re.compile(
    r"\b(?:write|draft|compose)(?: me| us)? an?\s+(?:(?:about|roughly)\s+)?$", re.IGNORECASE
)
_ORDERED_PART = re.compile(
    r"[\s-]*(?:[a-z]+\s+)?(?:chapter|scene|section|episode|excerpt)\b", re.IGNORECASE
)
_PART_OF_TEXT = re.compile(
    r"[\s-]*(?:abstract|introduction|intro|conclusion|summary|bio(?:graphy)?|foreword|preface"
    r"|epilogue|prologue|paragraph|section|sidebar)\b",
    re.IGNORECASE,
)
_VOCABULARY = re.compile(
    r"[)\s]*(?:that (?:rhyme|start|begin|end|mean|describe|contain|are|sound)|starting|beginning"
    r"|rhyming|ending|containing|meaning|associated|related to|which|below|above|[:：]\s*\w+\s*,"
    r"|(?:rule|list|game|challenge|puzzle)\b)"
    r"|[^.?!\n]{0,12}\b(?:per minute|a minute|an hour|a day)\b",
    re.IGNORECASE,
)
_VOCABULARY_ZH = re.compile(
    r"\s*(?:造句|成语|词语|口号|对联|标题|写一首|组成|[:：、])|[的]?(?:是什么|怎么|如何)"
)
_TITLE_OPEN = re.compile(r"《[^》]{0,30}$|[“\"‘][^”\"’\n]{0,12}$")
_TITLE_CLOSE = re.compile(r"[^《“”\"\n]{0,30}[》”\"’]")

_ON_TEXT_ZH = re.compile(
    r"(?:(?:这|那|此|该|(?<![一两几\d写])本)(?:一)?(?:篇|部|本|段|份|个|些|几)?(?:关于[^，。,\n]{0,10})?"
    r"|(?:以下|下面|上述|上面|下列|附件|原文|原稿|现有)[^，。,\n]{0,6}"
    r"|(?:我|他|她|他们|我们|作者)(?:有|写)?(?:的|了)?(?:这|那|一)?(?:篇|部|本|份)?"
    r"|(?:为|给|替|对|根据|按照|基于|把|将)[^，。,\n写来做]{0,12}[篇部本份段个]"
    r"|(?:为|给|替|对|根据|按照|基于|把|将)[^，。,\n写来做]{0,4}"
    r"|(?:总结|概括|缩写|压缩|翻译|润色|修改|改写|点评|阅读|分析"
    r"|校对|删减|删除|删去|认识|学习|背诵|翻译一下|共有|收录)[^，。,\n为成到至用]{0,10}"
    r"|(?:书|小说|文章|原文|论文|手稿)(?:共|总共)?有(?:大约|约)?|常用)(?:约|大约)?$"
)
_OWNED_ZH = re.compile(
    r"(?:(?:我|他|她|他们|我们|手上|手头)(?:这里|手里|手上)?有(?:一)?(?:篇|部|本|份|个|段)"
    r"|(?:常用|汉字|词典|字典|课标)[^，。,\n]{0,6}有?)(?:约|大约)?$"
)
_LEADS_TO_ZH = re.compile(
    r"(?:写(?:一|出)?本|成|为(?:一)?(?:篇|部|份)?|到|至|用|以|在|成一篇|成一份|成一部|写(?:一|出)?(?:篇|份|部|个|段)?|不少于|不低于|不超过|少于|多于|超过|控制在|限"
    r"|一(?:篇|份|部|个|段|封))(?:约|大约|大概)?$"
)
_DONE_ZH = re.compile(
    r"(?:已经?(?:写|完成|有)|目前|写了|(?<![扩续改缩])写到|只能写|能写|现在(?:有|写)|写过)[^，。,\n]{0,6}$"
)
_DERIVED_ZH = re.compile(
    r"[^，。,\n]{0,6}?(?:小说|文章|论文|书|报告|剧本|稿子?|作品|故事)"
    r"(?:的|写(?:一)?[份个篇]?|起(?:一)?个?|做(?:一)?份?|列(?:一)?份?)"
    r"[^，。,\n]{0,4}(?:大纲|提纲|目录|简介|梗概|标题|书名|开头|第.{1,3}章|摘要|封面|人设)"
)
_INEXACT_ZH = re.compile(r"[几数好若]\s*$")  # 几千字, 数万字


@dataclass(frozen=True)
class _Length:
    """A length in an instruction."""

    words: int
    kind: str  # "whole", "each" or "part"
    noun: str = ""  # for "each": the part that has this length
    count: int | None = None  # for "each": the number of parts, if named next to the length
    is_total: bool = False


def required_length(instruction: str) -> int | None:
    """The required length in `instruction`, such as "10,000 words" or "a 2k-word essay".

    A range gives its middle; a minimum or a maximum gives that number. Of several lengths, the one
    called the total counts, else the largest, since a text is longer than its parts. The length of
    each part counts if the instruction also names the number of parts. None if no length is named,
    or if it is unclear what the named length refers to.
    """
    # _LENGTH contains several \s*, so it would take cubic time on a long run of blanks
    text = _BLANKS.sub(lambda run: "\n" if "\n" in run[0] else " ", narrow(instruction))
    text = re.sub(r"(?<=\d)[’'](?=\d{3}(?!\d))", ",", text)  # 5’000
    text = _TWICE.sub(lambda twice: twice["digits"] or twice["spelled"], text)
    found = [
        (length, match.span())
        for match in _LENGTH.finditer(text)
        if (length := _classified(text, match)) and length.words > 0
    ]
    lengths = [length for length, _ in found]
    whole = [(length, span) for length, span in found if length.kind == "whole"]
    places = focus(text, [span for _, span in whole], [length.words for length, _ in whole])
    wholes = [whole[place][0] for place in places]
    if totals := [length.words for length in wholes if length.is_total]:
        return max(totals)
    parts = {length for length in lengths if length.kind == "each"}
    in_doubt = len(parts) > _MAX_PARTS
    products = [] if in_doubt else [size for part in parts if (size := _product(text, part))]
    if wholes or products:
        return max([length.words for length in wholes] + products)
    if not lengths and (bare := _UNITLESS.search(text)):
        words = _middle(bare["low"], bare["high"])
        return words if words >= _MIN_WORDS else None
    return None


def _middle(low_text: str, high_text: str | None) -> int:
    """The middle of a range, or the one number."""
    low = number(low_text) or 0
    high = number(high_text) if high_text else None
    if high is None:
        return round(low)
    if low < high and re.fullmatch(r"[0-9.,]+", low_text.strip()) and low * 100 < high:
        low *= high / (number(re.sub(r"[^0-9.,]", "", high_text or "")) or 1)  # 2 to 3k, 2-3万
    return round((low + high) / 2)


def _classified(text: str, match: re.Match[str]) -> _Length | None:
    """A length with what it refers to; None if it is not the length of a text to write."""
    before = text[max(0, match.start() - _WINDOW) : match.start()]
    after = text[match.end() : match.end() + _WINDOW]
    low, high = match["low"], match["high"]
    joint = match["dash"] or ""
    is_grown = False
    if high and (
        re.search(r"\bfrom\s*$", before, re.IGNORECASE)
        and re.search(r"\b(?:expand|extend|lengthen|shorten|cut|reduce|grow|trim)", before, re.I)
    ):
        low, is_grown = high, True  # "from 500 to 2000 words": only the second is required
    elif (
        high
        and re.search(r"\s(?:and|or)\s|、", joint)
        and not re.search(r"between\s*$", before, re.I)
    ):
        low = high  # two things, not a range
    words = _middle(low, high)
    is_spelled = not re.search(r"\d", low)
    if is_spelled and words < _MIN_WORDS:
        return None
    if re.fullmatch(r"\d{3}", low.strip()) and re.search(r"(?<![\d.,-])\d{1,3} $", before):
        return None  # "2 500 words" may be 2,500 words or two texts of 500
    if is_spelled and low == "千" and (after.startswith("文") and not before.endswith("篇")):
        return None  # 千字文 is a book
    if is_spelled and words < 50 and "字" in match["unit"]:
        return None  # 二十四字核心价值观
    if _TITLE_OPEN.search(before) and _TITLE_CLOSE.match(after):
        return None
    if _RATE.match(after) or _RATE_BEFORE.search(before) or _INEXACT_ZH.search(before):
        return None
    part = _part_of(before, after)
    if part is not None:
        if is_of_sources(text, match.start()):
            return None
        noun, count = part
        return _Length(words, "each", noun, count)
    is_english = "word" in match["unit"].lower() or "chinese" in match["unit"].lower()
    is_elsewhere = _is_elsewhere if is_english else _is_elsewhere_zh
    if not is_grown and not is_own(text, match.start()) and is_elsewhere(before, after):
        return None
    if _INSIDE.search(before) and _PART_OF_TEXT.match(after):
        return _Length(words, "part")
    is_ordered = _ORDERED.search(before) and _ORDERED_PART.match(after)
    is_total = bool(is_ordered) or bool(
        re.search(
            r"(?:\btotal(?:ing)?|\boverall|altogether)\W[^.\n]{0,15}$|(?:总|一?共|全文|全书|合计)[^，。,\n每]{0,6}$",
            before,
            re.I,
        )
        or re.match(r"\s*(?:in total|overall|altogether|total)\b", after, re.I)
    )
    return _Length(words, "whole", is_total=is_total)


def _part_of(before: str, after: str) -> tuple[str, int | None] | None:
    """The noun of parts with this length ("" if unnamed), and their number if it is named."""
    if match := _OF_PARTS.search(before):
        return _singular(match["noun"]), _count(match["count"])
    if match := _EACH_AFTER.match(after):
        return _singular(match["noun"] or ""), None
    if (match := _EACH_BEFORE.search(before)) or (match := _EACH_BEFORE_ZH.search(before)):
        return _singular(match["noun"] or ""), None
    return None


def _product(text: str, length: _Length) -> int | None:
    """The words of all parts, if the instruction names exactly one number of parts."""
    if length.count:
        return length.count * length.words
    counts = set()
    for match in (*_COUNTED.finditer(text), *_COUNTED_ZH.finditer(text)):
        noun = _singular(match["noun"])
        if noun == length.noun or (not length.noun and "word" not in match[0]):
            counts.add(_count(match["count"]))
    if re.search(
        r"第[一二三四五六七八九十\d]+[章节]|\bchapter (?:\d{1,2}(?![\d,])|one)\b", text, re.I
    ):
        return None  # the instruction may ask for that chapter only
    counts.discard(None)
    counts -= {1} if length.noun in ("章", "篇", "节", "") else set()  # 写一篇…，分五章
    only = counts.pop() if len(counts) == 1 else None
    return only * length.words if only else None


def _singular(noun: str) -> str:
    noun = noun.lower()
    return {"storie": "story", "entrie": "entry"}.get(noun, noun)


def _count(text: str) -> int | None:
    if text.isdigit():
        return int(text)
    if text.lower() in SMALL_NUMBERS:
        return SMALL_NUMBERS[text.lower()]
    value = number(text)
    return int(value) if value else None


def _is_elsewhere(before: str, after: str) -> bool:
    """Whether an English length belongs to an existing text, or counts a vocabulary."""
    if _VOCABULARY.match(after) or _DERIVED.search(before):
        return True
    sentence = re.split(r"[.!?\n;]\s", before)[-1]
    if _OWNED.search(sentence) and not _WRITE_MY.search(sentence):
        return True
    if _DONE.search(sentence):
        return not re.search(r"\b(?:word|words|length|limit|should|must|needs?)\b", sentence, re.I)
    if re.search(r"[\"”’'], an?\s+(?:[a-z]+\s+){0,2}$", sentence, re.I):
        return True  # "War and Peace", a 587,287-word novel
    if match := _ON_TEXT.search(sentence):
        return not _LEADS_TO.search(match[0]) or bool(
            re.search(r"(?:these|those|following|how many)\s*$", sentence, re.I)
        )
    return bool(re.match(r"[\s-]*(?:novel|book|manuscript),? (?:that|which|is|was)\b", after))


def _is_elsewhere_zh(before: str, after: str) -> bool:
    """The same for a length in Chinese characters."""
    if _VOCABULARY_ZH.match(after) or _DERIVED_ZH.match(after) or _DONE_ZH.search(before):
        return True
    if _OWNED_ZH.search(before):
        return True
    if _ON_TEXT_ZH.search(before):
        return not _LEADS_TO_ZH.search(before) or bool(
            re.search(r"(?:为|给|替)(?:一|我|这|他)[^，。,\n]{0,6}$", before)
        )
    return False
