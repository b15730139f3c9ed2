"""Detects complete and partial refusals in English and Chinese responses. Pure.

A partial refusal gives something else instead: an outline, a summary or a shortened version "due
to length limits". The rules look at the beginning and the end of a response. They ignore quoted
text, because characters in stories also refuse things.
scripts/measure_diagnostics.py measures the rules on labelled texts.
"""

import re

from longwriter_core.text.endings import without_speech
from longwriter_core.text.length import count_words

_WINDOW = 500  # characters at each end
_OPENING = 300  # characters in which a complete refusal begins
# A complete refusal is short: a long text that opens with "I'm sorry" is a story.
_REFUSAL_MAX_WORDS = 200

_CANNOT = (
    r"(?:can[’']?t|cannot|can not|won[’']?t|(?:am |[’']m )?(?:unable|not able|not going) to"
    r"|(?:will|would) not|do(?:n[’']t| not) have the ability to)"
)
_TASK = (
    r"(?:help|assist|write|writing|create|provide|fulfill?|comply|generate|complete|do that|produce"
    r"|proceed|continue(?: with)?|engage|discuss|evaluate|support|answer|respond)"
)
_COMPLETE_EN = re.compile(
    rf"\b(?:i[’']?m (?:very |so |really |truly )?sorry|i apologi[sz]e|unfortunately,?)\W+(?:but )?"
    rf"(?:i|this|that)\b[^.!?\n]{{0,50}}{_CANNOT}"
    r"|(?:^|[.!?]\s+)\W*(?:(?:sorry|apologies)\W+(?:but )?)?"
    rf"i(?:[’']m| am)?(?: just)? ?{_CANNOT} (?:be able to )?{_TASK}"
    r"(?: (?:you|me))?(?: (?:with|to|by))?"
    r"(?= (?:this|that|such|a|an|any|the|your|content|you|in|\d[\d,]*)\b"
    r"|\W*$|[.,;])(?! word)"
    rf"|\bas an? (?:\w+ ){{0,2}}(?:ai|assistant|language model)\b[^.!?\n]{{0,60}}{_CANNOT}"
    rf"|\bi(?:[’']m| am) (?:just |only )?an? (?:ai|language model)\b[^.!?\n]{{0,60}}{_CANNOT}"
    r"|\bi (?:must|have to|need to|will have to) (?:\w+ ){0,2}(?:decline|refuse)\b"
    r"|\bi (?:do(?:n[’']t| not) feel|(?:am"
    r"|[’']m) not) comfortable (?:writ|creat|generat|produc|with"
    r"|provid|help)|\bi(?:[’']m| am) not comfortable"
    r"|\b(?:against|violat\w+|goes against) (?:my|our|the)?\s?(?:\w+ ){0,2}(?:guidelines?|polic\w+"
    r"|principles|programming|values)\b"
    r"|(?:sorry|apologies)\W+(?:but )?(?:that|this)[’']?s? (?:is )?not something i\b"
    r"|\bi(?:[’']d| would) (?:prefer|rather) not (?:to )?(?:write|create|help)",
    re.IGNORECASE | re.MULTILINE,
)
# A reply that opens with an apology and then offers something else, whatever its length.
_COUNTER_OFFER_EN = re.compile(
    r"\A\W*(?:i[’']?m (?:\w+ )?sorry|i (?:\w+ )?apologi[sz]e|(?:my )?apologies|unfortunately"
    r"|that[’']?s (?:quite )?an? (?:\w+ )?(?:lengthy|long|extensive"
    r"|ambitious)|given the constraints?)"
    r"\b[\s\S]{0,260}\b(?:however|instead|but|although),? (?:here[’']s"
    r"|i(?:[’']d| would) be (?:\w+ )?"
    r"(?:happy|glad)|i[’']?(?: can| could|ll| will| am able to) (?:\w+ ){0,2}(?:help|start"
    r"|begin|craft|write"
    r"|create|provide|offer|give|generate|produce|draft|share|assist|get you|outline"
    r"|summari[sz]e))\b",
    re.IGNORECASE,
)
_COUNTER_OFFER_ZH = re.compile(
    r"\A[^\w“「]*我?(?:很|非常|十分|真的|深感)?(?:抱歉|对不起|遗憾|不好意思)[\s\S]{0,30}"
    r"(?:无法|不能|没有|难以|超出|不舒服)[\s\S]{0,260}(?:相反|不过|但|然而|如果|为了帮助)[^。\n]{0,24}"
    r"我(?:可以|能|会|将|很?乐意|很?愿意|更愿意|建议|需要)[^。\n]{0,8}(?:您|你|帮|提供|[先再]写|撰写|创作|协助|讨论|专注)"
    r"|\A\W*我(?:无法|不能|不会)(?:提供|创作|生成|撰写|编写|协助|写)[^。\n]{0,60}"
    r"(?:内容|故事|文本|文章|小说|图[像片]|信息|请求|材料)",
)
_LETTER = re.compile(r"^\W*(?:dear\b|尊敬的|亲爱的|敬爱的)", re.IGNORECASE)

# What a partial refusal gives instead of the requested text.
_SUBSTITUTE_EN = (
    r"(?:outline|summar\w+|synopsis|condens\w+|abridg\w+|shorten\w*|short(?:er)? version|framework"
    r"|excerpt|overview|abbreviat\w+|sample|brief(?:er)?\b"
    r"|first (?:\w+ )?(?:scenes?|chapters?|part)"
    r"|begin with|start with|compressed|truncated|high-level|skeleton)"
)
_LIMIT_EN = (
    r"(?:(?:length|space|size|character|token|word|output|response|message|platform)s?"
    r"(?:[- ](?:length|size|count|space|window))?[- ](?:limit\w*"
    r"|constraint\w*|restriction\w*|cap\b)"
    r"|(?:limit\w*|constraint\w*|restriction\w*) (?:on|of|in|to) (?:\w+ ){0,3}(?:length|space"
    r"|response|output|platform|write|tokens?|words)|limited (?:in|by|to) (?:\w+ ){0,5}"
    r"(?:write|response|length|tokens?|output|words|space))"
)
_WHOLE_EN = (
    r"(?:full|entire|complete|whole|lengthy|such a long|that length|this length|\d[\d,.]*k?[- ]"
    r"(?:words?|pages?)|novel|book|manuscript)"
)
_TOO_LONG_EN = (
    r"(?:too (?:long|large|lengthy|much)|exceed\w*|beyond|(?:not|n[’']t) (?:\w+ )?(?:possible"
    r"|feasible|practical)|impossible|infeasible|impractical|can[’']?t|cannot|unable|not able"
    r"|could not|couldn[’']t)"
)
_PARTIAL_EN = re.compile(
    rf"{_LIMIT_EN}(?=[^\n]{{0,160}}(?:\bi\b|\bi[’'](?:ll|ve|m|d)\b|\bthis (?:is|version|response)"
    r"|\bhere(?:[’']s| is| are)\b|\bbelow\b))"
    rf"|(?:\bi\b|\bi[’'](?:ll|ve|m|d)\b|\bthis (?:is|version)"
    rf"|not be included)[^\n]{{0,140}}{_LIMIT_EN}"
    r"|\bthis (?:is|version)[^\n]{0,60}(?:shorten|abbreviat|abridg|condens)[^\n]{0,120}"
    r"(?:limit|full|requested|\d)"
    rf"|\b{_WHOLE_EN}\b[^\n]{{0,80}}{_TOO_LONG_EN}[^\n]{{0,90}}{_SUBSTITUTE_EN}"
    rf"|{_TOO_LONG_EN}[^\n]{{0,80}}\b{_WHOLE_EN}\b[^\n]{{0,60}}{_SUBSTITUTE_EN}"
    rf"|{_SUBSTITUTE_EN}[^\n]{{0,60}}{_WHOLE_EN}[^\n]{{0,50}}{_TOO_LONG_EN}"
    rf"|{_TOO_LONG_EN}[^\n]{{0,60}}(?:single|one) (?:response|reply|message|go\b|output)"
    rf"[^\n]{{0,90}}{_SUBSTITUTE_EN}|(?:full|entire|complete|whole)[^\n]{{0,80}}"
    r"(?:exceed|beyond)\w*[^\n]{0,40}(?:limit|single|scope)"
    r"|(?:unable|not able|could not|couldn[’']t)[^\n]{0,40}(?:full|requested|\d[\d,]*[- ]words?)"
    r"[^\n]{0,60}(?:single|one|limit)"
    r"|\b(?:for (?:the sake of )?brevity|in the interests? of (?:space|brevity|length|time)"
    r"|to save space)[^\n]{0,90}(?:summari|condens|outlin|abridg|shorten|omit)",
    re.IGNORECASE,
)

# Every alternative of _PARTIAL_EN needs one of these. Looking for them first is twenty times
# faster, and most passages contain none. A pattern without IGNORECASE is searched for faster.
_PARTIAL_STEM = re.compile(
    r"limit|constraint|restriction|\bcap\b|\btoo |exceed|beyond|possible|feasible|practical"
    r"|can[’']?t|cannot|unable|not able|could not|couldn|brevity|interests? of|save space"
    r"|shorten|abbreviat|abridg|condens"
)

_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_CANNOT_ZH = r"(?:无法|無法|不能|没法|没有?办法|不便|不可以|没有能力|不会)"
_TASK_ZH = (
    r"(?:提供|完成|满足|协助|帮助|帮|生成|撰写|写(?!不)|创作|回答|继续|从命"
    r"|参与|处理|讨论|回应|满足|给出|代写|输出)"
)
_COMPLETE_ZH = re.compile(
    rf"(?:抱歉|对不起|對不起|遗憾|不好意思)[^。\n]{{0,20}}(?:{_CANNOT_ZH}|拒绝)"
    rf"|作为(?:一个|一名|一款)?[^，。\n]{{0,8}}(?:AI|人工智能|语言模型"
    rf"|助手)[^。\n]{{0,30}}{_CANNOT_ZH}"
    rf"|我(?:只是|仅是|是)(?:一个|一名)?(?:AI|人工智能|语言模型)[^。\n]{{0,20}}{_CANNOT_ZH}"
    rf"|(?:^|[，。！])\W*(?:这个?(?:问题|话题|请求|要求))?我(?:暂时|目前|现在|实在)?{_CANNOT_ZH}"
    rf"(?:为您|为你|替您|替你|给您|给你"
    rf"|再)?(?:\w{{0,3}}){_TASK_ZH}(?:这|您|你|此|该|相关|任何|$|[，。！])"
    rf"|(?:请求|问题|话题|要求|内容)我?(?:暂时|目前)?{_CANNOT_ZH}{_TASK_ZH}"
    r"|恕(?:我|本人)?.{0,2}(?:不能|无法|难|不便)|我(?:必须|只能|不得不"
    r"|需要)?(?:婉拒|拒绝)(?:撰写|提供|完成|这)"
    r"|(?:违反|违背|不符合)[^，。\n]{0,8}(?:准则|政策|原则|规定|规范)[^\n]{0,20}"
    r"|我不(?:太)?(?:适合|方便)(?:写|撰写|提供|回答|创作)"
    r"|我(?:无法|無法|不能)(?:为您|为你)(?:提供|生成|撰写|写)",
    re.IGNORECASE | re.MULTILINE,
)
_SUBSTITUTE_ZH = (
    r"(?:大纲|提纲|梗概|概要|概述|概括|框架|简短|精简|缩短|缩略|缩写|压缩|浓缩"
    r"|节选|节略|大概|示例|摘要|简要|简化|简略"
    r"|先[写给提列]|部分内容)"
)
_WHOLE_ZH = (
    r"(?:完整|整[部本篇]|全部|全文|这么长|如此长|一次性?|[一二两三四五六七八九十百千万\d]+字|字数)"
)
_TOO_LONG_ZH = r"(?:太长|太多|过长|过多|超出|超过|无法|不可能|难以|没有?办法|不能|不现实)"
_LIMIT_ZH = (
    r"(?:(?:由于|鉴于|因为|因|受|限于|受限于)[^。，\n]{0,12}(?:篇幅|长度"
    r"|字数|字符|回复|输出|单次|一次|内容|token)"
    r"[^。，\n]{0,8}(?:限制|有限|上限|所限)|限于篇幅|篇幅所限|(?:为了?)?节省篇幅)"
)
_PARTIAL_ZH = re.compile(
    rf"{_LIMIT_ZH}(?=[^\n]{{0,40}}(?:我|以下|下面|这里|此处|只能|仅|以上|本文|{_SUBSTITUTE_ZH}))"
    rf"|{_WHOLE_ZH}[^\n]{{0,25}}{_TOO_LONG_ZH}[^\n]{{0,40}}{_SUBSTITUTE_ZH}"
    rf"|{_TOO_LONG_ZH}[^\n]{{0,25}}{_WHOLE_ZH}[^\n]{{0,40}}{_SUBSTITUTE_ZH}"
    rf"|{_SUBSTITUTE_ZH}[^\n]{{0,30}}{_LIMIT_ZH}",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether a text refuses the request, or says that it gives less than requested.

    A complete refusal is at the start of a text of fewer than 200 words. A partial refusal, such as
    "Due to length limits, here is an outline", is in the first or last 500 characters of a text of
    any length.
    """
    text = text.strip()
    opening = without_speech(text[:_WINDOW])
    if _is_partial(opening) or (
        len(text) > _WINDOW and _is_partial(without_speech(text[-_WINDOW:]))
    ):
        return True
    if _LETTER.match(opening):
        return False
    if _COUNTER_OFFER_EN.search(opening) or _COUNTER_OFFER_ZH.search(opening):
        return True
    opening = opening[:_OPENING]
    refusal = _COMPLETE_EN.search(opening) or (
        _CHINESE.search(opening) and _COMPLETE_ZH.search(opening)
    )
    return bool(refusal) and count_words(text) < _REFUSAL_MAX_WORDS


def _is_partial(passage: str) -> bool:
    return bool(
        (_PARTIAL_STEM.search(passage.lower()) and _PARTIAL_EN.search(passage))
        or (_CHINESE.search(passage) and _PARTIAL_ZH.search(passage))
    )
