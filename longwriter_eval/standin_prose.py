"""What the stand-in writes and how it judges: word salad and dice, the same for the same seed."""

import json
import random
import re

# Spelled out, not imported from quality.py: a slip there must not hide behind itself.
_KEYS = ("Relevance", "Accuracy", "Coherence", "Clarity", "Breadth and Depth", "Reading Experience")
_REQUIRED_LENGTH = re.compile(r"(\d[\d,]{0,9})\s*(?:-?\s*words?\b|个?字)", re.IGNORECASE)
_SLOT = re.compile(r"{(\w+)}")
_HAN = re.compile(r"[\u4e00-\u9fff]")
TOKEN = re.compile(r"[\u4e00-\u9fff]|[A-Za-z0-9]+")  # a 字 or a word; near enough to real tokens

# A grammar: what a slot may become, separated by bars. The gap comes after every sentence.
_ENGLISH = {
    "sentence": "The {adj} {noun} {verb} the {noun}, and the {noun} {verb} the {adj} {noun} {adv}."
    "|When the {noun} {verb} the {adj} {noun}, the {adj} {noun} {verb} another {noun}."
    "|No {noun} {verb} the {adj} {noun}, so the {noun} {verb} it {adv}.",
    "noun": "archive|baker|bridge|captain|carpenter|clock|garden|harbour|lantern|letter|library"
    "|market|meadow|neighbour|orchard|pilot|river|sailor|teacher|tower|village|window|workshop",
    "verb": "answered|followed|helped|measured|noticed|painted|recalled|repaired|studied|welcomed",
    "adj": "bright|careful|crowded|curious|distant|gentle|hidden|narrow|patient|quiet|wooden",
    "adv": "again|briefly|calmly|gladly|slowly|softly|twice",
    "gap": " | | | |\n\n",
}
_CHINESE = {
    "sentence": "{adj}的{noun}{adv}{verb}了{noun}，{noun}也{verb}了{adj}的{noun}。"
    "|当{noun}{verb}了{adj}的{noun}时，{adj}的{noun}正{adv}走过{noun}。"
    "|没有{noun}{verb}过{adj}的{noun}，于是{noun}{adv}{verb}了它。",
    "noun": "山谷|灯塔|书信|木匠|老师|河流|花园|集市|小桥|邻居|车站|村庄|船长|草地|钟楼|水手|旅人",
    "verb": "记住|照亮|陪伴|修补|描绘|等候|问候|守护|观察|寻找|欢迎|理解",
    "adj": "安静|遥远|明亮|古老|温柔|拥挤|朴素|陌生|宽阔|耐心|好奇|细心",
    "adv": "慢慢地|又一次|轻轻地|认真地|悄悄地|静静地|高兴地",
    "gap": "||||\n\n",
}


def required_length(prompt: str) -> int:
    """The last length that the prompt names, in words or 字: 1500 for "1,500-word"; else 300."""
    named = _REQUIRED_LENGTH.findall(prompt)
    return int(named[-1].replace(",", "")) if named else 300


def write(prompt: str, dice: random.Random) -> str:
    """Prose of 0.5 to 1.3 times the required length, and at most a sentence more."""
    han = len(_HAN.findall(prompt))
    language = _CHINESE if han > len(TOKEN.findall(prompt)) - han else _ENGLISH
    grammar = {slot: choices.split("|") for slot, choices in language.items()}

    def fill(slot: str) -> str:
        return _SLOT.sub(lambda inner: fill(inner[1]), dice.choice(grammar[slot]))

    target = min(required_length(prompt), 50_000) * dice.uniform(0.5, 1.3)  # a typo has a limit
    text, written = "", 0
    while written < target:
        sentence = fill("sentence")
        written += len(TOKEN.findall(sentence))
        text += sentence + fill("gap")
    return text.rstrip()


def judge(dice: random.Random) -> str:
    """A verdict of the shape that LongWriter's judges give. Nothing of the prompt goes into it."""
    scores = {key: dice.randint(1, 5) for key in _KEYS}
    verdict = json.dumps({"Analysis": "A stand-in verdict: the scores are dice.", **scores})
    return f"The response was read from beginning to end.\n\n{verdict}"
