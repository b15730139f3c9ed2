"""Finds benchmark prompts in other texts, such as training data: exact, embedded or edited.

    prompts = benchmark_prompts()
    places = ((f"line {n}", text) for n, text in enumerate(texts, 1))
    for overlap in find_overlaps(places, prompts):
        print(overlap.place, overlap.prompt_id, overlap.kind, overlap.similarity)

A text contains a prompt if enough of the prompt's shingles occur close together in it. The text
around them does not matter: the measure is containment instead of Jaccard similarity, because texts
are much longer than prompts. It does not detect translations, traditional characters or free
paraphrases.

Everything except `benchmark_prompts` is pure.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from longwriter_core.benchmarks import read_prompts

_Place = TypeVar("_Place")

BENCHMARKS = ("longbench_write", "longwrite_ruler")
# A text contains a prompt if it contains at least this share of it, which allows for one or two
# edited words. The two most similar benchmark prompts share 0.69. In a prompt of seven words, one
# changed word may change the topic. That false positive is acceptable, because losing a training
# sample costs less than training on the test set.
NEAR = 0.7

_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_NOT_TEXT = re.compile(r"[\W_]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_BLANK_AT_HAN = re.compile(rf"(?<=[{_HAN}]) | (?=[{_HAN}])")
# People change the length first, so every number counts as the same number.
_NUMBER = re.compile(
    r"\d+(?: \d{3})*(?:k\b|[千万])?|[〇零一二两三四五六七八九十百千万]+(?=余?多?个?[字词])"
)
# Shingles overlap: two characters from a Chinese character on, five from any other character on.
_SHINGLE = re.compile(rf"(?=([{_HAN}].|[^{_HAN}].{{4}}))", re.DOTALL)
_SPREAD = 2  # a prompt with additions may be this many times as long as the prompt itself


@dataclass(frozen=True)
class Overlap(Generic[_Place]):
    """The text at `place` contains the prompt `prompt_id`.

    "exact": the whole prompt, apart from case, punctuation and blanks. "near": the share
    `similarity` (0..1) of it in one passage, with all numbers counting as the same number.
    """

    place: _Place
    prompt_id: str
    similarity: float
    kind: Literal["exact", "near"]


class PromptIndex:
    """Prompts, indexed for finding them in many texts."""

    def __init__(self, prompts: Mapping[str, str], threshold: float = NEAR) -> None:
        self._threshold = threshold
        self._exact = {id: normalise(prompt) for id, prompt in prompts.items()}
        self._shingles = {
            id: frozenset(shingles_of(_loose(text))) for id, text in self._exact.items()
        }
        # Shingles that many prompts share, such as those of "write an article of", weigh little.
        # The same prompt with several lengths counts once.
        distinct = set(self._shingles.values())
        holders = Counter(shingle for shingles in distinct for shingle in shingles)
        self._weight = {
            shingle: math.log(1 + len(distinct) / number) for shingle, number in holders.items()
        }
        self._total = {id: self._sum(shingles) for id, shingles in self._shingles.items()}
        # Together, the prompt's rarest shingles weigh more than the share that may be missing. A
        # text that contains the prompt therefore contains at least one of them; skip all others.
        self._rare: defaultdict[str, list[str]] = defaultdict(list)
        for id, shingles in self._shingles.items():
            missing = (1 - threshold) * self._total[id]
            for shingle in sorted(shingles, key=lambda shingle: (holders[shingle], shingle)):
                self._rare[shingle].append(id)
                missing -= self._weight[shingle]
                if missing < 0:
                    break

    def find(self, text: str, place: _Place) -> Overlap[_Place] | None:
        """The prompt that `text` contains (the most similar one of several), or None."""
        exact = normalise(text)
        shingles = shingles_of(_loose(exact))
        own = set(shingles)
        candidates = {id for shingle in own & self._rare.keys() for id in self._rare[shingle]}
        overlaps: list[Overlap[_Place]] = []
        for id in candidates:
            if self._exact[id] in exact:
                overlaps.append(Overlap(place, id, 1.0, "exact"))
            elif self._sum(own & self._shingles[id]) >= self._threshold * self._total[id]:
                similarity = self._closest(id, shingles) / self._total[id]
                if similarity >= self._threshold:
                    overlaps.append(Overlap(place, id, min(1.0, similarity), "near"))
        return max(overlaps, key=_rank, default=None)

    def _sum(self, shingles: Iterable[str]) -> float:
        return math.fsum(self._weight[shingle] for shingle in shingles)

    def _closest(self, id: str, shingles: list[str]) -> float:
        """The weight of the prompt's shingles in the passage that holds most of them."""
        wanted = self._shingles[id]
        hits = [(at, shingle) for at, shingle in enumerate(shingles) if shingle in wanted]
        reach = _SPREAD * len(_loose(self._exact[id]))
        inside: Counter[str] = Counter()
        weight = most = 0.0
        first = 0
        for at, shingle in hits:
            weight += self._weight[shingle] * (not inside[shingle])
            inside[shingle] += 1
            while hits[first][0] < at - reach:
                left = hits[first][1]
                inside[left] -= 1
                weight -= self._weight[left] * (not inside[left])
                first += 1
            most = max(most, weight)
        return most


def find_overlaps(
    texts: Iterable[tuple[_Place, str]], prompts: Mapping[str, str], threshold: float = NEAR
) -> Iterator[Overlap[_Place]]:
    """The texts that contain one of `prompts` (id -> prompt), in order, with the most similar one.

    `place` identifies a text, for example by file and line.
    """
    index = PromptIndex(prompts, threshold)
    for place, text in texts:
        if overlap := index.find(text, place):
            yield overlap


def benchmark_prompts() -> dict[str, str]:
    """id -> prompt of LongBench-Write and LongWrite-Ruler.

    Raises InputError if their files are missing and cannot be downloaded.
    """
    return {row["id"]: row["prompt"] for name in BENCHMARKS for row in read_prompts(name)}


def normalise(text: str) -> str:
    """Letters and digits of `text` in one case and width; blanks only between Latin words."""
    seen = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    plain = _NOT_TEXT.sub(" ", seen.casefold()).strip()
    return _BLANK_AT_HAN.sub("", plain)


def _loose(normal: str) -> str:
    return _NUMBER.sub("0", normal)


def shingles_of(text: str) -> list[str]:
    """The overlapping shingles of a normalised text: five characters, or two Chinese ones.

    A text shorter than one shingle counts as one shingle.
    """
    return _SHINGLE.findall(text) or [text][: len(text)]


def _rank(overlap: Overlap[_Place]) -> tuple[bool, float, str]:
    return overlap.kind == "exact", overlap.similarity, overlap.prompt_id
