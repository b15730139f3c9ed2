"""The paper's result table: mean scores with intervals, by bucket, language and type."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from longwriter_core.text.diagnostics import FAULTS
from longwriter_eval.scoring import METRICS, Score, is_ruler, value
from longwriter_eval.stats.estimates import known
from longwriter_eval.stats.inference import Interval, mean_interval, share_interval
from longwriter_eval.stats.thresholds import MIN_COVERAGE

# Ways to group the prompts of a benchmark: kind of row -> the group that a score belongs to.
_GROUPINGS: dict[str, Callable[[Score], str]] = {
    "all": lambda _: "all",
    "bucket": lambda score: score.bucket,
    "language": lambda score: score.sample.language,
    "type": lambda score: score.sample.type,
}

# Scales of the metrics that are not shares.
_SCALES: dict[str, tuple[float, float]] = {
    **{metric: (0.0, 100.0) for metric in METRICS if "score" in metric or "quality" in metric},
    "output_words": (0.0, math.inf),
    "slop": (0.0, math.inf),
}


@dataclass(frozen=True)
class TableRow:
    """One row of the table: metric -> interval, over `n` prompts of one benchmark.

    `kind` is "all", "bucket", "language" or "type", and `name` the group ("all" for all prompts).
    `coverage` is the share (0-1) of responses with a verdict; NaN if no judge was asked. The
    ruler's rows also have max_output_words, the longest output, which has no interval.
    """

    benchmark: str
    kind: str
    name: str
    n: int
    coverage: float
    metrics: Mapping[str, Interval]


def score_table(scores: Sequence[Score]) -> list[TableRow]:
    """One row for all prompts of each benchmark, then one per bucket, language and type.

    A metric known for less than MIN_COVERAGE of a row's prompts is NaN, as in lm-eval's table.
    """
    rows = []
    for benchmark in sorted({score.benchmark for score in scores}):
        selected = [score for score in scores if score.benchmark == benchmark]
        selected.sort(key=lambda score: score.sample.required)  # orders the buckets by length
        # a response is in four groups, so its values are computed once
        values = {id(s): {metric: value(s, metric) for metric in METRICS} for s in selected}
        for kind, group_of in _GROUPINGS.items():
            groups: dict[str, list[Score]] = {}
            for score in selected:
                groups.setdefault(group_of(score), []).append(score)
            for name in groups if kind == "bucket" else sorted(groups):
                rows.append(_table_row(benchmark, kind, name, groups[name], values))
    return rows


def metric_interval(scores: Sequence[Score], metric: str) -> Interval:
    """Mean of `metric` over `scores` with its interval, within the metric's scale.

    Version 1.0 of the tasks did not count on values that no response has, see `mean_interval`.
    """
    return _interval(scores, metric, [value(score, metric) for score in scores])


def _interval(scores: Sequence[Score], metric: str, values: Sequence[float]) -> Interval:
    return interval_of(values, metric, may_miss=all(s.sample.version >= 1.1 for s in scores))


def interval_of(values: Sequence[float], metric: str, *, may_miss: bool = True) -> Interval:
    """Mean of a metric's `values`, one per response, with its interval.

    Faults are yes-or-no, so they get the exact binomial interval: no refusal in 120 responses is
    compatible with a rate of 3%. The ruler's intervals count instructions, not responses.
    """
    if metric in FAULTS:
        return share_interval(values)
    return mean_interval(values, scale=_SCALES.get(metric, (0.0, 1.0)), may_miss=may_miss)


def _table_row(
    benchmark: str,
    kind: str,
    name: str,
    scores: Sequence[Score],
    values: Mapping[int, Mapping[str, float]],
) -> TableRow:
    statuses = [score.status for score in scores]
    is_judged = set(statuses) != {"unjudged"}
    coverage = statuses.count("judged") / len(scores) if is_judged else math.nan
    metrics = {
        metric: _covered_interval(metric, scores, [values[id(score)][metric] for score in scores])
        for metric in METRICS
    }
    if is_ruler(scores[0].sample):
        longest = max(score.words for score in scores)
        metrics["max_output_words"] = Interval(longest, math.nan, math.nan, len(scores))
    return TableRow(benchmark, kind, name, len(scores), coverage, metrics)


def _covered_interval(metric: str, scores: Sequence[Score], values: Sequence[float]) -> Interval:
    n = len(known(values))
    if n < MIN_COVERAGE * len(scores):
        return Interval.unknown(n)
    return _interval(scores, metric, values)
