"""What the stand-in plans, writes and judges: word salad and dice, the same for the same seed."""

import json
import random
import re

# Spelled out, not imported from quality.py: a slip there must not hide behind itself.
_KEYS = ("Relevance", "Accuracy", "Coherence", "Clarity", "Breadth and Depth", "Reading Experience")
_REQUIRED_LENGTH = re.compile(r"(\d[\d,]{0,9})\s*(?:-?\s*words?\b|个?字)", re.IGNORECASE)
_SLOT = re.compile(r"{(\w+)}")
_HAN = re.compile(r"[\u4e00-\u9fff]")
# How a prompt shows the form of a plan, says how long the text is to be, and names one step of it.
_PLAN_FORM = re.compile(r"^(Paragraph|Chapter) 1 - Main Point: \[", re.MULTILINE)
_TOTAL = re.compile(r"^Total length: (\d+) words", re.MULTILINE)
_STEP = re.compile(r"Main Point: (.*?) - Word Count: \d+ words")
_YES_OR_NO = re.compile(r"^Answer: \[yes or no\]", re.MULTILINE)
_TWO_TEXTS = re.compile(r"^<Second Text>$", re.MULTILINE)
_CHOICES = ("first", "second", "tie")
_STEP_WORDS = {"Paragraph": 400, "Chapter": 5_000}
_MOST_STEPS = 50
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
    """A plan or a yes or no where the prompt asks for it; else prose of about the required length.

    The text of one step of a plan is 0.8 to 1.2 times as long as the step says, any other 0.5 to
    1.3 times. Prose ends with a whole sentence, so it is at most that much longer.
    """
    if _YES_OR_NO.search(prompt):
        return f"Reason: a throw of dice.\nAnswer: {dice.choice(('yes', 'no'))}"
    if form := _PLAN_FORM.search(prompt):
        return _plan(prompt, form[1], dice)
    steps = _STEP.findall(prompt)
    grammar = _grammar(steps[-1] if steps else prompt)
    least, most = (0.8, 1.2) if steps else (0.5, 1.3)
    target = min(required_length(prompt), 50_000) * dice.uniform(least, most)  # a typo has a limit
    text, written = "", 0
    while written < target:
        sentence = _fill("sentence", grammar, dice)
        written += len(TOKEN.findall(sentence))
        text += sentence + _fill("gap", grammar, dice)
    return text.rstrip()


def _plan(prompt: str, label: str, dice: random.Random) -> str:
    """A line for each step; the targets sum up to the length that the prompt asks for.

    Where it names none as the total, that is the largest that it names, as in upstream's prompt.
    """
    total = _TOTAL.search(prompt)
    named = [int(length.replace(",", "")) for length in _REQUIRED_LENGTH.findall(prompt)]
    required = min(int(total[1]) if total else max(named, default=2_000), 1_000_000)
    steps = min(max(1, round(required / _STEP_WORDS[label])), _MOST_STEPS)
    # one character of Chinese can only come from the instruction: the prompts are in English
    grammar = _grammar("字" if _HAN.search(prompt) else "")
    lines = []
    for number in range(1, steps + 1):
        words = required // steps + (required % steps if number == steps else 0)
        point = _fill("sentence", grammar, dice).rstrip(".。")
        lines.append(f"{label} {number} - Main Point: {point} - Word Count: {words} words")
    return "\n\n".join(lines)


def _grammar(text: str) -> dict[str, list[str]]:
    """The grammar of the language that most of `text` is in."""
    han = len(_HAN.findall(text))
    language = _CHINESE if han > len(TOKEN.findall(text)) - han else _ENGLISH
    return {slot: choices.split("|") for slot, choices in language.items()}


def _fill(slot: str, grammar: dict[str, list[str]], dice: random.Random) -> str:
    return _SLOT.sub(lambda inner: _fill(inner[1], grammar, dice), dice.choice(grammar[slot]))


def judge(prompt: str, dice: random.Random) -> str:
    """A verdict of the shape that LongWriter's judges give, or a choice where two texts are shown.

    Nothing else of the prompt goes into it.
    """
    if _TWO_TEXTS.search(prompt):
        choice = {"Analysis": "A stand-in choice: dice.", "Better": dice.choice(_CHOICES)}
        return f"Both texts were read from beginning to end.\n\n{json.dumps(choice)}"
    scores = {key: dice.randint(1, 5) for key in _KEYS}
    verdict = json.dumps({"Analysis": "A stand-in verdict: the scores are dice.", **scores})
    return f"The response was read from beginning to end.\n\n{verdict}"
