"""Finds benchmark prompts in other texts, such as training data: exact, edited, or half of one.

    prompts = benchmark_prompts()
    places = ((f"line {n}", text) for n, text in enumerate(texts, 1))
    for overlap in find_overlaps(places, prompts):
        print(overlap.place, overlap.prompt_id, overlap.kind, overlap.similarity)

A text contains a prompt if enough of the prompt's shingles occur close together in it, or a long
unbroken part of the prompt. The text around them does not matter: the measure is containment
instead of Jaccard similarity, because texts are much longer than prompts. Translations, traditional
characters and free paraphrases are not detected. `scripts/measure_overlap.py` measures what is.

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
# A text contains a prompt if one passage of it holds at least this share of the prompt. A prompt
# with a fifth of its words replaced keeps 0.51 or more of its weighted shingles; in 10,000 real
# passages and user prompts the most similar one had 0.45 (recipes/README.md).
NEAR = 0.5
# It also contains a prompt if this share of it occurs without a break: half of a prompt, of which
# the template's part weighs little. A shorter part can be a common phrase.
PART = 0.3
_MIN_HAN, _MIN_OTHER = 12, 35  # shingles: 13 Chinese characters, or about 7 English words

_HAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_NOT_TEXT = re.compile(r"[\W_]+")
# Characters that do not show, and combining accents.
_INVISIBLE = re.compile("[\u00ad\u0300-\u036f\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
# Cyrillic and Greek letters that look like Latin ones.
_LOOK_ALIKES = str.maketrans(
    "аАвВеЕёһҺнНіІїјЈкКмМоОрРсСтТуУхХѕЅԁԀԛԚԝԜӏӀαΑΒεΕΖηΗιΙκΚΜνΝοΟρΡτΤυΥχΧ",
    "aabbeeehhhhiiijjkkmmooppccttyyxxssddqqwwllaabeezhhiikkmvnooppttuyxx",
)
_BLANK_AT_HAN = re.compile(rf"(?<=[{_HAN}]) | (?=[{_HAN}])")
# People change the length first, so every number counts as the same number.
_NUMBER = re.compile(
    r"\d+(?: \d{3})*(?:k\b|[千万])?|[〇零一二两三四五六七八九十百千万]+(?=余?多?个?[字词])"
)
# Shingles overlap: two characters from a Chinese character on, five from any other character on.
_SHINGLE = re.compile(rf"(?=([{_HAN}].|[^{_HAN}].{{4}}))", re.DOTALL)
_IS_HAN = re.compile(f"[{_HAN}]")
_BLOCK = 512  # shingles
_SPREAD = 2  # a prompt with additions may be this many times as long as the prompt itself


@dataclass(frozen=True)
class Overlap(Generic[_Place]):
    """The text at `place` contains the prompt `prompt_id`, or a long part of it.

    "exact": the whole prompt, apart from case, punctuation and blanks. "near": the share
    `similarity` (0..1) of it in one passage. "part": the share `similarity` of it without a break.
    In the last two, all numbers count as the same number.
    """

    place: _Place
    prompt_id: str
    similarity: float
    kind: Literal["exact", "near", "part"]


@dataclass(frozen=True)
class _Group:
    """Prompts that differ only in their numbers."""

    ids: list[str]
    positions: dict[str, list[int]]  # of each shingle in the prompt
    total: float  # weight of all shingles
    reach: int  # a passage's length in shingles


class PromptIndex:
    """Prompts, indexed for finding them in many texts."""

    def __init__(self, prompts: Mapping[str, str], threshold: float = NEAR) -> None:
        self._threshold = threshold
        self._exact = {id: normalise(prompt) for id, prompt in prompts.items()}
        same: defaultdict[str, list[str]] = defaultdict(list)
        for id, text in self._exact.items():
            same[_loose(text)].append(id)
        sequences = {text: shingles_of(text) for text in same}
        # Shingles that many prompts share, such as those of "write an article of", weigh little.
        holders = Counter(shingle for sequence in sequences.values() for shingle in set(sequence))
        self._weight = {
            shingle: math.log(1 + len(sequences) / number) for shingle, number in holders.items()
        }
        self._groups: list[_Group] = []
        self._holders: defaultdict[str, list[int]] = defaultdict(list)  # of each shingle: groups
        for text, sequence in sequences.items():
            positions: defaultdict[str, list[int]] = defaultdict(list)
            for at, shingle in enumerate(sequence):
                positions[shingle].append(at)
            for shingle in positions:
                self._holders[shingle].append(len(self._groups))
            total = math.fsum(self._weight[shingle] for shingle in positions)
            self._groups.append(_Group(same[text], dict(positions), total, _SPREAD * len(text)))

    def find(self, text: str, place: _Place) -> Overlap[_Place] | None:
        """The prompt that `text` contains (the most similar one of several), or None."""
        exact = normalise(text)
        shingles = shingles_of(_loose(exact))
        candidates = list(self._candidates(shingles))
        if not candidates:
            return None
        places: defaultdict[str, list[int]] = defaultdict(list)
        for at, shingle in enumerate(shingles):
            if shingle in self._weight:
                places[shingle].append(at)
        overlaps: list[Overlap[_Place]] = []
        for group, start, end in candidates:
            if whole := [id for id in group.ids if self._exact[id] in exact]:
                overlaps.append(Overlap(place, max(whole), 1.0, "exact"))
                continue
            hits = sorted(
                (at, shingle)
                for shingle in group.positions
                for at in places[shingle]
                if start <= at < end
            )
            similarity = self._passage(group, hits) / group.total
            if similarity >= self._threshold:
                overlaps.append(Overlap(place, max(group.ids), min(1.0, similarity), "near"))
                continue
            similarity = self._part(group, hits) / group.total
            if similarity >= PART:
                overlaps.append(Overlap(place, max(group.ids), min(1.0, similarity), "part"))
        return max(overlaps, key=_rank, default=None)

    def _candidates(self, shingles: list[str]) -> Iterator[tuple[_Group, int, int]]:
        """The prompts that the text may contain, and from where to where it may do so.

        What some blocks of the text hold of a prompt, in any order, is an upper bound of what a
        passage or a part inside them holds.
        """
        held: defaultdict[int, dict[int, float]] = defaultdict(dict)  # by prompt and block
        for block, start in enumerate(range(0, len(shingles), _BLOCK)):
            bounds: dict[int, float] = {}
            for shingle in self._weight.keys() & set(shingles[start : start + _BLOCK]):
                weight = self._weight[shingle]
                for number in self._holders[shingle]:
                    bounds[number] = bounds.get(number, 0.0) + weight
            for number, weight in bounds.items():
                held[number][block] = weight
        least = min(PART, self._threshold)
        for number, blocks in held.items():
            group = self._groups[number]
            span = group.reach // _BLOCK + 2
            likely = [
                block
                for block in blocks
                if sum(blocks.get(block + n, 0.0) for n in range(span)) >= least * group.total
            ]
            if likely:
                yield group, min(likely) * _BLOCK, (max(likely) + span) * _BLOCK

    def _passage(self, group: _Group, hits: list[tuple[int, str]]) -> float:
        """The weight of the prompt's shingles in the passage that holds most of them."""
        inside: Counter[str] = Counter()
        weight = most = 0.0
        first = 0
        for at, shingle in hits:
            weight += self._weight[shingle] * (not inside[shingle])
            inside[shingle] += 1
            while hits[first][0] < at - group.reach:
                left = hits[first][1]
                inside[left] -= 1
                weight -= self._weight[left] * (not inside[left])
                first += 1
            most = max(most, weight)
        return most

    def _part(self, group: _Group, hits: list[tuple[int, str]]) -> float:
        """The weight of the heaviest part of the prompt that the text holds without a break."""
        most = 0.0
        # The runs that end at the last text position, by the position in the prompt: their weight,
        # and their length as a share of the shortest that counts.
        runs: dict[int, tuple[float, float]] = {}
        last = -2
        for at, shingle in hits:
            before = runs if at == last + 1 else {}
            length = 1 / (_MIN_HAN if _IS_HAN.match(shingle) else _MIN_OTHER)
            runs = {}
            for position in group.positions[shingle]:
                weight, share = before.get(position - 1, (0.0, 0.0))
                runs[position] = weight, share = weight + self._weight[shingle], share + length
                if share >= 1:
                    most = max(most, weight)
            last = at
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
    """Letters and digits of `text` in one case, width and alphabet, without accents.

    Blanks stay only between Latin words.
    """
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKD", text)).translate(_LOOK_ALIKES)
    plain = _NOT_TEXT.sub(" ", text.casefold()).strip()
    return plain if plain.isascii() else _BLANK_AT_HAN.sub("", plain)


def _loose(normal: str) -> str:
    return _NUMBER.sub("0", normal)


def shingles_of(text: str) -> list[str]:
    """The overlapping shingles of a normalised text: five characters, or two Chinese ones.

    A text shorter than one shingle counts as one shingle.
    """
    return _SHINGLE.findall(text) or [text][: len(text)]


def _rank(overlap: Overlap[_Place]) -> tuple[bool, float, str]:
    return overlap.kind == "exact", overlap.similarity, overlap.prompt_id
