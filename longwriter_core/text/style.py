"""The style of a text, measured without a judge: overused words, and variety of words. Pure.

The lists are this project's selection of patterns reported as typical of language models:

- Kobak et al. 2024, "Delving into ChatGPT usage in academic writing through excess vocabulary"
  (arXiv 2406.07016), and Liang et al. 2024 (arXiv 2403.07183): words whose use has jumped
- Paech et al. 2025, "Antislop" (arXiv 2510.15061), and EQ-Bench's slop score: words, names and
  "not X, but Y" in fiction
- Wikipedia, "Signs of AI writing": stock phrases in essays and articles

The Chinese list has the counterparts of these patterns. Every entry is also normal language, so
compare models on the same prompts, and do not draw conclusions from a single text.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from longwriter_core.text.language import main_language
from longwriter_core.text.length import count_words

WORD = re.compile(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+")
_ASCII_WORD = re.compile(r"[a-zA-Z]+")  # the same for ASCII text, twice as fast

# A Chinese word has about two characters.
_DIVERSITY_WINDOW = {"en": 100, "zh": 200}

_SLOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    bustling camaraderie cacophony commendable crucible delve delved delves delving elara elevate
    embark embarked embarking ethereal fostering foster glimmer glimmering holistic
    indelible indomitable interplay intricacies intricate intricately kael kaleidoscope labyrinth
    labyrinthine landscape leverage leveraging luminescence lyra meticulous meticulously mosaic
    multifaceted myriad nestled nuanced ozone palpable paradigm pivotal poignant profound
    profoundly realm realms resilience resonate resonated resonates robust seamless seamlessly
    showcase showcases showcasing shimmering shimmered steadfast symphony synergy tapestry testament
    thorne thrum thrummed transformative transcend transcended transcends underpinning
    underscore underscored underscores underscoring unwavering unyielding vibrant visceral whispered
    """,
    )
)
_SLOP_ENGLISH = re.compile(
    r"\b(?:not (?:just|only|merely|simply)\b[^.!?\n]{1,60}?\bbut(?: also)?"
    r"|(?:was|is|were|are)(?:n[’']t| not) (?:just|merely|simply) [^.!?;\n]{1,50}[;,—.] ?"
    r"(?:it|they|s?he)(?: (?:was|is|were|are)|[’']s)"
    r"|it(?:[’']s| is) (?:important|worth|crucial|essential) (?:to note|noting|to remember)"
    r"|(?:plays?|played|playing) an? (?:crucial|vital|pivotal|significant|key) role"
    r"|stands? as an?|serves? as a (?:reminder|beacon|powerful)|beacon of|rich (?:history|heritage)"
    r"|in today[’']s (?:\w+ )?(?:\w+-\w+ )?(?:world|landscape|age|society)|in the (?:ever|realm of)"
    r"|ever-(?:evolving|changing|present)|navigat\w+ the complexit\w+"
    r"|sense of (?:purpose|wonder|dread)"
    r"|breath (?:\w+ )?(?:hadn[’']t|didn[’']t) (?:known|know|realized|realize|realised|realise)"
    r"|(?:voice|words?) barely above a whisper|barely above a whisper|sent (?:a )?shivers?"
    r"|shivers? (?:down|up)|heart (?:pounding|hammering|hammered|pounded|skipped)"
    r"|eyes (?:widen\w*|sparkl\w+|glisten\w*|gleam\w*)|knuckles (?:white|whitened|turning)"
    r"|the weight of|couldn[’']t help but|for the first time in (?:years|a long time|forever)"
    r"|little did (?:he|she|they|we|i) know|in conclusion|in summary|furthermore|moreover"
    r"|a (?:mix|mixture|blend) of|hung (?:heavy|thick) in the air|dust motes|unspoken"
    r"|the air (?:was )?thick with|something (?:shifted|else|akin)|threatened to)\b"
)
_SLOP_CHINESE = re.compile(
    r"仿佛|宛如|宛若|恍若|不禁|交织|编织|织就|镌刻|诉说着|见证[了着]|弥漫[着在]|闪烁着|深邃|璀璨|斑驳|静谧|氤氲|涟漪"
    r"|深吸(?:了)?一口气|嘴角(?:微微)?(?:上扬|勾起|扬起)|眼(?:中|神里|里)闪过|心(?:中|头)涌起|一股(?:暖流|莫名)|命运的齿轮"
    r"|空气(?:仿佛|似乎)?(?:凝固|都)|不易察觉|难以言喻|前所未有|无法抗拒|悄然|缓缓|微微一|淡淡的"
    r"|综上所述|总而言之|总的来说|值得注意的是|不可或缺|至关重要|举足轻重|与此同时|此外|在当今|随着.{2,12}的(?:不断)?发展"
    r"|赋能|助力|多维度|全方位|深度融合|底层逻辑|抓手|闭环|生态系统|画卷|篇章|乐章|灯塔|熠熠生辉|绽放|谱写"
    r"|不仅(?:仅)?是?[^，。\n]{1,25}，(?:更|而且|还)|不(?:仅仅)?是[^，。\n]{1,20}，而是|既是[^，。\n]{1,20}，(?:也|又)是"
    r"|这一刻|那一刻|这不仅|正如.{1,12}所说|让我们(?:一起|携手|共同)"
)


def slop(text: str) -> float:
    """Overused words and patterns per 1,000 words (Chinese: characters); 0 without words."""
    words = count_words(text)
    if not words:
        return 0.0
    hits = 0
    if not text.isascii():
        hits += sum(1 for _ in _SLOP_CHINESE.finditer(text))
    lower = text.lower()
    hits += sum(1 for _ in _SLOP_ENGLISH.finditer(lower))
    hits += sum(word in _SLOP_WORDS for word in words_of(lower))
    return 1000 * hits / words


def diversity(text: str) -> float:
    """Moving-average type-token ratio, 0 to 1: the share of different words in a passage.

    The mean over all passages of 100 words (Chinese: 200 characters), so that it does not fall with
    the length of the text. A shorter text is one passage; 0 without words.
    Source: Covington and McFall 2010, doi:10.1080/09296171003643098.
    """
    return type_token_ratio(words_of(text.lower()), _DIVERSITY_WINDOW[main_language(text)])


def type_token_ratio(words: Sequence[str], window: int) -> float:
    """The mean share of different words over all runs of `window` words; 0 without words.

    A word counts in every window that contains it but not its previous occurrence.
    """
    import numpy as np  # imported here because it takes a tenth of a second

    window = min(window, len(words))
    if not window:
        return 0.0
    last_start = len(words) - window
    ids: dict[str, int] = {}
    numbered = np.array([ids.setdefault(word, len(ids)) for word in words])
    order = np.argsort(numbered, kind="stable")  # equal words side by side, in order of place
    is_repeat = numbered[order[1:]] == numbered[order[:-1]]
    previous = np.full(len(words), -1)
    previous[order[1:][is_repeat]] = order[:-1][is_repeat]
    places = np.arange(len(words))
    starts = np.maximum(previous + 1, places - window + 1)
    types = int(np.maximum(0, np.minimum(places, last_start) - starts + 1).sum())
    return types / (window * (last_start + 1))


@lru_cache(maxsize=2)  # the diagnostics of one text ask for the same words three times
def words_of(text: str) -> tuple[str, ...]:
    """The words of a text; each Chinese character is one."""
    return tuple((_ASCII_WORD if text.isascii() else WORD).findall(text))
