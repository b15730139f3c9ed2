"""Rules that turn away an instruction before any model is asked, each with a name to count by."""

import re
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from agentwrite.selecting.candidates import Candidate
from agentwrite.writing.writer import MAX_TEXT_WORDS
from longwriter_core.overlap import PromptIndex, normalise, shingles_of
from longwriter_core.text.language import Language, is_written_in, main_language
from longwriter_core.text.length import count_words
from longwriter_core.text.required_length import required_length

MIN_WORDS = 2_000  # of an answer, from which on AgentWrite is used: arXiv 2408.07055, section 3
LANGUAGES: tuple[Language, ...] = get_args(Language)

_LEAST = {"en": 4, "zh": 6}  # words of an instruction; fewer do not say what to write
_MOST = 2_000  # words of an instruction; more are a text to be worked on
_MOST_CHARACTERS = 20_000  # digits, code and other scripts are no words, but cost tokens

_DECLARED: dict[str, Language] = {
    **dict.fromkeys(("english", "en", "eng"), "en"),
    **dict.fromkeys(("chinese", "zh", "zho", "chi", "cmn", "mandarin", "中文"), "zh"),
}
_JAILBREAK = re.compile(
    r"\bdo anything now\b|\bjailbr(?:eak|oken)|\b(?:developer|god) mode (?:enabled|on)\b"
    r"|\b(?:ignore|disregard|forget)\b.{0,20}\b(?:previous|prior|above|earlier|before)\b.{0,20}"
    r"\b(?:instructions?|prompts?|rules|messages?)\b"
    r"|\bignore all (?:of )?(?:the |your )?instructions\b"
    r"|\byou (?:have|are|can|will|do)\b.{0,60}\b(?:no|not|without|free (?:of|from)) (?:\w+ ){0,2}"
    r"(?:restrictions|filters?|censorship|content polic)"
    r"|(?:忽略|无视|忘记|忘掉).{0,8}(?:之前|以上|上面|前面|此前).{0,8}(?:指令|指示|提示|规则|要求)"
    r"|越狱模式|不受.{0,8}(?:限制|约束|审查)的.{0,8}(?:AI|人工智能|模型|助手)",
    re.IGNORECASE | re.DOTALL,
)
_PAINTERS = r"(?:midjourney|stable diffusion|dall[\s·-]?e|image generat\w+|text[- ]to[- ]image)"
_IMAGE_PROMPT = re.compile(
    rf"\bprompts?\b.{{0,120}}\b{_PAINTERS}|\b{_PAINTERS}\b.{{0,120}}\bprompts?\b"
    r"|(?:绘画|绘图|图像|画图|作画).{0,20}提示词|提示词.{0,20}(?:绘画|绘图|图像|画图|作画)",
    re.IGNORECASE | re.DOTALL,
)
_SCRAPING = re.compile(
    r"\A\W*(?:please |can you |could you )?(?:scrape|crawl|fetch|extract|browse|open|visit|read)\b"
    r".{0,80}(?:https?://|www\.|\bweb ?(?:site|page)|\burls?\b|\blinks?\b)"
    r"|\A\W*(?:please )?(?:generate|give me|create|list|make|write|produce)\s+(?:me )?\d{2,}\s+"
    r"(?:\w+\s+){0,3}(?:rows|records|questions|titles|headlines|keywords|names|comments|reviews"
    r"|tweets|hashtags|prompts|captions|sentences|e-?mails|examples|variations|synonyms)\b"
    r"|\A\W*请?(?:帮我)?(?:爬取|抓取|采集).{0,30}(?:网站|网页|数据|链接|https?://)"
    r"|\A\W*请?(?:帮我)?(?:生成|写|列出|给我)\s*\d{2,}\s*[个条道句种].{0,10}"
    r"(?:标题|评论|关键词|问题|数据|名字|文案|句子|题目|选择题)",
    re.IGNORECASE | re.DOTALL,
)
_PLACEHOLDER = re.compile(
    r"\{\{?\s*[A-Za-z_][A-Za-z_ ]{1,30}\}?\}"
    r"|[\[<](?:insert|enter|your|add|paste|topic|keywords?|prompt|target ?language|subject|product)"
    r"\b[^\]>\n]{0,40}[\]>]|[【\[（(](?:插入|填写|在此|主题|关键词|此处)[^】\]）)\n]{0,20}[】\]）)]",
    re.IGNORECASE,
)

# A template is known by how it begins; so many instructions may begin alike.
_OPENING = {"en": 60, "zh": 30}  # characters
_SAME_OPENINGS = 3

# MinHash with 12 bands of 10: of two instructions with Jaccard similarity 0.9, the second is found
# with probability 0.99, with 0.8 0.75, and with 0.6 0.07.
_BANDS, _BAND = 12, 10


@dataclass(frozen=True)
class TurnedAway:
    """The rule that turns an instruction away, and what it found, for a person to read."""

    rule: str
    detail: str = ""


class Rules:
    """The rules, in the order in which they are applied.

    Those on duplicates remember about 1.3 KB of each instruction that comes so far, and nothing of
    the others (scripts/bench_select.py).
    """

    def __init__(self, benchmarks: Mapping[str, str]) -> None:
        from datasketch import MinHash

        self._benchmarks = PromptIndex(benchmarks)
        self._minhash = MinHash(num_perm=_BANDS * _BAND, seed=1, hashfunc=zlib.crc32)
        self._seen: set[int] = set()  # hashes of texts, and of the bands of their MinHash
        self._openings: Counter[int] = Counter()

    def check(self, candidate: Candidate, language: Language | None) -> TurnedAway | None:
        """The first rule that turns the candidate away; None where it may be chosen."""
        return self._check_alone(candidate, language) or self._check_beside(candidate.instruction)

    def _check_alone(self, candidate: Candidate, language: Language | None) -> TurnedAway | None:
        text = candidate.instruction
        if candidate.is_toxic:
            return TurnedAway("toxic")
        if candidate.is_redacted:
            return TurnedAway("redacted")
        if language is None:
            return TurnedAway("language", candidate.declared or "")
        words = count_words(text)
        if words < _LEAST[language]:
            return TurnedAway("too_short", f"{words} words")
        if words > _MOST:
            return TurnedAway("too_long", f"{words} words")
        if len(text) > _MOST_CHARACTERS:
            return TurnedAway("too_long", f"{len(text)} characters")
        required = required_length(text)
        if required is not None and not MIN_WORDS <= required <= MAX_TEXT_WORDS:
            return TurnedAway("required_length", f"{required} words")
        for rule, pattern in (
            ("jailbreak", _JAILBREAK),
            ("image_prompt", _IMAGE_PROMPT),
            ("scraping", _SCRAPING),
            ("placeholder", _PLACEHOLDER),
        ):
            if found := pattern.search(text):
                return TurnedAway(rule, " ".join(found[0].split())[:100])
        return None

    def _check_beside(self, text: str) -> TurnedAway | None:
        if overlap := self._benchmarks.find(text, None):
            return TurnedAway(
                "benchmark", f"{overlap.kind} {overlap.prompt_id} {overlap.similarity:.2f}"
            )
        normal = normalise(text)
        opening = normal[: _OPENING[main_language(text)]]
        if len(opening) < len(normal):
            self._openings[key := hash_of(b"opening", opening.encode())] += 1
            if self._openings[key] > _SAME_OPENINGS:
                return TurnedAway("repeated_opening", opening)
        return self._check_seen(normal)

    def _check_seen(self, normal: str) -> TurnedAway | None:
        whole = hash_of(b"whole", normal.encode())
        if whole in self._seen:
            return TurnedAway("duplicate")
        sketch = self._minhash.copy()
        sketch.update_batch({shingle.encode() for shingle in shingles_of(normal)})
        values = sketch.hashvalues.reshape(_BANDS, _BAND)
        bands = {hash_of(bytes([band]), row.tobytes()) for band, row in enumerate(values)}
        is_near = not bands.isdisjoint(self._seen)
        self._seen |= {whole, *bands}
        return TurnedAway("near_duplicate") if is_near else None


def language_of(candidate: Candidate) -> Language | None:
    """The language of an instruction: what it is written in, and what the data set declares.

    None for other languages than English and Chinese, and if the two disagree.
    """
    text = candidate.instruction
    language = main_language(text)
    if candidate.declared is not None:
        names = re.split(r"[\W_]+", candidate.declared.lower())  # "zh_CN", "Simplified Chinese"
        declared = next(filter(None, map(_DECLARED.get, names)), None)
        return language if declared == language else None
    return language if is_written_in(text, language) else None


def hash_of(kind: bytes, data: bytes) -> int:
    """64 bits that depend on nothing else, as Python's own hash of a text does."""
    from hashlib import blake2b

    return int.from_bytes(blake2b(data, digest_size=8, person=kind).digest())
