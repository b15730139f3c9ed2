"""Detects how a text ends: finished, cut off, or with an announcement of more. Pure.

The rules look at the last lines only, so their time does not depend on the length of the text.
scripts/measure_diagnostics.py measures them on labelled texts.
"""

import re
import unicodedata

_WINDOW = 3_000  # characters at the end of a text that the rules look at

# Characters that may follow the final punctuation: quotes, brackets, Markdown, blanks.
_CLOSERS = "\"'”’»」』)]}）】》〉*_`~#-–— \t\r\n\u3000"
_FINAL_PUNCTUATION = tuple(".!?…。！？．～∎□■★☆।॥۔؟።")
_NO_PUNCTUATION = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]$"
)  # Thai, Lao, Burmese, Khmer
_PAUSES = tuple(",，、;；:：")
# A final full stop that does not end a sentence.
_ABBREVIATION = re.compile(r"\b(?:Dr|Mrs?|Ms|Prof|St|Rev|Capt|Lt|Col|Gen|Sgt|Mme|vs|e\.g|i\.e)\.$")
# A list marker without its item, the key of a reference without the reference.
_BARE_MARKER = re.compile(
    r"^\W*(?:\d{1,3}[.)．、]|[一二三四五六七八九十]{1,3}、"
    r"|[(（][一二三四五六七八九十\d]{1,3}[)）]|\[\d{1,3}\]"
    r"|[①-⑳])\W*$"
)
_BARE_BULLET = re.compile(r"^\s*[-+•*]$")
_LIST_ITEM = re.compile(
    r"^\s*(?:[-+•*·]\s|\d{1,3}[.)．、]\s*|[（(]?[一二三四五六七八九十]{1,3}[)）、]\s*|[①-⑳])"
)
_HEADING = re.compile(
    r"^\s*(?:#{1,6}\s|\W{0,4}(?:chapter|part|section|act|scene|book)\s+(?:\w+)\b.{0,60}$"
    r"|\W{0,4}第[一二三四五六七八九十百\d]+[章节節回部幕卷篇].{0,40}$"
    r"|\W{0,3}(?:INT|EXT)\. .{0,60}$)",
    re.IGNORECASE,
)
_HAN_HEADING = re.compile(r"^\W{0,3}[一二三四五六七八九十]{1,3}[、)）].{0,30}$")
_THE_END = re.compile(
    r"\b(?:the end|finis?|end of (?:the )?\w+(?: \w+)?"
    r"|curtain(?: falls)?|fade(?:s)? (?:out|to black)"
    r"|(?:cut|smash cut) to(?: black)?|black ?out|q\.?e\.?d)\W*$"
    r"|(?:完|终|終|幕落|落幕|剧终|淡出|闭幕|黑屏|证毕|施行|特此[\u4e00-\u9fff]{2})\W*$"
    r"|^\W*(?:end|.{0,6}结束|.{0,6}結束)\W*$",
    re.IGNORECASE,
)
# A last word that needs another one after it.
_DANGLING = re.compile(
    r"\b(?:the|an?|of|to|and|or|but|nor|with|by|from|for|in|on|at|into|as|than|that|which|who|whose"
    r"|is|are|was|were|be|been|has|have|had|will|would|could|should|can|may|might|must|do|does|did"
    r"|not|his|her|their|our|my|your|its|this|these|those|because|if|when|while|although|through"
    r"|between|about|also|very|such|some|every|no)$"
    r"|(?:可是|但是|因为|所以|如果|虽然|不过|然后|而且|并且|于是|甚至|比如|例如)$"
    r"|[和与與及而但把被从從向对對为為将將并並或因于於且却卻的了着]$",
    re.IGNORECASE,
)
_HARD_DANGLING_HAN = tuple("和与與及而但把被从從向对對为為将將并並或因于於且却卻")
_VALEDICTION = re.compile(
    r"^\W*(?:(?:yours?|best|kind(?:est)?|warm(?:ly|est)?|sincerely|regards|respectfully|cheers"
    r"|thanks|thank you|love|lots of love|with|xo+|faithfully|truly|affectionately|cordially|always"
    r"|signed|for and on behalf|in solidarity|gratefully|take care|fondly|your)\b[^.!?]{0,60},?"
    r"|i remain[^.!?]{0,80},"
    r"|(?:此致|敬礼|敬禮|顺[颂祝]|順[頌祝]|即颂|敬颂|谨[祝启]|祝|商祺"
    r"|[冬夏春秋近时台大]安|敬上|谨上|手书)"
    r".{0,12})\W*$",
    re.IGNORECASE,
)
_HAN_SIGNATURE = re.compile(
    r"^(?:永远)?(?:爱你|想你|您|你|敬爱您)们?的.{0,8}$|(?:敬上|谨上|手书|拜上|亲笔|启)$"
)
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d|二[〇○零].{2}年")
_REFERENCES = re.compile(
    r"^\W*(?:references|bibliography|works cited|sources|further reading|notes|footnotes"
    r"|(?:主要)?参考(?:文献|资料|书目)|资料来源|延伸阅读|注释|脚注)\W*$",
    re.IGNORECASE | re.MULTILINE,
)
_FOOTNOTE = re.compile(r"^\s*(?:[¹²³⁴-⁹①-⑳†‡]|\[\^?\w{1,4}\])[:\s]*\S.{5,}")
_REFERENCE_CUT = re.compile(r"\b(?:and|of|the|in|on|&)$|[,，]$", re.IGNORECASE)
_LINK = re.compile(r"(?:https?://|www\.)\S+\.\S{2,}$|\S+@\S+\.\w{2,}$|\b(?:doi|DOI):\S+$|\d{5,}$")
_OPEN_LINK = re.compile(r"\[[^\]\n]*\]\([^)\n]*$|https?://$")
_LABEL = re.compile(
    r"^\W{0,4}(?:[A-Z][\w .'/&-]{0,28}|[\u4e00-\u9fff\w（）/]{1,8})\W{0,3}[:：]\W*(\S.*)$"
)
_LABEL_MAX_WORDS = 12
_BLANK_TO_FILL = re.compile(r"_{3,}\W*$|_{2,}[年月]?_*[月日]$")
_LEADERS = re.compile(r"\.{4,}|_{3,}|—{2,}\S{1,8}$")
_COUNT = re.compile(r"\b\d[\d,.]*\s*(?:words|字|characters|/\s?\d+)\W*$|^\W{0,3}©", re.IGNORECASE)
_BYLINE = re.compile(
    r"^\s*(?:[—–]+\s*\S|- [A-Z]|(?:by|written by|posted by|translated by) \S|作者|撰稿|文/)"
    r".{0,60}$",
    re.IGNORECASE,
)
_POSTSCRIPT = re.compile(r"^\W*(?:P\.?\s?(?:P\.?\s?)?S\b\.?|又及|附言)", re.IGNORECASE)
_CUE = re.compile(r"^\**[A-Z][A-Z .'()]{1,30}\**:?$")  # who speaks in a script
_TIME = re.compile(r"^\s*\d{1,2}[:：]\d\d\b.*\S")
_CLOSED = re.compile(r"</\w+>$|^(?: {4}|\t)\S|[};]$|\\\]$|^\$\$.+\$\$$")
_OPEN_SPEECH = re.compile(r"[，,:：]\s*[\"“「『]$")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_HAN_COUPLET = re.compile(r"^([\u4e00-\u9fff]{5,7})[，,]([\u4e00-\u9fff]{5,7})$")
_SHORT_LINE = 60  # characters; half as many in Chinese
_SMALL_WORDS = frozenset(("a", "an", "and", "at", "by", "for", "in", "of", "on", "the", "to", "de"))


def is_cut_off(text: str) -> bool:
    """Whether a non-empty text stops before it is finished.

    Such a text ends within a word, sentence, list, table, code block or formula, or on a heading.
    Some endings are finished without final punctuation: signatures, references, hashtags, verse,
    table rows, labels, credits, and lists whose items have no punctuation.
    """
    tail = text[-_WINDOW:].rstrip()
    if text.count("```") % 2:
        return True
    if tail.endswith("```"):
        return False
    lines = [line.rstrip() for line in tail.splitlines()]
    while lines and _is_rule(lines[-1]):
        lines.pop()
    if not lines:
        return False
    last = lines[-1]
    if _has_open_markup(lines) or last.lstrip().startswith("|"):
        return _has_open_markup(lines) or _is_cut_table(lines)
    return _is_cut_line(lines, last)


def _is_rule(line: str) -> bool:
    """Whether a line is empty or a divider such as "***" or "---"."""
    bare = line.replace(" ", "").lstrip(">")
    return not bare or (len(bare) >= 3 and not bare.strip("*-_=~#—–·•"))


def _has_open_markup(lines: list[str]) -> bool:
    """Whether the last line ends on a marker, or within a quote, link, formula or emphasis."""
    last = lines[-1]
    if _BARE_MARKER.match(last) or _BARE_BULLET.match(last):
        return True
    if _OPEN_SPEECH.search(last) or _OPEN_LINK.search(last) or last.count("**") % 2:
        return True
    if last.count("`") % 2:
        return True
    paragraph = "\n".join(lines[-6:])
    return paragraph.count("$$") % 2 == 1 or paragraph.count("\\[") > paragraph.count("\\]")


def _is_cut_table(lines: list[str]) -> bool:
    """Whether the last row of a table is incomplete, or is the divider below the header."""
    last = lines[-1].strip()
    width = len(lines) > 1 and lines[-2].lstrip().startswith("|") and lines[-2].count("|")
    is_separator = not last.strip("|-: ")
    return not last.endswith("|") or is_separator or bool(width and last.count("|") != width)


def _is_cut_line(lines: list[str], last: str) -> bool:
    bare = last.rstrip(_CLOSERS)
    is_bracketed = last.lstrip(" *_").startswith(tuple("[(（【")) and _is_closed_quote(last)
    if _THE_END.search(last) or _is_tags(last) or is_bracketed:
        return False
    if _is_heading(lines):
        return True
    if _ABBREVIATION.search(bare):
        return True
    if not bare or bare.endswith(_FINAL_PUNCTUATION) or _is_symbol(bare[-1]):
        return False
    if _NO_PUNCTUATION.search(bare) or _BLANK_TO_FILL.search(last):
        return False
    if bare.endswith(_PAUSES):
        return not _is_signed(lines)
    if _is_signed(lines) or _CLOSED.search(last) or _TIME.match(last) or _is_link(bare):
        return False
    before = [line for line in lines[:-1] if line.strip()]
    if sum(line.startswith(last) and line != last for line in before[-8:]) > 1:
        return True  # a loop that stopped within its line
    if _LIST_ITEM.match(last) and (peers := [line for line in before if _LIST_ITEM.match(line)]):
        return _is_finished(peers[-1]) or _is_dangling(bare)
    if _is_reference(lines, bare) or _is_closed_quote(last):
        return False
    if _is_dangling(bare):
        return True
    return not (
        _is_labelled(last)
        or _LEADERS.search(last)
        or _COUNT.search(last)
        or _BYLINE.match(last)
        or _POSTSCRIPT.match(last)
        or _HAN_COUPLET.match(bare)
        or _is_verse(lines)
        or _is_title(lines)
    )


def _is_heading(lines: list[str]) -> bool:
    """Whether the last line is a heading without any text below it."""
    last = lines[-1].strip()
    if _HEADING.match(last) and not _is_finished(last):
        # Consecutive headings are an outline.
        return len(lines) == 1 or not _HEADING.match(lines[-2]) or _is_dangling(last)
    if _HAN_HEADING.match(last) and not last.endswith(_FINAL_PUNCTUATION):
        return not any(_LIST_ITEM.match(line) for line in lines[-3:-1])
    is_bold = last.startswith("**") and last.endswith("**") and last.count("**") == 2
    inner = last.strip("*").strip()
    return is_bold and not _is_finished(inner) and not _COUNT.search(inner) and ": " not in inner


def _is_finished(line: str) -> bool:
    return line.rstrip(_CLOSERS).endswith(_FINAL_PUNCTUATION)


def _is_dangling(bare: str) -> bool:
    """Whether a line ends on a word that needs another one: an article, a preposition …"""
    return bool(_DANGLING.search(bare)) and not bare.isupper()


def _is_tags(line: str) -> bool:
    words = [word for word in line.split() if not _is_symbol(word[0])]
    return (
        bool(words)
        and all(word.startswith("#") and len(word) > 2 for word in words)
        and (len(words[0].strip("#")) > 0)
    )


def _is_link(bare: str) -> bool:
    """Whether a line ends with an address, such as the last one of a list of sources."""
    return bool(_LINK.search(bare.rstrip(">")))


def _is_symbol(character: str) -> bool:
    """Whether a character is an emoji or another symbol that can end a text like a full stop."""
    return unicodedata.category(character) in ("So", "Sk", "Mn", "Cf")


def _is_signed(lines: list[str]) -> bool:
    """Whether the text ends like a letter: a closing formula, then at most seven short lines."""
    written = [line.strip() for line in lines if line.strip()][-8:]
    if _HAN_SIGNATURE.search(written[-1]):
        return True
    for place, line in enumerate(written[1:], start=1):
        if _VALEDICTION.match(line) and len(line) < _SHORT_LINE:
            after = written[place + 1 :]
            return all(len(line) < _SHORT_LINE and not _is_finished(line[-2:]) for line in after)
    return False


def _is_reference(lines: list[str], bare: str) -> bool:
    """Whether the last line is a footnote, or an entry below a heading such as "References"."""
    last = lines[-1].strip()
    if _REFERENCE_CUT.search(bare):
        return False
    if _FOOTNOTE.match(last) or re.search(r"(?:doi|DOI)[.:/]", last):
        return True
    if not _REFERENCES.search("\n".join(lines[-30:])):
        return (
            bool(_YEAR.search(last))
            and len(last) < _SHORT_LINE
            and len(lines) > 1
            and (not lines[-2].strip() or len(lines[-2]) < _SHORT_LINE)
        )
    heading = next((i for i in range(len(lines) - 1, -1, -1) if _REFERENCES.match(lines[i])), 0)
    entries = [line for line in lines[heading + 1 : -1] if line.strip()]
    if entries and all(map(_is_finished, entries)) and not re.search(r"[\d)）\]]$", bare):
        return bool(_LINK.search(bare))
    is_dated = bool(_YEAR.search(last)) or bool(_LINK.search(bare))
    peers = [line for line in lines[-8:-1] if _YEAR.search(line)]
    return is_dated or not peers


def _is_closed_quote(line: str) -> bool:
    """Whether a line ends with the closing quote or bracket of a pair within it."""
    line = line.rstrip(" \t*_>")
    for opening, closing in ("“”", "「」", "『』", "《》", "()", "（）", "[]", "【】"):
        if line.endswith(closing) and line.count(opening) == line.count(closing) > 0:
            return True
    return line.endswith('"') and line.count('"') % 2 == 0 and line[-2:-1] not in " ,"


def _is_labelled(line: str) -> bool:
    """Whether a line is "Label: value", with a short value that opens no quote."""
    match = _LABEL.match(line)
    if not match:
        return False
    value = match[1]
    is_open = value.count("“") > value.count("”") or value.count('"') % 2 == 1
    words = len(value.split()) + len(_HAN.findall(value))
    return not is_open and words <= _LABEL_MAX_WORDS


def _is_verse(lines: list[str]) -> bool:
    """Whether the last lines are short and unpunctuated, as in verse, lists and addresses."""
    stanza: list[str] = []
    for line in reversed(lines):
        if not line.strip() or line.lstrip().startswith("#"):
            break
        stanza.append(line.strip())
    stanza = stanza[:4]
    if len(stanza) < 2 or stanza[0].endswith(_PAUSES):
        return False
    if _CUE.match(stanza[1]) and not stanza[0].isupper():
        return False
    limit = [_SHORT_LINE / 2 if _HAN.search(line) else _SHORT_LINE for line in stanza]
    if any(len(line) > most for line, most in zip(stanza, limit, strict=True)):
        return False
    return sum(map(_is_finished, stanza[1:])) <= (len(stanza) - 1) / 3


def _is_title(lines: list[str]) -> bool:
    """Whether the last line stands alone and reads as a name, a date or a notice."""
    last = lines[-1].strip()
    stands_alone = len(lines) > 1 and not lines[-2].strip()
    if not stands_alone:
        return False
    if _HAN.search(last):
        return len(last) <= 10 and last[0] not in "他她我你它这那在从当但可而因"
    words = re.findall(r"[^\W\d_]+", last)
    if len(words) > 6:
        return False
    has_number = bool(re.search(r"\d$", last))
    return (
        has_number
        or last.isupper()
        or (len(words) > 1 and all(word[0].isupper() or word in _SMALL_WORDS for word in words))
    )


# Announcements of more text, at the end of a text. Quoted speech is removed first, because an offer
# that a character makes is not an offer of the writer.
_QUOTED = re.compile(r'"[^"\n]*"|“[^”\n]*”|「[^」\n]*」|『[^』\n]*』')
_QUOTED_WORD = re.compile(r"\W*(?:[\u4e00-\u9fff]{1,4}|[^\W\u4e00-\u9fff]+)\W*")
_MORE = (
    r"(?:continu(?:e|ing|ation)|keep (?:going|writing)|go(?:ing)? on|carry on|pick up"
    r"|(?:the )?(?:next|remaining|following|other|later) (?:\w+ )?(?:parts?|chapters?|sections?"
    r"|scenes?|installments?|instalments?|segments?|half)|the rest\b|second half|write more"
    r"|more (?:chapters|parts|sections)|(?:chapter|part|section|scene) (?:\d+|two|three|four|five"
    r"|[IVX]+)\b|expand|elaborate|longer version|full (?:version|text|story))"
)
_OFFER = (
    r"(?:would you like|do you want|want me to|shall i|should i|may i|let me know (?:if|when)"
    r"|if you(?:[’']d like| would like| want| wish| prefer)|just (?:say|ask|let me)"
    r"|feel free to|i(?:[’']d| would) be (?:happy|glad)|happy to|ready for|are you ready)"
)
_CONTINUED_EN = re.compile(
    r"to be continued|^\W*tbc\W*$|(?:continued?|continues) in (?:the )?(?:my )?(?:next|following)"
    r" (?:part|chapter|section|response|message|reply|post|installment)|continued in part"
    r"|[\[(]continue[sd]?\b[^\])\n]{0,40}[\])]\W*$|^\W*continue[sd]?\.\.\.\W*$|^\W*continues\W*$"
    r"|stay tuned for (?:the )?(?:next|part|chapter|more of)"
    r"|\b(?:part|chapter|section) (?:\w+) (?:is )?coming soon|\bnext (?:part|chapter) coming"
    r"|(?:say|type|reply|respond|enter|write"
    r"|send)(?: with)? [\"“'‘*]*(?:continue|next|more|go on)\b"
    rf"|{_OFFER}\b[^.!?\n]{{0,70}}\b{_MORE}"
    r"|^\W*(?:should|shall) i continue|^\W*ready for (?:the )?(?:next|second)"
    r"|[:–—-]\s*to be (?:written|added|completed)\W*$"
    r"|\bi(?: can|[’']ll| will) (?:then )?(?:continue (?:with|the|writing|from|this)"
    r"|write the (?:next|rest)|expand|pick up"
    r"|provide the (?:next|rest|remaining)|develop the|keep (?:going|writing)|carry on with"
    r"|go on with)",
    re.IGNORECASE | re.MULTILINE,
)
_CONTENT_EN = (
    r"(?:chapters?|sections?|stor(?:y|ies)|parts?|contents?|novel|essay|text|rest|scenes?|body"
    r"|paragraphs?|words|article|remaining|remainder|pattern|manner|so on)"
)
_PLACEHOLDER_EN = re.compile(
    r"^\W*[\[(](?=[^\])\n]{0,200}\b(?:continu\w+|insert|rest of|remain\w+|contents? (?:for|of|here)"
    r"|omitted|follow\w*|same (?:pattern|structure|manner)"
    r"|goes here|placeholder|and so (?:on|forth)"
    r"|to be (?:written|added)|repeat\w*)\b)"
    rf"(?=[^\])\n]{{0,200}}\b{_CONTENT_EN}\b)[^\])\n]{{5,200}}[\])]\W*$"
    r"|[\[(]to be (?:written|added|developed|expanded|completed|filled)\b[^\])\n]{0,60}[\])]\W*$",
    re.IGNORECASE | re.MULTILINE,
)
_CONTINUED_ZH = re.compile(
    r"未完(?![全成结美善备工])|待续|待續|(?:且听|请听|且看|请看)下|下回分解|接下文|下接"
    r"|后续(?:内容|如何)?.{0,6}(?:继续|请看)"
    r"|后续(?:内容|部分|章节).{0,12}(?:回复|继续|更新)|由于篇幅.{0,14}(?:省略|从略|略)"
    r"|(?:第.{1,4}[部章节篇]分?|下一?[篇集章节回部]分?|续集|续篇).{0,4}敬请期待"
    r"|敬请期待.{0,6}(?:下[一回集章]|第.{1,4}[部章节篇]|续[集篇]|后续|更新)|欲知后事"
    r"|(?:剩[余下]|其余|余下|后续|后面|接下来)的?(?:部分|内容|章节|篇幅).{0,12}"
    r"(?:下一?[条次个]|稍后|随后|另行|分[次条批])"
    r"|(?:^|[。！？，—\n])\W*(?:需要|是否|要不要|要我|还要|请问|您?想)[^。！!\n]{0,18}"
    r"(?:继续|接着|扩写|扩展|展开|下一[章节部篇]|剩[余下]|后续|后半|续写)[^。\n]{0,20}[？?吗]"
    r"|(?:如果|如有|如需|如您|若|倘若|假如|要是)[^。\n]{0,24}(?:继续"
    r"|接着|续写|下一[章节部篇]|剩[余下]|后续|后半"
    r"|后面|扩[展写充]|完整|第.{1,3}[章部节])[^。\n]{0,24}(?:告诉我"
    r"|告知|联系我|请说|随时|即可|写|完成|补充)"
    r"|(?:如果|如有|如需|如您|若|您若)[^。\n]{0,14}我(?:可以|再|会|将|就|来|能)[^。\n]{0,14}"
    r"(?:继续|接着|续写|下一|剩[余下]|后续|扩[展写充]|更长|第.{1,3}[章部节])"
    r"|(?:回复|输入|发送|说)[“\"「『]?(?:继续|更多|下一)"
    r"|(?:后面|后续|余下|剩余|其余)的?(?:章节|部分|内容)[^。\n]{0,18}(?:补充|继续|提供|完成|奉上)"
    r"|我(?:随时)?(?:都)?(?:可以|会|将)(?:为[您你](?:继续|接着)|(?:为[您你])?(?:续写|(?:继续|接着)(?:往下)?"
    r"(?:写|撰写|创作|编写|完成|展开|补充|生成|输出)))|让我(?:继续|接着)写|[:：]\s*待[写补]\W*$",
    re.MULTILINE,
)
_PLACEHOLDER_ZH = re.compile(
    r"^\W*[（(\[【](?=[^）)\]】\n]{0,60}(?:略[）)\]】。]|从略|省略|待写|待补|展开"
    r"|相同|同样|填写|插入|继续|此处|在此|内容[）)\]】]))"
    r"[^）)\]】\n]{0,60}(?:[章节部分篇]|内容|正文|故事|省略|略|若干"
    r"|以下)[^）)\]】\n]{0,40}[）)\]】]\W*$"
    r"|^\W*(?:…|\.\.\.).{0,3}[（(](?:[^）)\n]{0,20})(?:省略|略)"
    r"|[（(\[【][^）)\]】\n]{0,30}(?:从略|此处省略|待补充?|待写)[）)\]】]\W*$",
    re.MULTILINE,
)
_LAST_LINES = 3
_MORE_WINDOW = 300  # characters
_PLACEHOLDER_WINDOW = 500


def is_to_be_continued(text: str) -> bool:
    """Whether the text ends by announcing, offering or leaving out what it should contain.

    Examples: "to be continued", "shall I go on with chapter 4?", "[rest of the chapter goes here]".
    Quoted speech does not count.
    """
    tail = text[-_PLACEHOLDER_WINDOW:].rstrip()
    if _PLACEHOLDER_EN.search(tail) or _PLACEHOLDER_ZH.search(tail):
        return True
    lines = [line for line in tail[-_MORE_WINDOW:].splitlines() if line.strip()][-_LAST_LINES:]
    end = without_speech("\n".join(lines))
    return bool(_CONTINUED_EN.search(end) or _CONTINUED_ZH.search(end))


def without_speech(text: str) -> str:
    """The text without quotations, except quoted single words, as in: reply "continue"."""
    return _QUOTED.sub(lambda quoted: quoted[0] if _QUOTED_WORD.fullmatch(quoted[0]) else "", text)
