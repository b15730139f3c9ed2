"""Lines that models write around the text of a section: remarks, word counts, plan lines. Pure.

Each pattern matches a whole line, so that prose which only contains such words is never matched. A
`Line` is compared in narrow form: without markup, with simplified characters and ASCII punctuation.
"""

import re

from longwriter_core.text.numbers import CHINESE_NUMBER, NUMBER_WORD, narrow

# Patterns match the narrow form of a line (see `Line`) from end to end.
NUMBER = rf"(?:\d{{1,4}}|{CHINESE_NUMBER}{{1,4}}|[IVX]{{1,5}}\b|{NUMBER_WORD})"
_UNIT = r"(?:paragraph|section|step|chapter|part|passage|segment|scene|sub-?task)"
_UNIT_ZH = r"(?:自然段|段落|段|小节|节|部分|章|步骤?)"
_ORDINAL = r"(?:first|second|third|(?:four|fif|six|seven|eigh|nin|ten|eleven|twelf)th|final|last)"


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


# Counts of words

_ABOUT = r"(?:(?:about|around|approximately|approx\.?|roughly|exactly|just (?:over|under)|~|≈)\s*)?"
_AMOUNT = rf"{_ABOUT}\d[\d,]*\+?"
_REST = r"(?:\s*/\s*[\d,]+)?(?:\s*words)?(?:\s*[,;(].{0,60})?[.)]*\s*[✓✔✅]?"
COUNT_LABEL = r"(?:word\s?count|字数(?:统计|要求|目标|合计)?)"
WORD_COUNT = _pattern(
    rf"(?:(?:current|total|final|actual|approximate|target|estimated|{_UNIT})\s+)*"
    rf"(?:word\s?count|(?:words|length|target)(?=.*(?:\d{{3}}|\d words)))"
    r"(?:\s+(?:target|goal|so far|check))?\s*[:=]?\s*(?:is\s+)?"
    rf"{_AMOUNT}\s*(?:words?)?{_REST}",
    rf"count\s*:\s*{_AMOUNT}\s*(?:words?)?",
    rf"(?:total\s*:?\s*)?{_AMOUNT}[ -]words?(?:\s+(?:in total|total|exactly))?{_REST}",
    rf"this {_UNIT} (?:is|has|contains|runs to|comes to|totals) (?:a total of )?{_AMOUNT} words\b"
    r".{0,60}",
    rf"(?:(?:本|此|该|以上|全)?(?:文|内容|正文|{_UNIT_ZH})?(?:的)?(?:总|实际|目标|当前)?"
    r"(?:字数(?:统计|要求|目标|合计)?|共计?|约|大约|总计|合计|长度)\s*[:,为是]*\s*"
    rf"(?:约为|大约|约|共|~)?\s*)+(?:\d[\d,]*|{CHINESE_NUMBER}{{2,7}})\s*[余多]?个?"
    r"(?:字(?:左右|以内)?|(?=[。.]?$))(?:\s*[,;/].{0,20})?[。.]?",
)
COUNT_BEHIND_TEXT = re.compile(  # "the last sentence. (Word count: 412)"
    rf"[ \t]*[\[(（【*_]+{COUNT_LABEL}\s*[:：]?\s*(?:about|约)?\s*[\d,]+\s*(?:words?|字)?"
    r"[\])）】*_.。]+\Z",
    re.IGNORECASE,
)

# "End of Chapter 3", 第三章完

END_MARKER = _pattern(
    rf"(?:this is )?(?:the )?end of (?:the |this )?{_UNIT}(?:\s+{NUMBER})?"
    r"(?:\s*[:,-].{0,60})?[.!]?",
    rf"(?:the )?{_UNIT}(?:\s+{NUMBER})? (?:ends?|ended|concludes?)(?: here)?[.!]?",
    rf"this (?:concludes|ends|completes) (?:the |this )?{_UNIT}\b.{{0,40}}",
    rf"(?:本|此|该|第\s*{NUMBER}\s*){_UNIT_ZH}\s*(?:到此|至此|已)?(?:完结?|终|结束|完毕)了?[。.]?",
)

# The step's plan line, and the number of the paragraph

_POINT = r"(?:main point|main idea|主要内容|内容要点|要点|主旨|中心思想)\**\s*:"
_STEP = (
    rf"(?:(?:paragraph|sub-?task|step|段落|步骤)\s*{NUMBER}|第\s*{NUMBER}\s*(?:自然段|段落|段|步))"
)
PLAN_LINE = _pattern(
    rf"(?:chapter\s*{NUMBER}\W+)?{_STEP}\W*{_POINT}.*",
    rf"{_POINT}.*\b(?:word\s?count|字数)\W.*",
    r"main point\**\s*:.*",
    rf"{_STEP}\s*[:.-].{{1,120}}[(-]\s*{_AMOUNT}\s*(?:words|字)\W*",
    rf"{_STEP}.*(?:word\s?count|字数)\W*\d.*",
)
MAIN_POINT = re.compile(rf"{_POINT}.*", re.IGNORECASE)
IDENTIFIER = re.compile(
    # Matches "**Paragraph 3:**" in "**Paragraph 3:** The harbour…". A delimiter must follow the
    # number: "Paragraph 3 of the law" is prose.
    r"\A(?P<markup>#{0,6}[ \t]*)(?P<bold>\*{0,2})(?P<open>[\[(（【]?)"
    rf"(?:para(?:graph|\.)?[ \t]*\#?{NUMBER}(?:[ \t]+of[ \t]+\d+)?|¶[ \t]*{NUMBER}"
    rf"|(?:section|step|part)[ \t]+{NUMBER}[ \t]+of[ \t]+\d{{1,3}}(?=[ \t]*(?:\n|\Z))"
    rf"|段落[ \t]*{NUMBER}|第[ \t]*{NUMBER}[ \t]*(?:自然段|段落|段))(?P<close>[\])）】]?)"
    r"(?:[ \t]*[(（\[][^()（）\n]{0,24}(?:words?|字)[)）\]])?"  # Paragraph 4 (400 words):
    r"[ \t]*(?:\*{1,2}[ \t]*[:：\-–—.]?|[:：\-–—.、]\**|(?=\n|\Z)|(?<=[\])）】]))[ \t]*",
    re.IGNORECASE,
)

# Talk before the text

_POLITE = (
    r"(?:(?:sure(?: thing)?|certainly|of course|absolutely|understood|okay|ok|great|alright|got it"
    r"|no problem|gladly|very well|perfect)\b|thank you for [^.!]{3,60})"
)
_HERE = r"(?:here(?:'s| is| are| goes| comes)|below (?:is|are|you)|the following is)"
_I_WRITE = (
    r"(?:(?:now,? )?(?:i(?:'ll| will|'m going to| am going to)|let me|let's|let us)(?: now)?"
    r" (?:write|continue|begin|start|draft|proceed|move on|expand|craft)"
    r"|i(?:'ve| have)(?: now)? (?:written|drafted|crafted|expanded|completed)|continuing"
    rf"|(?:now )?writing (?={_UNIT})|as requested\b)"
)
_THE_TASK = (
    rf"(?:\b(?:next|following|{_ORDINAL}|new|revised|requested|updated|[\d,]+-word)"
    rf" (?:\w+ )?(?:{_UNIT}|draft|version|text)\b|\b{_UNIT} \#?{NUMBER}|\bcontinuation\b"
    rf"|\b(?:text|content|draft) (?:for|of) (?:the )?{_UNIT}\b|\byou(?:r)? (?:asked|requested|plan"
    r"|outline|request|novel|story|essay|article|book|instructions?)\b|\bleft off\b"
    rf"|\bprevious (?:{_UNIT}|text)\b|\b[\d,]+ words\b)"
    # "the second part of the war" is no part of the text
    r"(?! of (?:the|an?|my|his|her|our|their) (?!(?:\w+ )?(?:story|novel|text|essay|article|book"
    r"|piece|report|narrative|outline|plan|draft|tale|chapter|section|guide|manuscript|document)\b))"
)
# On a line of its own; "Sure." may be dialogue, "Sure!" and "Sure," are not.
BARE_OPENING = _pattern(
    rf"{_POLITE}[,.!]*", r"(?:好的?|当然(?:可以)?|没问题|明白了?|收到|了解了?)[,!。.~]*"
)
OPENING = _pattern(
    rf"{_POLITE}[,.!]*\s*(?:i can|i(?:'d| would) be (?:happy|glad) to|i(?:'ll| will))"
    r" (?:do|help|write|continue|provide|create)\b.{0,60}",
    r"here you go[!:]*",
    rf"{_POLITE}[,.!:]\W*(?:{_HERE}|{_I_WRITE}).{{0,180}}[:.…!]",
    rf"{_POLITE}[,.!:]?.{{0,80}}{_THE_TASK}.{{0,100}}[:.…!]",
    rf"(?:{_HERE}|as requested,? {_HERE}).{{0,80}}(?:{_THE_TASK}|\bparagraph\b).{{0,120}}:",
    rf"(?:{_I_WRITE}|below is|as requested,? {_HERE}).{{0,80}}{_THE_TASK}.{{0,120}}[:.…!]?",
)
OPENING_ZH = _pattern(
    r"(?:好的?|当然(?:可以)?|没问题|明白了?|收到|了解了?)[,!。.~]*"
    r".{0,30}(?:我来|我将|我会|让我|以下|下面|这是|现在|为您|续写|撰写).{0,40}[:。!.]",
    rf"(?:以下|下面|接下来|这里)就?(?:是|为|将是|我将|我会|我来).{{0,20}}"
    rf"(?:第{NUMBER}{_UNIT_ZH}|段落|正文|续写|下一段|为您|您|撰写).{{0,30}}[:。.]?",
    rf"(?:根据|按照|遵照)(?=.{{0,50}}(?:撰写|续写|写作|[您你]的(?:要求|指示|计划|大纲)"
    rf"|第{NUMBER}(?:自然段|段|步)))"
    rf".{{1,30}}(?:以下|如下|第{NUMBER}{_UNIT_ZH}|撰写).{{0,30}}:",
    rf"(?:这(?:里|就)?是)?第{NUMBER}(?:段|步|部分)(?:的)?(?:正文|内容)(?:如下)?:?",
    r"(?:现在)?(?:我将|我会|我来|下面我|开始).{0,20}(?:续写|撰写|写第|写下一|继续写).{0,30}[:。!.]",
    r"让我们继续.{0,20}[:。!.]",
)
LABELS = _pattern(  # stand alone, with a colon or markup
    rf"(?:section |paragraph )?(?:text|draft|output|response)"
    rf"(?: (?:of|for) {_UNIT}(?: {NUMBER})?)?",
    rf"(?:continuing|continued)(?: from (?:the )?previous {_UNIT})?",
    rf"(?:now )?writing {_UNIT}(?: {NUMBER})?",
    rf"正文|(?:承?接|续)上[文段].{{0,6}}|续|第{NUMBER}{_UNIT_ZH}正文",
)
ROLE = re.compile(r"\AAssistant:\s+(?!.*^\w{1,20}:\s)", re.DOTALL | re.MULTILINE)

# Talk after the text

# Polite closings of letters stay, unless they name the text: "Let me know if you change your mind."
_CHANGE = (
    r"(?:(?:changes|revisions|adjustments|edits|tweaks|modifications|refinements)\b"
    r"|(?:revis|chang|adjust|edit|expand|tweak|modif|rewrit|refin)\w* (?:it|this|anything|on\b|any"
    rf"|the (?:story|text|tone|style|ending|{_UNIT}))|next (?:one|{_UNIT})|\bcontinu\w*|\bproceed"
    rf"|\bgo on\b|longer|shorter|assistance|\b{_UNIT}|\bdraft)"
)
CLOSING = _pattern(
    rf"(?:please )?(?:just )?(?:let me know|feel free to)\b.{{0,40}}\b(?:if you|ask|should you|for)"
    rf"\b.{{0,80}}{_CHANGE}.{{0,100}}",
    r"(?:please )?let me know if (?:this|it|that) (?:works|helps|is what|meets)\b.{0,80}",
    r"i hope (?:this|it|that) (?:helps|works)[!.]*(?:\s*(?:please )?let me know.{0,120})?",
    r"i hope (?:this|the|that)\b(?! letter).{0,30}\b(?:(?:meets?|fits|satisf\w+|captures?)"
    r" (?:your|the (?:plan|tone|instructions?))|is what you)\b.{0,160}",
    rf"(?:would you like|do you want)(?: me)? to .{{0,60}}{_CHANGE}.{{0,100}}\?",
    r"(?:shall|should) (?:i|we) (?:continue|proceed|go on|move on|write)"
    rf"(?=.{{0,60}}(?:\b{_UNIT}|\bnext\b|\bdraft|\bwriting)).{{0,80}}\?",
    r"ready (?:for|to) .{0,30}(?:next|continu|proceed).{0,60}",
    r"if you(?:'d| would)? (?:like|want|need|prefer|wish),? (?:i can|me to|i could|i'd be)\b"
    r".{0,80}(?:continu|next|revis|expand|rewrit|draft|tone).{0,100}",
    r"i can (?:also )?(?:make|expand|revise|adjust|rewrite|continue)\b.{0,60}"
    r"(?:longer|shorter|say the word|let me know).{0,60}",
    r"note\W*:\W*(?:this|the|i|please|word).{0,40}\b(?:written|kept|designed|flows?|aims?|adheres?"
    r"|follows? (?:the|your) (?:plan|outline)|sets up|maintain\w*|word count|continues from"
    r"|previous paragraphs?|is approximate"
    r"|expanded|condensed|(?:full|complete) .{0,20}version|requested length|response limits?"
    r"|to reach|at ~?[\d,]+ words)\b.{0,240}",
    rf"this {_UNIT} .{{0,60}}\b(?:stakes|foreshadow\w*|cliffhanger"
    r"|(?:character|narrative) arc)\b.{0,120}",
    rf"this {_UNIT} .{{0,80}}\b(?:for|to|into|from) (?:the )?(?:step|paragraph) \d.{{0,60}}",
    r"in the next (?:paragraph|section),? (?:we|i)(?:'ll| will)\b.{0,120}",
    r"the next (?:paragraph|section|step) (?:will|continues)\b.{0,120}",
    rf"(?:continue|proceed|move on) (?:to|with) (?:the )?(?:next )?{_UNIT}\b.{{0,40}}",
    rf"next(?: up)?\W*:\W*{_UNIT}\s+{NUMBER}.{{0,100}}",
    r"(?:please )?(?:type|say|reply|enter|send|respond)(?: with)? \W{0,2}(?:continue|next)\b"
    r".{0,60}",
    r"to be continued(?: in\b.{0,60}|\W*)",
    rf"continued in (?:the next|{_UNIT})\b.{{0,80}}",
)
CLOSING_ZH = _pattern(
    r"如(?:果|需|您|你|有)(?=.{0,40}(?:[续改扩]写|写|修改|调整|改动|润色|下一[段节章]|继续))"
    r".{0,40}(?:(?:告[诉知]我|让我知道)[。!.]?|随时(?:提|联系).{0,12}|请?告知[。!.]?)",
    r"(?:请告[诉知]我|请让我知道).{0,40}(?:继续|修改|调整|意见|需要).{0,20}",
    r"希望(?:能|可以)?(?:符合|满足)(?:您|你).{0,30}",
    r"希望(?:这|以上|本|上述)[^,。]{0,10}(?:段|内容|部分|文)[^。]{0,16}(?:符合|满足|帮助|满意|喜欢).{0,40}",
    r"(?:请问)?(?:您|你)?(?:是否)?(?:还)?(?:需要|要不要|希望)我?(?:继续|接着|修改).{0,20}[吗?？]+[。.]?",
    r"(?:请问)?是否(?:需要)?我?继续.{0,20}[?？。.]",
    rf"以上(?:就是|即为|是|为|内容).{{0,12}}(?:第{NUMBER}{_UNIT_ZH}|约?{NUMBER}\d*字|续写|写作计划).{{0,40}}",
    r"(?:注|备注|说明|提示)\W*:(?=.{0,40}(?:[本此该这]段|本节|本部分|[上下][一文段]|[后前]文|[后前]续|计划"
    r"|写作(?:时|中|要求)|字数(?!不限|较)))(?!.{0,12}(?:合同|协议|条款))"
    r".{0,30}(?:控制在|承接|铺垫|字数|写作|衔接|过渡|严格按照|按照.{0,6}计划).{0,60}",
    r"(?:接下来|下面),?我(?:将|会)(?:继续)?.{0,20}(?:写|下一段|段).{0,20}",
    r"下一[段节](?:我?将|会).{0,60}",
    r"(?:未完)?待续.{0,12}",
    r"请?(?:输入|回复|发送)\W{0,2}继续.{0,30}",
)
# Headings of notes about the text. Notes may also follow a word count.
NOTES = _pattern(
    r"key (?:elements?|moments?|details?|beats?)"
    rf" (?:(?:addressed|met|implemented)|from plan.*|(?:of|in) (?:this )?{_UNIT}.*)\W*",
    r"key beats\W*|human(?:izing)? touch\w*.{0,20}",
    rf"(?:next|upcoming) {_UNIT} (?:preview|teaser|hook)\b.*",
    rf"(?:craft|writing|writer's) notes?\b.{{0,40}}|notes? on (?:this|the) {_UNIT}.{{0,20}}",
)

_MARKUP = " \t*_#>~=|•·<!-–—[]()（）【】"
_SIMPLIFIED = str.maketrans("續結訴請讓統繼無備註", "续结诉请让统继无备注")
MAX_LINE = 320  # characters


class Line:
    """A first or last line, without its markup and in narrow form."""

    def __init__(self, line: str) -> None:
        line = line.strip()
        bare = line.strip(_MARKUP)
        self.is_set_off = bare != line  # in brackets or bold
        self.has_colon = bare.endswith((":", "："))
        bare = narrow(bare).translate(_SIMPLIFIED).replace("’", "'").replace("**", "")
        self.text = bare.replace("！", "!").replace("；", ";")

    def matches(self, *patterns: re.Pattern[str]) -> bool:
        """Whether one of the patterns matches the whole line."""
        return len(self.text) <= MAX_LINE and any(each.fullmatch(self.text) for each in patterns)
