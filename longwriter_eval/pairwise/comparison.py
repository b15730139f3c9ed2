"""Two runs over the same prompts: what differs between their models, and what chance may explain.

For each metric, overall and by bucket: the mean difference with its bootstrap interval, and a
paired permutation test, which holds whatever the scores' distribution. All p-values of a
comparison are corrected together by Holm's method: where it calls any differences, the chance that
even one of them is none is under 5%.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.stats

from longwriter_core.errors import InputError
from longwriter_eval.judge.verdict import MIN_COVERAGE
from longwriter_eval.pairwise.comparability import differing, is_same_prompt, noteworthy
from longwriter_eval.runs import Run
from longwriter_eval.scoring import METRICS, Score, score_samples, value
from longwriter_eval.stats.intervals import Interval, mean_interval

LEVEL = 0.05
_PERMUTATIONS = 9999
_SEED = 20240813
# What is compared in each bucket, too; the rest, overall.
_MAIN = ("overall_score", "length_score", "quality_score", "output_words")


@dataclass(frozen=True)
class Difference:
    """B − A in one metric, over the prompts of one bucket, or of a benchmark (bucket "all").

    `pairs` prompts have a value in both runs, of `prompts` that both answered; where these are
    under 95%, everything else is NaN. `p_holm` is `p`, corrected.
    """

    benchmark: str
    bucket: str
    metric: str
    prompts: int
    pairs: int
    a: float
    b: float
    difference: Interval
    p: float
    p_holm: float = math.nan

    @property
    def winner(self) -> str | None:
        """Which run has the higher value, "A" or "B"; None where chance may explain it."""
        if not self.p_holm < LEVEL:
            return None
        return "B" if self.difference.mean > 0 else "A"


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side. `pairs` are the scores of the prompts that both answered."""

    a: Run
    b: Run
    differs: Sequence[str]  # in how the runs were made: reasons not to compare them
    notes: Sequence[str]  # what a reader should know, and is no such reason
    pairs: Sequence[tuple[Score, Score]]
    only_a: int  # prompts
    only_b: int
    differences: Sequence[Difference]

    @property
    def unjudged(self) -> tuple[int, int]:
        """In each run: pairs without a verdict, though a judge was asked."""
        statuses = [[score.status for score in side] for side in self.pairs]
        missing = [[status not in ("judged", "unjudged") for status in side] for side in statuses]
        return sum(side[0] for side in missing), sum(side[1] for side in missing)


def compare(a: Run, b: Run, *, anyway: bool = False) -> Comparison:
    """Compare two runs prompt by prompt.

    Raises InputError where they share no prompt, and, unless `anyway`, where they were made in
    ways that make their scores incomparable; it says what differs.
    """
    mine = {score.sample.id: score for score in score_samples(a.samples)}
    other = {score.sample.id: score for score in score_samples(b.samples)}
    differs = list(differing(a, b, mine, other))
    if differs and not anyway:
        raise InputError(
            f"{a.path} and {b.path} do not compare: {'; '.join(differs)}; to compare them all the "
            "same, say --anyway"
        )
    pairs = [
        (mine[id], other[id]) for id in mine if id in other and is_same_prompt(mine[id], other[id])
    ]
    if not pairs:
        raise InputError(f"{a.path} and {b.path} have no prompt in common")
    return Comparison(
        a,
        b,
        differs,
        list(noteworthy(a, b, mine, other)),
        pairs,
        len(mine) - len(pairs),
        len(other) - len(pairs),
        _corrected(list(_differences(pairs))),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for being many (Holm 1979); NaN stays and does not count."""
    known = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, least = [math.nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        corrected[place] = least
    return corrected


def paired_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p-value of the mean difference of pairs: exact up to 13, then by 9,999 draws."""
    if a == b or len(a) < 2:  # one pair looks the same from both sides
        return 1.0
    result = scipy.stats.permutation_test(
        (np.asarray(b, float), np.asarray(a, float)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=_PERMUTATIONS,
        batch=1000,  # bounds the memory
        rng=np.random.default_rng(_SEED),
    )
    return float(result.pvalue)


def _differences(pairs: Sequence[tuple[Score, Score]]) -> Iterator[Difference]:
    for benchmark in sorted({a.benchmark for a, _ in pairs}):
        mine = [pair for pair in pairs if pair[0].benchmark == benchmark]
        mine.sort(key=lambda pair: pair[0].sample.required)  # buckets in order of length
        for bucket in ("all", *dict.fromkeys(a.bucket for a, _ in mine)):
            chosen = [pair for pair in mine if bucket in ("all", pair[0].bucket)]
            for metric in METRICS if bucket == "all" else _MAIN:
                if difference := _difference(benchmark, bucket, metric, chosen):
                    yield difference


def _difference(
    benchmark: str, bucket: str, metric: str, pairs: Sequence[tuple[Score, Score]]
) -> Difference | None:
    """None where neither run was to have the metric at all, as quality without a judge."""
    values = [(value(a, metric), value(b, metric)) for a, b in pairs]
    if all(math.isnan(each) for pair in values for each in pair):
        return None
    both = [pair for pair in values if not math.isnan(sum(pair))]
    nothing = Interval(math.nan, math.nan, math.nan, len(both))
    found = Difference(
        benchmark, bucket, metric, len(pairs), len(both), math.nan, math.nan, nothing, math.nan
    )
    if len(both) < MIN_COVERAGE * len(pairs):
        return found
    a, b = ([pair[side] for pair in both] for side in (0, 1))
    return replace(
        found,
        a=float(np.mean(a)),
        b=float(np.mean(b)),
        difference=mean_interval([theirs - ours for ours, theirs in both]),
        p=paired_p(a, b),
    )


def _corrected(differences: Sequence[Difference]) -> list[Difference]:
    corrected = holm([each.p for each in differences])
    return [replace(each, p_holm=p) for each, p in zip(differences, corrected, strict=True)]


def in_words(comparison: Comparison) -> list[str]:
    """One sentence for each benchmark, and one for each bucket in which a difference was found."""
    sentences = []
    for place, found in _by_place(comparison.differences).items():
        benchmark, bucket = place
        where = benchmark if bucket == "all" else f"{benchmark} {bucket}"
        main = [each for each in found if each.metric in _MAIN]
        if bucket != "all":
            main = [each for each in main if each.winner]
        elif all(
            each.pairs == each.prompts and each.difference.low == each.difference.high == 0
            for each in found
        ):
            sentences.append(f"{where}: no difference in any metric")
            continue
        if main:
            sentences.append(f"{where}: {'; '.join(_in_words(main))}")
    return sentences


# metric -> what the winner does, and what it is called
_WORDS = {
    "overall_score": ("scores higher overall", "overall score"),
    "length_score": ("meets the required lengths better", "length score"),
    "quality_score": ("is judged better", "quality"),
    "output_words": ("writes longer", "words written"),
}


def _in_words(differences: Sequence[Difference]) -> Iterator[str]:
    for each in differences:
        if each.winner:
            yield f"{each.winner} {_WORDS[each.metric][0]}"
    unknown = [_WORDS[each.metric][1] for each in differences if math.isnan(each.p)]
    undecided = [
        name
        for each in differences
        if not each.winner and (name := _WORDS[each.metric][1]) not in unknown
    ]
    for names, end in (
        (undecided, "not distinguishable"),
        (unknown, "not compared: too few verdicts"),
    ):
        if names:
            *others, last = names
            yield f"{', '.join(others)} and {last} {end}" if others else f"{last} {end}"


def _by_place(differences: Sequence[Difference]) -> dict[tuple[str, str], list[Difference]]:
    places: dict[tuple[str, str], list[Difference]] = {}
    for each in differences:
        places.setdefault((each.benchmark, each.bucket), []).append(each)
    return places
