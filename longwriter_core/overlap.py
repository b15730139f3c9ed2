"""Benchmark prompts in other texts, such as training data: exact, embedded, or slightly edited.

    prompts = benchmark_prompts()
    for found in find_overlaps(((f"line {n}", text) for n, text in enumerate(texts, 1)), prompts):
        print(found.place, found.prompt_id, found.kind, found.similarity)

A prompt counts as found where enough of its shingles stand close together in the text, whatever
stands around them: texts are much longer than prompts, so containment, not Jaccard similarity.
Translations, traditional characters and free paraphrases are not found.

Everything but `benchmark_prompts` is pure.
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
# Share of a prompt from which on a text holds it. A word or two may be edited; of the benchmarks'
# own prompts, the two most alike share 0.69. In a prompt of seven words, one other word can be
# another topic: losing a training sample costs less than training on the test.
NEAR = 0.7

_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_NOT_TEXT = re.compile(r"[\W_]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_NEEDLESS_BLANK = re.compile(rf"(?<=[{_HAN}]) | (?=[{_HAN}])")
# A length is what people change first: every number counts as the same number.
_NUMBER = re.compile(
    r"\d+(?: \d{3})*(?:k\b|[千万])?|[〇零一二两三四五六七八九十百千万]+(?=余?多?个?[字词])"
)
# Overlapping: two characters from a Chinese one on, five from any other.
_SHINGLE = re.compile(rf"(?=([{_HAN}].|[^{_HAN}].{{4}}))", re.DOTALL)
_SPREAD = 2  # a prompt with additions may take so many times its own length


@dataclass(frozen=True)
class Overlap(Generic[_Place]):
    """A text, at `place`, that holds the prompt `prompt_id`.

    "exact": all of it, but for case, punctuation and blanks. "near": the share `similarity`
    (0..1) of it, in one passage, with every number counting as the same.
    """

    place: _Place
    prompt_id: str
    similarity: float
    kind: Literal["exact", "near"]


class PromptIndex:
    """Prompts, prepared to be found in many texts."""

    def __init__(self, prompts: Mapping[str, str], threshold: float = NEAR) -> None:
        self._threshold = threshold
        self._exact = {id: normalise(prompt) for id, prompt in prompts.items()}
        self._shingles = {
            id: frozenset(shingles_of(_loose(text))) for id, text in self._exact.items()
        }
        # What many prompts share, such as "write an article of", says little. One prompt at
        # several lengths is one prompt.
        distinct = set(self._shingles.values())
        holders = Counter(shingle for shingles in distinct for shingle in shingles)
        self._weight = {
            shingle: math.log(1 + len(distinct) / number) for shingle, number in holders.items()
        }
        self._total = {id: self._sum(shingles) for id, shingles in self._shingles.items()}
        # Whatever holds a prompt holds one of its rarest shingles, as long as these weigh more
        # than what may be missing: a text with none of them needs no closer look.
        self._signs: defaultdict[str, list[str]] = defaultdict(list)
        for id, shingles in self._shingles.items():
            missing = (1 - threshold) * self._total[id]
            for shingle in sorted(shingles, key=lambda each: (holders[each], each)):
                self._signs[shingle].append(id)
                missing -= self._weight[shingle]
                if missing < 0:
                    break

    def find(self, text: str, place: _Place) -> Overlap[_Place] | None:
        """The prompt that `text` holds, the most similar of several; None where it holds none."""
        exact = normalise(text)
        shingles = shingles_of(_loose(exact))
        own = set(shingles)
        candidates = {id for shingle in own & self._signs.keys() for id in self._signs[shingle]}
        found: list[Overlap[_Place]] = []
        for id in candidates:
            if self._exact[id] in exact:
                found.append(Overlap(place, id, 1.0, "exact"))
            elif self._sum(own & self._shingles[id]) >= self._threshold * self._total[id]:
                similarity = self._closest(id, shingles) / self._total[id]
                if similarity >= self._threshold:
                    found.append(Overlap(place, id, min(1.0, similarity), "near"))
        return max(found, key=_rank, default=None)

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
                gone = hits[first][1]
                inside[gone] -= 1
                weight -= self._weight[gone] * (not inside[gone])
                first += 1
            most = max(most, weight)
        return most


def find_overlaps(
    texts: Iterable[tuple[_Place, str]], prompts: Mapping[str, str], threshold: float = NEAR
) -> Iterator[Overlap[_Place]]:
    """The texts that hold one of `prompts` (id -> prompt), in order, each with the most similar.

    `place` is whatever tells a text from another, such as a file and line.
    """
    index = PromptIndex(prompts, threshold)
    for place, text in texts:
        if found := index.find(text, place):
            yield found


def benchmark_prompts() -> dict[str, str]:
    """id -> prompt of LongBench-Write and LongWrite-Ruler.

    Raises InputError where their files are missing and cannot be had.
    """
    return {row["id"]: row["prompt"] for name in BENCHMARKS for row in read_prompts(name)}


def normalise(text: str) -> str:
    """Letters and digits of `text` in one case and width; blanks only between Latin words."""
    seen = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    plain = _NOT_TEXT.sub(" ", seen.casefold()).strip()
    return _NEEDLESS_BLANK.sub("", plain)


def _loose(normal: str) -> str:
    return _NUMBER.sub("0", normal)


def shingles_of(text: str) -> list[str]:
    """The shingles of a normalised text: from every character on, five, or two Chinese ones.

    Of a text that is too short for one, all of it.
    """
    return _SHINGLE.findall(text) or [text][: len(text)]


def _rank(overlap: Overlap[_Place]) -> tuple[bool, float, str]:
    return overlap.kind == "exact", overlap.similarity, overlap.prompt_id
