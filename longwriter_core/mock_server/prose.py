"""Meaningless text for the mock models, the tests and the benchmarks.

The same arguments always give the same text. `prose` makes grammatical sentences that language
detection recognises as English or Chinese. `random_words` makes words that exist in no language.
"""

import random
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import accumulate

# A word, or a Chinese character (字). The mock server also counts tokens with this pattern, which
# is close enough to a real tokenizer.
TOKEN = re.compile(r"[\u4e00-\u9fff]|[A-Za-z0-9]+")

_SENTENCES = {
    "en": (
        "The {adj} {noun} {verb} the {noun}, and the {noun} {verb} the {adj} {noun} {adv}.",
        "When the {noun} {verb} the {adj} {noun}, the {adj} {noun} {verb} another {noun}.",
        "No {noun} {verb} the {adj} {noun}, so the {noun} {verb} it {adv}.",
        "Every {noun} that {verb} the {noun} {adv} {verb} some {adj} {noun} as well.",
    ),
    "zh": (
        "{adj}的{noun}{adv}{verb}了{noun}，{noun}也{verb}了{adj}的{noun}。",
        "当{noun}{verb}了{adj}的{noun}时，{adj}的{noun}正{adv}走过{noun}。",
        "没有{noun}{verb}过{adj}的{noun}，于是{noun}{adv}{verb}了它。",
    ),
}
_WORDS = {
    "en": {
        "noun": "archive baker bridge captain carpenter clock garden harbour lantern letter library"
        " market meadow neighbour orchard pilot river sailor teacher tower village window workshop"
        " anchor baron canal dancer engine farmer glacier hunter island jacket kettle ladder"
        " mirror needle orchestra painter quarry ribbon station tunnel uncle valley waiter",
        "verb": "answered followed helped measured noticed painted recalled repaired studied"
        " welcomed admired borrowed carried described examined forgot guarded imagined joined"
        " missed named offered praised questioned rescued searched touched visited watched",
        "adj": "bright careful crowded curious distant gentle hidden narrow patient quiet wooden"
        " ancient bitter clever dusty early faithful golden honest idle jealous loyal modest"
        " nervous proud rusty silent tired useful wild",
        "adv": "again briefly calmly gladly slowly softly twice eagerly rarely gracefully often"
        " suddenly",
    },
    "zh": {
        "noun": "山谷 灯塔 书信 木匠 老师 河流 花园 集市 小桥 邻居 车站 村庄 船长 草地 钟楼 水手"
        " 旅人 港口 森林 画家 城墙 渔夫 果园 铁匠 图书馆 石阶 马车 诗人 医生 湖泊",
        "verb": "记住 照亮 陪伴 修补 描绘 等候 问候 守护 观察 寻找 欢迎 理解 离开 赞美 拜访 忘记"
        " 追随 感动 保存 打听",
        "adj": "安静 遥远 明亮 古老 温柔 拥挤 朴素 陌生 宽阔 耐心 好奇 细心 勇敢 忙碌 寒冷 金色 "
        "孤独 诚实",
        "adv": "慢慢地 又一次 轻轻地 认真地 悄悄地 静静地 高兴地 匆忙地 偶然地 仔细地",
    },
}
# A template split at its slots: literal, slot, literal, slot, …, literal.
_TEMPLATES = {
    language: [re.split(r"{(\w+)}", sentence) for sentence in sentences]
    for language, sentences in _SENTENCES.items()
}
_SLOTS: Mapping[str, Mapping[str, list[str]]] = {
    language: {slot: words.split() for slot, words in slots.items()}
    for language, slots in _WORDS.items()
}
_PARAGRAPH = 6  # sentences, on average


def sentence(dice: random.Random, language: str = "en") -> str:
    """One sentence of English ("en") or Chinese ("zh")."""
    words = _SLOTS[language]
    parts = dice.choice(_TEMPLATES[language])
    return "".join(dice.choice(words[part]) if n % 2 else part for n, part in enumerate(parts))


def sentences(words: int, dice: random.Random, language: str = "en") -> str:
    """Paragraphs of whole sentences: at least `words` words, at most one sentence more."""
    pieces: list[str] = []
    count = 0
    while count < words:
        new = sentence(dice, language)
        count += len(TOKEN.findall(new))
        pieces += [new, "\n\n" if dice.random() * _PARAGRAPH < 1 else _blank(language)]
    return "".join(pieces[:-1])


def prose(words: int, seed: int = 0, language: str = "en") -> str:
    """Paragraphs of exactly `words` words (Chinese: characters); the last sentence is cut."""
    text = sentences(words, random.Random(f"{words} {seed} {language}"), language)
    ends = [match.end() for match in TOKEN.finditer(text)][: max(words, 0)]
    return text[: ends[-1]] + _full_stop(language) if ends else ""


def random_words(seed: int = 0, vocabulary: int = 20_000) -> Iterator[str]:
    """An endless iterator of made-up words, drawn by Zipf's law from a set of `vocabulary` words.

    They compress about as well as English, unlike the words of `prose`.
    """
    dice = random.Random(seed)
    words, weights = _vocabulary(vocabulary)
    while True:
        yield from dice.choices(words, cum_weights=weights, k=1_000)


@cache
def _vocabulary(size: int) -> tuple[list[str], list[float]]:
    """Made-up words, and their cumulative weights by Zipf's law."""
    dice = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    weights = [1 / (rank + 3) for rank in range(len(letters))]
    words = ["".join(dice.choices(letters, weights, k=dice.randint(2, 9))) for _ in range(size)]
    return words, list(accumulate(1 / (rank + 1) for rank in range(size)))


def _blank(language: str) -> str:
    return "" if language == "zh" else " "


def _full_stop(language: str) -> str:
    return "。" if language == "zh" else "."
