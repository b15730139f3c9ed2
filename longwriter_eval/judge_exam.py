"""The exam of a judge: does it score good texts above the same texts with known damage?

The shipped texts are good by construction, and each damage is applied here, so the correct ranking
is known. Every text is judged undamaged, with each damage in three severities, and once padded
(longer but no better), through the same code path as any response. Pure, apart from loading texts.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from longwriter_core.text.language import Language
from longwriter_core.text.length import count_words
from longwriter_eval.judge.verdict import Item, Judgement
from longwriter_eval.stats.inference import Interval, mean_interval
from longwriter_eval.stats.thresholds import BOOTSTRAP_RESAMPLES, CONFIDENCE, SEED

SEVERITIES = (1, 2, 3)
_SHARES = {1: 1 / 6, 2: 1 / 3, 3: 1 / 2}  # of a text's words that a damage spoils
_PADDED_SHARE = 1 / 2  # of a text's words that the padding adds
UNDAMAGED, PADDED = "undamaged", "padded"


@dataclass(frozen=True)
class ExamText:
    """A good text, with facts that can be swapped and statements that can be contradicted."""

    name: str  # such as "en_essay"
    kind: str
    language: Language
    instruction: str
    paragraphs: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]  # a true statement of the text, and a false replacement
    contradictions: tuple[tuple[str, str], ...]  # a statement, and a sentence that contradicts it

    @property
    def text(self) -> str:
        """The whole text."""
        return _joined(self.paragraphs)


@dataclass(frozen=True)
class ExamItem:
    """A text to judge, and its damage. `severity` is 0 for the undamaged text."""

    text: ExamText
    damage: str
    severity: int
    response: str

    @property
    def id(self) -> str:
        """The id that links a verdict to this item."""
        return f"{self.text.name}/{self.damage}/{self.severity}"

    @property
    def words(self) -> int:
        """The length of the response, counted as the benchmarks do."""
        return count_words(self.response)

    def item(self) -> Item:
        """The judge's input, which names neither the damage nor the text."""
        return Item(self.id, self.text.instruction, self.response)


@cache
def exam_texts() -> tuple[ExamText, ...]:
    """The shipped texts, in the order of their names."""
    import yaml

    folder = files("longwriter_eval.judge") / "exam_texts"
    names = sorted(file.name[:-4] for file in folder.iterdir() if file.name.endswith(".txt"))
    texts = []
    for name in names:
        notes: Any = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
        lines = (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        pairs = {key: tuple((a, b) for a, b in notes[key]) for key in ("facts", "contradictions")}
        texts.append(
            ExamText(
                name=name,
                kind=notes["kind"],
                language=notes["language"],
                instruction=notes["instruction"],
                paragraphs=tuple(line for line in lines if line.strip()),
                **pairs,
            )
        )
    return tuple(texts)


def exam_items(language: str | None = None) -> list[ExamItem]:
    """All items of the exam, in both languages or only in `language`."""
    items = []
    for text in exam_texts():
        if language in (None, text.language):
            items.append(ExamItem(text, UNDAMAGED, 0, text.text))
            items.append(ExamItem(text, PADDED, 1, _pad(text)))
            items += [
                ExamItem(text, name, severity, damage(text, severity))
                for name, damage in DAMAGES.items()
                for severity in SEVERITIES
            ]
    return items


# Each damage function takes a text and a severity, and returns the damaged text. All but the cut
# roughly keep the length, so that a judge that measures only length cannot detect them.


def _shuffle(text: ExamText, severity: int) -> str:
    """Some paragraphs change places: a third of them, two thirds, or all after the title."""
    paragraphs = list(text.paragraphs)
    number = round((len(paragraphs) - 1) * severity / 3)
    chosen = sorted(_dice(text, "shuffle").sample(range(1, len(paragraphs)), number))
    # Rotating by half their number moves every paragraph, and none to a neighbouring place.
    moved = chosen[number // 2 :] + chosen[: number // 2]
    for place, source in zip(chosen, moved, strict=True):
        paragraphs[place] = text.paragraphs[source]
    return _joined(paragraphs)


def _cut(text: ExamText, severity: int) -> str:
    """A sixth, a third or half of the text is missing at its end, and it stops mid-sentence."""
    whole = text.text
    end = round(len(whole) * (1 - _SHARES[severity]))
    while not (whole[end - 1].isalpha() and whole[end].isalpha()) and end > 1:
        end -= 1
    if text.language == "en":
        end = whole.rfind(" ", 0, end)  # end at a word boundary
    return re.sub(r"\W+\Z", "", whole[:end])


def _loop(text: ExamText, severity: int) -> str:
    """The last sixth, third or half is replaced by one repeated passage of the same length."""
    kept, spoilt = _split(text.paragraphs, _SHARES[severity])
    passage = kept[-1]
    times = max(2, round(len("".join(spoilt)) / len(passage)))
    return _joined([*kept, *[passage] * times])


def _change_topic(text: ExamText, severity: int) -> str:
    """The last sixth, third or half is replaced by the end of another text in that language."""
    others = [other for other in exam_texts() if other.language == text.language]
    other = others[(others.index(text) + 1) % len(others)]
    return _replace_end(text, other, severity)


def _change_language(text: ExamText, severity: int) -> str:
    """The last sixth, third or half is replaced by its translation into the other language."""
    other = next(t for t in exam_texts() if t.kind == text.kind and t.language != text.language)
    return _replace_end(text, other, severity)


def _contradict(text: ExamText, severity: int) -> str:
    """One, two or three later sentences contradict the text."""
    paragraphs = list(text.paragraphs)
    for number, (said, sentence) in enumerate(text.contradictions[:severity]):
        first = next(i for i, paragraph in enumerate(paragraphs) if said in paragraph)
        place = min(len(paragraphs) - 1, first + 1 + number)
        if place == first:
            paragraphs.append(sentence)
        else:
            space = " " if text.language == "en" else ""
            paragraphs[place] += space + sentence
    return _joined(paragraphs)


def _swap_facts(text: ExamText, severity: int) -> str:
    """Two, four or six facts are replaced by false ones."""
    response = text.text
    for said, false in text.facts[: 2 * severity]:
        response = response.replace(said, false, 1)
    return response


DAMAGES: Mapping[str, Callable[[ExamText, int], str]] = {
    "shuffled": _shuffle,
    "cut": _cut,
    "loop": _loop,
    "topic": _change_topic,
    "contradictions": _contradict,
    "language": _change_language,
    "facts": _swap_facts,
}


def _pad(text: ExamText) -> str:
    """The text with every other paragraph repeated: longer, but no better."""
    wanted = count_words(text.text) * (1 + _PADDED_SHARE)
    paragraphs = list(text.paragraphs)
    for place in range(len(paragraphs) - 2, 0, -2):
        if count_words(_joined(paragraphs)) >= wanted:
            break
        paragraphs.insert(place + 1, text.paragraphs[place])
    return _joined(paragraphs)


def _replace_end(text: ExamText, other: ExamText, severity: int) -> str:
    kept, _ = _split(text.paragraphs, _SHARES[severity])
    _, end = _split(other.paragraphs, _SHARES[severity])
    return _joined([*kept, *end])


def _split(paragraphs: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """The paragraphs before and in the last `share` of the characters; neither is empty."""
    lengths = np.cumsum([len(paragraph) for paragraph in paragraphs])
    number = int(np.searchsorted(lengths, lengths[-1] * (1 - share)))
    number = min(max(2, number), len(paragraphs) - 1)  # the beginning needs more than the title
    return list(paragraphs[:number]), list(paragraphs[number:])


def _joined(paragraphs: Iterable[str]) -> str:
    return "\n\n".join(paragraphs)


def _dice(text: ExamText, what: str) -> random.Random:
    return random.Random(f"{text.name} {what}")  # the same exam for every judge


@dataclass(frozen=True)
class DamageResult:
    """How a judge did on one damage."""

    damage: str
    texts: int  # damaged texts that have a verdict, as does their undamaged original
    detected: float  # share of them that scored below their own original
    detected_by_severity: tuple[float, ...]
    auc: Interval  # 0.5: no separation of damaged and undamaged texts; 1: perfect separation
    monotony: float  # share of pairs of severities that are in order; 0.5 by chance


@dataclass(frozen=True)
class ExamResult:
    """How a judge did. Scores are S_q, from 0 to 100."""

    damages: tuple[DamageResult, ...]
    undamaged: float  # mean S_q of the good texts
    auc: float  # mean over the damages
    auc_by_language: Mapping[str, float]  # the same, of the texts in each language
    retest_sd: float  # of one verdict, from repeated verdicts on the same text; NaN for one repeat
    padding_gain: Interval  # score change from padding a good text; above 0 is a length bias
    length_correlation: float  # Spearman's, of S_q and length; 1: length alone explains the scores
    judged: int
    asked: int


def grade(items: Sequence[ExamItem], judgements: Mapping[str, Judgement]) -> ExamResult:
    """Grade a judge's exam; `judgements` by item id. Items without a verdict are left out.

    AUC compares damaged with undamaged texts of one language; its interval resamples the texts.
    """
    scores = {
        entry.id: judgements[entry.id].quality["score"]
        for entry in items
        if entry.id in judgements and judgements[entry.id].quality
    }
    texts = list(dict.fromkeys(entry.text for entry in items))
    damages = [_grade_damage(name, texts, scores) for name in DAMAGES]
    good = [scores[id] for id in (_id(text, UNDAMAGED, 0) for text in texts) if id in scores]
    gains = [
        scores[_id(text, PADDED, 1)] - scores[_id(text, UNDAMAGED, 0)]
        for text in texts
        if {_id(text, PADDED, 1), _id(text, UNDAMAGED, 0)} <= scores.keys()
    ]
    known = [damage.auc.mean for damage in damages if damage.texts]
    return ExamResult(
        damages=tuple(damages),
        undamaged=_mean(good),
        auc=_mean(known),
        auc_by_language={
            language: _mean_auc([text for text in texts if text.language == language], scores)
            for language in dict.fromkeys(text.language for text in texts)
        },
        retest_sd=_retest_sd(judgements[entry.id] for entry in items if entry.id in scores),
        padding_gain=mean_interval(gains),
        length_correlation=_length_correlation(
            [entry for entry in items if entry.id in scores], scores
        ),
        judged=len(scores),
        asked=len(items),
    )


def _mean_auc(texts: Sequence[ExamText], scores: Mapping[str, float]) -> float:
    """The mean AUC over the damages of `texts`, which are in one language; NaN if unknown."""
    aucs = []
    for name in DAMAGES:
        levels = [
            [scores[id] for text in texts if (id := _id(text, damage, severity)) in scores]
            for damage, severity in ((UNDAMAGED, 0), *((name, each) for each in SEVERITIES))
        ]
        good, *damaged = levels
        aucs += [auc(good, level) for level in damaged if good and level]
    return _mean(aucs)


def auc(good: ArrayLike, damaged: ArrayLike) -> float:
    """The probability that a good text scores above a damaged one; a tie counts a half."""
    difference = np.subtract.outer(np.asarray(good), np.asarray(damaged))
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def _grade_damage(
    name: str, texts: Sequence[ExamText], scores: Mapping[str, float]
) -> DamageResult:
    """The result for one damage, over the texts with a score for every version."""
    levels = []
    languages = []
    for text in texts:
        ids = [_id(text, UNDAMAGED, 0), *(_id(text, name, severity) for severity in SEVERITIES)]
        if all(id in scores for id in ids):
            levels.append([scores[id] for id in ids])
            languages.append(text.language)
    if not levels:
        nan = float("nan")
        return DamageResult(name, 0, nan, (nan,) * len(SEVERITIES), Interval.unknown(), nan)
    table = np.array(levels)  # text x (undamaged, severity 1, 2, 3)
    is_lower = table[:, 1:] < table[:, :1]
    in_order = [
        (table[:, i] > table[:, j]) + 0.5 * (table[:, i] == table[:, j])
        for i in range(table.shape[1])
        for j in range(i + 1, table.shape[1])
    ]
    of_language = {
        language: np.array([i for i, other in enumerate(languages) if other == language])
        for language in dict.fromkeys(languages)
    }

    def mean_auc(draw: np.ndarray) -> float:
        aucs = []
        for indices in of_language.values():
            chosen = draw[np.isin(draw, indices)]
            if len(chosen):
                aucs.append(auc(table[chosen, 0], table[chosen, 1:].ravel()))
        return _mean(aucs)

    return DamageResult(
        damage=name,
        texts=is_lower.size,
        detected=float(is_lower.mean()),
        detected_by_severity=tuple(float(share) for share in is_lower.mean(axis=0)),
        auc=_resampled(len(table), mean_auc),
        monotony=float(np.mean(in_order)),
    )


def _resampled(number: int, statistic: Callable[[np.ndarray], float]) -> Interval:
    """`statistic` of 0..number-1, with the percentile bootstrap's interval over these."""
    generator = np.random.default_rng(SEED)
    draws = generator.integers(number, size=(BOOTSTRAP_RESAMPLES // 2, number))
    values = [statistic(draw) for draw in draws]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Interval(statistic(np.arange(number)), float(low), float(high), number)


def _retest_sd(judgements: Iterable[Judgement]) -> float:
    """The standard deviation of one verdict's S_q on the same text, pooled over the texts."""
    spreads = [j.spread for j in judgements if j.spread is not None]
    return float(np.sqrt(np.mean(np.square(spreads)))) if spreads else float("nan")


def _length_correlation(items: Sequence[ExamItem], scores: Mapping[str, float]) -> float:
    """Spearman's correlation of score and length, mean of the languages.

    Texts with two languages are left out, because their length mixes characters and words.
    """
    correlations = []
    for language in ("en", "zh"):
        chosen = [
            item for item in items if item.text.language == language and item.damage != "language"
        ]
        words, quality = [item.words for item in chosen], [scores[item.id] for item in chosen]
        if len(set(words)) > 1 and len(set(quality)) > 1:
            correlations.append(float(np.corrcoef(_ranks(words), _ranks(quality))[0, 1]))
    return _mean(correlations)


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 0; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: np.ndarray = (np.cumsum(counts) - (counts + 1) / 2)[place]
    return means


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _id(text: ExamText, damage: str, severity: int) -> str:
    return f"{text.name}/{damage}/{severity}"
