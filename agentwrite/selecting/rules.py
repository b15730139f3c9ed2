"""Rules that reject an instruction before a model is asked. Rejections are counted by rule name."""

import re
import zlib
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import get_args

from agentwrite.selecting.candidates import Candidate
from agentwrite.thresholds import (
    MAX_INSTRUCTION_CHARACTERS,
    MAX_INSTRUCTION_WORDS,
    MAX_SAME_OPENINGS,
    MIN_ANSWER_WORDS,
    MIN_INSTRUCTION_WORDS,
    OPENING_CHARACTERS,
)
from agentwrite.writing.writer import MAX_TEXT_WORDS
from longwriter_core.llm import Rejected
from longwriter_core.overlap import PromptIndex, normalise, shingles_of
from longwriter_core.text.language import Language, main_language
from longwriter_core.text.length import count_words
from longwriter_core.text.required_length import required_length

LANGUAGES: tuple[Language, ...] = get_args(Language)

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
_IMAGE_MODELS = r"(?:midjourney|stable diffusion|dall[\s·-]?e|image generat\w+|text[- ]to[- ]image)"
_IMAGE_PROMPT = re.compile(
    rf"\bprompts?\b.{{0,120}}\b{_IMAGE_MODELS}|\b{_IMAGE_MODELS}\b.{{0,120}}\bprompts?\b"
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

# MinHash with 12 bands of 10 hashes each. If two instructions have a Jaccard similarity of 0.9, the
# second is found with probability 0.99; at 0.8 it is 0.75, and at 0.6 it is 0.07.
_BANDS, _HASHES_PER_BAND = 12, 10


class Rules:
    """Applies the rules in a fixed order.

    The duplicate rules come last and use about 1.3 KB of memory for each instruction that passes
    the other rules (scripts/bench_select.py).
    """

    def __init__(self, benchmarks: Mapping[str, str]) -> None:
        from datasketch import MinHash  # slow to import

        self._benchmarks = PromptIndex(benchmarks)
        self._minhash = MinHash(num_perm=_BANDS * _HASHES_PER_BAND, seed=1, hashfunc=zlib.crc32)
        self._seen: set[int] = set()  # hashes of texts, and of the bands of their MinHash
        self._openings: Counter[int] = Counter()

    def check(self, candidate: Candidate, language: Language | None) -> Rejected | None:
        """Return the rejection by the first rule that applies; None if the candidate passes."""
        text = candidate.instruction
        return (
            _check_row(candidate, language)
            or _check_length(text)
            or _check_patterns(text)
            or self._check_benchmarks(text)
            or self._check_opening(normal := normalise(text), main_language(text))
            or self._check_duplicates(normal)
        )

    def _check_benchmarks(self, text: str) -> Rejected | None:
        if overlap := self._benchmarks.find(text, None):
            detail = f"{overlap.kind} {overlap.prompt_id} {overlap.similarity:.2f}"
            return Rejected("benchmark", detail)
        return None

    def _check_opening(self, text: str, language: Language) -> Rejected | None:
        opening = text[: OPENING_CHARACTERS[language]]
        if opening == text:
            return None
        key = _hash(b"opening", opening.encode())
        self._openings[key] += 1
        if self._openings[key] > MAX_SAME_OPENINGS:
            return Rejected("repeated_opening", opening)
        return None

    def _check_duplicates(self, text: str) -> Rejected | None:
        whole = _hash(b"whole", text.encode())
        if whole in self._seen:
            return Rejected("duplicate")
        minhash = self._minhash.copy()
        minhash.update_batch({shingle.encode() for shingle in shingles_of(text)})
        values = minhash.hashvalues.reshape(_BANDS, _HASHES_PER_BAND)
        bands = {_hash(bytes([band]), row.tobytes()) for band, row in enumerate(values)}
        is_near = not bands.isdisjoint(self._seen)
        self._seen |= {whole, *bands}
        return Rejected("near_duplicate") if is_near else None


def _check_row(candidate: Candidate, language: Language | None) -> Rejected | None:
    if candidate.is_toxic:
        return Rejected("toxic")
    if candidate.is_redacted:
        return Rejected("redacted")
    if language is None:
        return Rejected("language", candidate.declared_language or "")
    words = count_words(candidate.instruction)
    if words < MIN_INSTRUCTION_WORDS[language]:
        return Rejected("too_short", f"{words} words")
    return None


def _check_length(text: str) -> Rejected | None:
    if (words := count_words(text)) > MAX_INSTRUCTION_WORDS:
        return Rejected("too_long", f"{words} words")
    if len(text) > MAX_INSTRUCTION_CHARACTERS:
        return Rejected("too_long", f"{len(text)} characters")
    required = required_length(text)
    if required is not None and not MIN_ANSWER_WORDS <= required <= MAX_TEXT_WORDS:
        return Rejected("required_length", f"{required} words")
    return None


def _check_patterns(text: str) -> Rejected | None:
    for rule, pattern in (
        ("jailbreak", _JAILBREAK),
        ("image_prompt", _IMAGE_PROMPT),
        ("scraping", _SCRAPING),
        ("placeholder", _PLACEHOLDER),
    ):
        if match := pattern.search(text):
            return Rejected(rule, " ".join(match[0].split())[:100])
    return None


def _hash(kind: bytes, data: bytes) -> int:
    """Return a 64-bit hash that is the same in every process, unlike Python's `hash`."""
    return int.from_bytes(blake2b(data, digest_size=8, person=kind).digest())
