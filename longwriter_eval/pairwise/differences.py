"""The differences between two runs over the same prompts: estimates, tests, and corrections. Pure.

For each metric, overall and per bucket: the mean difference, a paired permutation test, and the
interval that the same test does not reject. A missing verdict counts as the worst case.

Of the error rate of 5%, a benchmark's main score (S̄, or S_l where nothing was judged) has the
shares of `stats.claims`, which the leaderboard uses too. The rest, and what the main score passes
on, is spent in an order of importance: S_l, S_q and the words over all prompts, then the buckets,
then the other metrics. So the probability that any reported difference is a false positive is below
5% for each benchmark. A metric in which no prompt differs takes no part.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from longwriter_eval.scoring import METRICS, Score, value
from longwriter_eval.stats import claims
from longwriter_eval.stats.estimates import DocumentValue, contributions, is_covered, known
from longwriter_eval.stats.inference import Interval, gatekeeping, paired_test
from longwriter_eval.stats.thresholds import COMPARISON_ALPHA

# Compared in each bucket too; the other metrics are compared over all prompts only. More tests
# would mean a stricter correction for all of them.
BUCKET_METRICS = ("overall_score", "length_score", "quality_score", "output_words")


@dataclass(frozen=True)
class MetricDifference:
    """B - A in one metric, over the prompts of one bucket, or of a benchmark (bucket "all").

    `pairs` of the `prompts` that both runs answered have a value in both runs. If either run has
    one for less than MIN_COVERAGE, every number after them is NaN. `p_corrected` is the corrected
    `p`.
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
    p_corrected: float = math.nan

    @property
    def winner(self) -> str | None:
        """The run with the significantly higher value, "A" or "B"; None if there is none."""
        if not self.p_corrected < COMPARISON_ALPHA:
            return None
        return "B" if self.difference.mean > 0 else "A"

    @property
    def is_constant(self) -> bool:
        """Whether no prompt differs."""
        return self.difference.low == self.difference.high == 0


def metric_differences(pairs: Sequence[tuple[Score, Score]]) -> Iterator[MetricDifference]:
    """Every difference of a comparison, before correction."""
    for benchmark in sorted({a.benchmark for a, _ in pairs}):
        selected = [pair for pair in pairs if pair[0].benchmark == benchmark]
        # orders the buckets by length; the leaderboard tests prompts in this order too
        selected.sort(key=lambda pair: (pair[0].sample.required, pair[0].sample.id))
        for bucket in ("all", *dict.fromkeys(a.bucket for a, _ in selected)):
            in_bucket = [pair for pair in selected if bucket in ("all", pair[0].bucket)]
            for metric in METRICS if bucket == "all" else BUCKET_METRICS:
                if difference := _difference(benchmark, bucket, metric, in_bucket):
                    yield difference


def _difference(
    benchmark: str, bucket: str, metric: str, pairs: Sequence[tuple[Score, Score]]
) -> MetricDifference | None:
    """None if neither run has the metric at all, as for quality without a judge."""
    a_values = [value(a, metric) for a, _ in pairs]
    b_values = [value(b, metric) for _, b in pairs]
    if all(math.isnan(number) for number in (*a_values, *b_values)):
        return None
    # a pair counts where both have a value: in S̄, its S_l counts even where a verdict is missing
    differences = [
        DocumentValue(b - a, a.cluster, _parts_difference(a, b))
        for a, b in zip(a_values, b_values, strict=True)
    ]
    n = len(known(differences))
    difference = MetricDifference(
        benchmark, bucket, metric, len(pairs), n, math.nan, math.nan, Interval.unknown(n), math.nan
    )
    is_judged = metric == "overall_score" or metric.startswith("quality_")
    covered = (a_values, b_values) if is_judged else (differences,)
    if not n or not all(map(is_covered, covered)):
        return difference
    is_score = is_judged or metric == "length_score"
    test = _score_test(metric, pairs, differences) if is_score else paired_test(differences)
    p, interval = test
    return replace(
        difference,
        a=_mean_where(differences, a_values),
        b=_mean_where(differences, b_values),
        difference=interval,
        p=p,
    )


def _score_test(
    metric: str, pairs: Sequence[tuple[Score, Score]], differences: Sequence[DocumentValue]
) -> tuple[float, Interval]:
    """The test and interval of a score (0-100), with missing verdicts at their worst case."""
    clusters = [difference.cluster for difference in differences]
    low, high = _bounds(metric, pairs)
    p_values = claims.pair_p_values(claims.units(low, clusters), claims.units(high, clusters))
    p = float(claims.of_pair(p_values)[0, 1])
    mean, n = float(np.mean(contributions(differences))), len(known(differences))
    if math.isnan(p):
        return 1.0, Interval(0.0, 0.0, 0.0, n)
    lowest, highest = (
        paired_test([DocumentValue(x, c) for x, c in zip(extreme, clusters, strict=True)])[1]
        for extreme in (low[:, 1] - high[:, 0], high[:, 1] - low[:, 0])
    )
    return p, Interval(mean, min(lowest.low, mean), max(highest.high, mean), n)


def _bounds(metric: str, pairs: Sequence[tuple[Score, Score]]) -> claims.Bounds:
    """The lowest and highest values of a score: a row per prompt, and a column per run."""

    def column(name: str) -> np.ndarray:
        return np.array([[float(value(score, name)) for score in pair] for pair in pairs])

    if metric == "overall_score":
        return claims.overall_bounds(column("length_score"), column("quality_score"))
    return claims.score_bounds(column(metric))


def _parts_difference(a: DocumentValue, b: DocumentValue) -> tuple[float, float] | None:
    if not a.parts or not b.parts:
        return None
    return b.parts[0] - a.parts[0], b.parts[1] - a.parts[1]


def _mean_where(differences: Sequence[float], values: Sequence[DocumentValue]) -> float:
    """The mean of `values` over the pairs that have a difference."""
    paired = [
        DocumentValue(math.nan, v.cluster, v.parts and (v.parts[0], math.nan))
        if math.isnan(difference)
        else v
        for difference, v in zip(differences, values, strict=True)
    ]
    return float(np.mean(contributions(paired)))


def corrected(differences: Sequence[MetricDifference]) -> list[MetricDifference]:
    """`differences` with corrected p-values, each benchmark on its own.

    A metric in which no prompt differs is left out of the correction; whether it is depends on no
    sign of a difference, so the test of the others stays valid.
    """
    by_row: dict[int, float] = {}
    for benchmark in dict.fromkeys(d.benchmark for d in differences):
        own = {n: d for n, d in enumerate(differences) if d.benchmark == benchmark}
        tested = {n: d for n, d in own.items() if not d.is_constant and not math.isnan(d.p)}
        by_row |= {n: d.p for n, d in own.items()} | _corrected(tested, _main_score(own.values()))
    return [replace(d, p_corrected=by_row[n]) for n, d in enumerate(differences)]


def _main_score(differences: Iterable[MetricDifference]) -> str:
    """The score that ranks runs of a benchmark: S̄ if it can be compared, or S_l."""
    is_judged = any(
        (d.metric, d.bucket) == ("overall_score", "all") and not math.isnan(d.p)
        for d in differences
    )
    return "overall_score" if is_judged else "length_score"


def _corrected(tested: Mapping[int, MetricDifference], main: str) -> dict[int, float]:
    """Row -> corrected p-value.

    The share of the main score over all prompts passes to the other metrics once that difference
    is significant, and the buckets' share once all of theirs are.
    """
    over_all = [n for n, d in tested.items() if (d.metric, d.bucket) == (main, "all")]
    in_buckets = [n for n, d in tested.items() if d.metric == main and d.bucket != "all"]
    found: dict[int, float] = {}
    released = []  # (corrected p-value from which a share passes to the others, the share)
    for kind, rows in (("all", over_all), ("bucket", in_buckets)):
        if rows:
            p = claims.corrected(kind, [np.array(tested[n].p) for n in rows])
            found |= dict(zip(rows, map(float, p), strict=True))
            released.append((float(p.max()), claims.share(kind)))
    others = [n for n in tested if n not in found]
    steps = [(0.0, 1 - sum(share for _, share in released)), *sorted(released)]
    ordered = gatekeeping([tested[n].p for n in others], [_family(tested[n]) for n in others])
    for n, p_in_order in zip(others, ordered, strict=True):
        available, candidates = 0.0, [1.0]
        for gate, share in steps:
            available += share
            candidates.append(max(gate, p_in_order / available))
        found[n] = min(candidates)
    return found


def _family(difference: MetricDifference) -> int:
    """How important a difference is: 0 scores and words, 1 those of the buckets, 2 the others."""
    if difference.metric not in BUCKET_METRICS:
        return 2
    return 0 if difference.bucket == "all" else 1
