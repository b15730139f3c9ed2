"""Which length a user's turn asks to be written. Pure.

Writing costs money, so the turn counts only by its own words: texts that it quotes or wants to have
worked on ("translate this 5,000-word article"), lengths of other things ("a title for a 5,000-word
story") and what others shall write are no requests. In doubt there is none, and the request goes to
the model as it is.
"""

import re

from agentwrite.server.tasks import decided_words
from agentwrite.thresholds import MAX_INSTRUCTION_CHARACTERS, MAX_INSTRUCTION_WORDS
from longwriter_core.text.length import count_words
from longwriter_core.text.required_length import required_length

_BLOCK_QUOTE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
# Where a document or a quotation begins; `_closing` says how it ends.
_DOCUMENT_START = re.compile(
    r"^(?P<fence>`{3}|~{3})|<(?P<tag>[A-Za-z][\w-]*)(?:\s[^<>]*)?>|\"{3}", re.MULTILINE
)
_QUOTATION_START = re.compile('["“「『《«]')
_QUOTATION_MARKS = '"“”「」『』《》«» \n'
_QUOTATION_ENDS = {'"': '"', "“": "”", "「": "」", "『": "』", "《": "》", "«": "»"}
_SINGLE_QUOTED = re.compile(r"(?<!\w)'(?=\w)[^'\n]{8,400}'(?!\w)")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])(?=\s|[^\x00-\x7f])|\n|(?<=[。！？])")

_POLITE = (
    r"\W*(?:(?:please|kindly|now|then|ok|okay|hi|hello|hey|can you|could you|would you|will you|"
    r"i want you to|i need you to|i'd like you to|help me(?: to)?)\b[\s,:!]*)*"
)
# Tasks that take a text and return it changed, judged or measured, and tasks that make something
# small for a long text: the length in them is that of the other text.
_WORK_ON = re.compile(
    rf"\A{_POLITE}(?:translate|proofread|edit|correct|fix|check|review|critique|grade|score|rate|"
    r"evaluate|assess|analy[sz]e|extract|classify|count|read|compare|format|convert|clean up|"
    r"polish|improve|enhance|refine|rephrase|paraphrase|reword|debug|tell me (?!a\b)|find|split|"
    r"explain|define|simplify|answer|label|repeat|"
    r"reply|respond|guess|say|estimate|calculate|outline|plan\s+an?|brainstorm|suggest|recommend|propose|name|"
    r"give me feedback|what|which|who|when|where|why|how|is|are|was|were|does|do|did|should|has|"
    r"have|can(?!\s+you)|could(?!\s+you)|act as a prompt|(?:some\s+)?help\s+(?:me\s+)?(?:with|"
    r"(?:structur|organi[sz]|nam|cut|plan|edit|understand|decid)\w*))\b"
    r"|\A\W*(?:请|请你|帮我|请帮我|麻烦|你)*\s*(?:翻译|校对|修改|润色|检查|分析|评价|评分|解释|提取|统计|"
    r"阅读|比较|什么|为什么|怎么|如何|多少|哪|想几个|想个|推荐|改进|优化|列出|谢)"
    r"|\A\W*(?:请|帮我)*把.*?(?:翻译|改成|译成|转换)",
    re.IGNORECASE,
)
# Tasks that make a text shorter: the length that follows "in" or "to" is what is asked for.
_SHORTEN = re.compile(
    rf"\A{_POLITE}(?:summari[sz]e|condense|shorten|abridge|cut|reduce|trim|compress)\b"
    r"|\A\W*(?:请|请你|帮我|请帮我|麻烦)*\s*(?:总结|概括|缩写|压缩|精简|摘要|归纳)",
    re.IGNORECASE,
)
_TARGET = re.compile(r"\b(?:in|to|into|as|within)\b|用|成|为|以", re.IGNORECASE)
# "my 10,000-word essay", "this 3,000-word report": a text that exists already.
_EXISTING = re.compile(
    r"\b(?:my|this|these|that|those|your|his|her|its|our|their|existing|attached|above|previous)\s+"
    r"(?:(?!(?:as|into|to|in|an?|with|of|about)\b)\w+\s+){0,2}?[\d,.]{1,12}k?[\s-]*words?\b"
    r"|\b(?:pasted|attached|uploaded|(?:below|above|here|attached) (?:is|are))\b[^.,;:!?\n]{0,40}?"
    r"[\d,.]{1,12}k?[\s-]*words?\b|(?:(?:下面|以下|上面)[是为有]|附件|附上|粘贴)[^，。,\n]{0,8}?[\d,.一二三四五六七八九十百千万]{1,12}字"
    r"|(?<!write )(?<!finish )\bthe\s+[\d,.]{1,12}k?[\s-]*words?\b"
    r"|[这那][篇个部本份章]\s*[\d,.万千]+\s*字",
    re.IGNORECASE,
)
# A sentence that says something about a text, and does not ask for one.
_STATES = re.compile(
    r"\b(?:wrote|written|has|have|had|having|was|were|is|are|read|thanks?|congratulat\w+|finished)\b"
    r"|[有了达][约近超过到]*\s*[\d,.万千]+\s*字|谢",
    re.IGNORECASE,
)
_VERB = (
    r"(?:write|draft|compose|create|produce|generate|develop|prepare|craft|make|give me|provide|"
    r"need|want|like|author(?=\s+an?\b)|pen(?=\s+an?\b))"
)
_ASKS_TO_WRITE = re.compile(
    rf"\b(?:{_VERB}|expand|elaborate|discuss|tell me|continue|rewrite|turn|describe|explore)\b"
    r"|[写撰创编扩续需应]|生成",
    re.IGNORECASE,
)
_REQUIRES = re.compile(
    r"\b(?:require[ds]?|should|must|at least|minimum|limit)\b|字数|篇幅|要求|不少于",
    re.IGNORECASE,
)
# "A 3,000-word story about a fox": a request without a verb.
_ELLIPTIC = re.compile(
    r"\A\W*(?:an?\s+)?[\d,.]{1,12}k?[\s-]*words?\b(?!\s*\W*\Z)"
    r"|\A\W*(?:length|words?)\s*:|\bplease\b"
    r"|\w+\W+\w+\s*[,(（]\s*(?:of |about |around |approximately |at least )*"
    r"[\d,.]{1,12}k?[\s-]*words[.)）]*\Z"
    r"|[\d一二两三四五六七八九十万千]+\s*字",
    re.IGNORECASE,
)
_NUMBER = r"(?:\d[\d,.]{0,12}k?|(?:\w+[\s-])?(?:thousand|hundred))"
_MEASURED = re.compile(
    rf"\b{_VERB}\b(?P<between>[^.!?\n]*?)\b{_NUMBER}[\s-]*words?\b", re.IGNORECASE
)
# "for a 5,000-word story", "that splits a 20,000-word file": what is asked for is something else.
_OTHERS_LENGTH = re.compile(
    rf"\b{_VERB}\b(?P<between>(?:(?!\b{_VERB}\b)[^.!?\n])*?)\b{_NUMBER}[\s-]*words?\s+"
    r"(?!(?:or|and|on|about|in|of|long|at|for|to|with|each|please|minimum|maximum|total|per|by|that|"
    r"which|covering|describing|discussing|explaining)\b)[A-Za-z]",
    re.IGNORECASE,
)
_LINKS = re.compile(
    r"(?<![\w-])(?:for|of|to|that|which|who|whose|comparing|saying|matching|over|under|from|in|about|on|"
    r"with|after|before|containing)(?![\w-])",
    re.IGNORECASE,
)
_OTHERS = re.compile(
    r"\b(?:that|which|who|whose)\b(?!\s+(?:is|are|has|have|should|must|runs?|contains?|will)\b)",
    re.IGNORECASE,
)
# "Before you write the 10,000 words, …"
_CONDITION = re.compile(
    r"\A\W*(?:before|after|once|when|if|unless|suppose)\b[^,，]*\d[^,，]*[,，]", re.IGNORECASE
)
_ABOUT_IN = re.compile(r"\A\s*(?:about|on)\b.*\b(?:in|as)\s+an?\s*\Z", re.IGNORECASE)
# What is never thousands of words long.
_SMALL = re.compile(
    rf"\b{_VERB}\s+(?:(?:me|us|an?|the|some|\d+|one|two|three|five|ten|\w+)\s+){{0,3}}?"
    r"(?:code|scripts?\s+(?:that|which|to)|functions?|programs?\s+(?:that|which|to)|quer(?:y|ies)|"
    r"regex|macro|formula|haiku|limerick|tweets?|headlines?|subject lines?|titles?|taglines?|"
    r"captions?|abstracts?|synops[ie]s|blurbs?|loglines?|outlines?|rubrics?|schedules?|checklists?|"
    r"ideas?|prompts?|(?:unit\s+)?tests?)\b(?!-)(?!.*\b(?:then|followed by|and the)\b)"
    r"|写[一个几段条份些]*(?:代码|函数|脚本|程序|标题|摘要|简介|大纲|提纲|笑话)"
    r"|字的?[^，,。；;]*(?:写|起|想|做|取)[一个几段条份些]*(?:摘要|简介|标题|题目|书名|大纲|封面)"
    r"|[为给][^，,。；;]*字的[^，,。；;]*(?:设计|起|想|取|配|做)|列[一个出]*[^，,。；;]*字[^，,。；;]*的"
    r"|字[^，,。；;]*的(?:题目|标题|简介|摘要|大纲|词频)",
    re.IGNORECASE,
)
# What others shall or did write, and what nobody shall.
_REPORTED = re.compile(
    r"\b(?:he|she|they|someone|people|students?|authors?|writers?|model|llm|ai|gpt\S*|boss|teacher|"
    r"professor|editor|client|contract|my \w+|i)\b[^.!?]*?\b(?:must|shall|should|wants?|told|asked|"
    r"requires?|ha[sd] to|have to|takes?|goal is|can't|cannot|could not|couldn't|stops?)\b[^.!?]*?"
    r"\b(?:write|writing|deliver|produce|generate|read)\b|\b(?:goal|aim|task|rule) is to write\b"
    r"|\b(?:model|llm|ai|it|he|she|they|author|student)\s+(?:must|shall|should)\s+(?:write|produce)"
    r"|\b(?:request|order|invitation|wish) to (?:write|draft)\b|(?:要求|让|叫)我"
    r"|\A\W*(?:please\s+)?(?:do not|don't|never|stop)\b|不要写|别写",
    re.IGNORECASE,
)
_POLITE_QUESTION = re.compile(
    rf"\A{_POLITE}(?:{_VERB}|expand|turn|continue|tell|rewrite|summari[sz]e)\b"
    r"|\b(?:can|could|would|will) you\b|\bplease\b"
    r"|请|帮|能不能|能否|可以",
    re.IGNORECASE,
)
_ASKS_WHY = re.compile(
    r"\A\W*(?:(?:and|but|so|hi|hello)\W+)?(?:why|how|what|which|who|when|where|is|are|does|do|did|"
    r"should|any)\b|为什么|怎么|如何|多久|多少|吗",
    re.IGNORECASE,
)


def requested_words(turn: str) -> int | None:
    """The length that a user's turn asks to be written, in words; None where in doubt."""
    own = own_words(turn)
    if len(own) > MAX_INSTRUCTION_CHARACTERS or count_words(own) > MAX_INSTRUCTION_WORDS:
        return None  # a text to be worked on, as for `select`
    paragraphs = [part.strip() for part in _PARAGRAPHS.split(own) if part.strip()]
    if not paragraphs:
        return None
    # Instructions stand before or after the text that they are about.
    for task in {_first_sentence(paragraphs[0]), _first_sentence(paragraphs[-1])}:
        if _WORK_ON.match(task) and not _asks_to_write(task):
            return None
        if _SHORTEN.match(task):
            lengths = [required_length(task[target.end() :]) for target in _TARGET.finditer(task)]
            return next((length for length in lengths if length), None)
    sentences = [part for part in _SENTENCE_END.split(_EXISTING.sub(" ", own)) if part.strip()]
    if not sentences or _is_another_question(sentences[-1]):
        return None
    is_decided, words = decided_words(sentences, _may_ask)
    if is_decided:
        return words
    kept = [sentence for sentence in sentences if _may_ask(sentence)]
    if not any(_ASKS_TO_WRITE.search(part) or _ELLIPTIC.search(part) for part in kept):
        return None
    return required_length("\n".join(kept))


def _may_ask(sentence: str) -> bool:
    """Whether a length in a sentence may be that of the text that the user asks for."""
    if _is_question(sentence) and not _POLITE_QUESTION.search(sentence):
        return False
    if any(rule.search(sentence) for rule in (_SMALL, _REPORTED, _CONDITION)):
        return False
    if any(_OTHERS.search(match["between"]) for match in _MEASURED.finditer(sentence)):
        return False
    for match in _OTHERS_LENGTH.finditer(sentence):
        between = match["between"]
        if _LINKS.search(between) and not _ABOUT_IN.match(between):
            return False
    asks = _ASKS_TO_WRITE.search(sentence) or _REQUIRES.search(sentence)
    return bool(asks) or not _STATES.search(sentence)


def _is_another_question(last: str) -> bool:
    """Whether a turn ends on a question, or on the wish for a title, an outline and the like."""
    return _is_question(last) and bool(_ASKS_WHY.search(last) or _SMALL.search(last))


def _is_question(sentence: str) -> bool:
    return sentence.rstrip(_QUOTATION_MARKS).endswith(("?", "？"))


def own_words(turn: str) -> str:
    """A turn without what it quotes: fences, block quotes, tagged documents and quotations.

    A turn that is nothing but one quotation is the user's own.
    """
    text = _without(_DOCUMENT_START, _BLOCK_QUOTE.sub("", turn))
    text = _SINGLE_QUOTED.sub(" … ", text)
    unquoted = _without(_QUOTATION_START, text)
    return unquoted if unquoted.strip("…\n .") else text.strip(_QUOTATION_MARKS)


def _without(start: re.Pattern[str], text: str) -> str:
    """`text` without the spans that `start` begins. Takes linear time for any input."""
    kept, at, missing = [], 0, set()
    for opening in start.finditer(text):
        if opening.start() < at:
            continue
        closing = _closing(opening)
        end = -1 if closing in missing else text.find(closing, opening.end())
        if end < 0:
            missing.add(closing)
            if closing.startswith("\n"):  # an open fence goes to the end
                end = len(text)
            else:
                continue
        kept.append(text[at : opening.start()])
        at = end + len(closing)
    return " … ".join([*kept, text[at:]])


def _closing(opening: re.Match[str]) -> str:
    """What ends the span that begins with a match."""
    groups = opening.groupdict()
    if fence := groups.get("fence"):
        return f"\n{fence}"
    if tag := groups.get("tag"):
        return f"</{tag}>"
    return _QUOTATION_ENDS.get(opening[0], opening[0])


def _first_sentence(paragraph: str) -> str:
    return next(filter(str.strip, _SENTENCE_END.split(paragraph)), "")


def _asks_to_write(task: str) -> bool:
    """Whether a task also asks for a text: "Read this and write 5,000 words about it"."""
    writes = re.search(r"\b(?:and|then) (?:write|draft|compose|expand)\b|并写|再写|扩写|续写", task)
    return bool(writes) and not _is_question(task)
