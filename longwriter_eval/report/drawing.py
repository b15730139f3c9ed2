"""Which figures a report has, and what stands in them."""

import math
from collections.abc import Iterable, Mapping, Sequence

from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.pages import label
from longwriter_eval.report import figures
from longwriter_eval.report.canvas import Figure
from longwriter_eval.report.metadata import BENCHMARKS, RULER, ScoredRun
from longwriter_eval.report.prompts import FAULTS, by_prompt, key_of
from longwriter_eval.scoring import Score
from longwriter_eval.stats.inference import Interval
from longwriter_eval.stats.score_table import TableRow, metric_interval

_NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def draw(scored: Sequence[ScoredRun]) -> list[Figure]:
    """Every figure that the runs have the numbers for."""
    names = [each.name for each in scored]
    places = {key_of(score): n for n, of in enumerate(by_prompt(scored)) for score in of if score}
    drawn = []
    all_points = [
        _points([s for s in each.scores if s.benchmark != RULER], places) for each in scored
    ]
    frame = [point for points in all_points for point in points]
    for number, (name, each, points) in enumerate(zip(names, scored, all_points, strict=True), 1):
        if points:
            several = len(scored) > 1
            drawn.append(
                figures.scatter(
                    f"length-{number}" if several else "length",
                    f"Length asked for and produced{f': {name}' if several else ''}",
                    points,
                    "quality score" if each.judges else "length score",
                    frame,
                )
            )
    tables = [{(row.benchmark, row.kind, row.name): row for row in s.table} for s in scored]
    main = next(
        (b for b in BENCHMARKS if b != RULER and any((b, "all", "all") in t for t in tables)), ""
    )
    if main:
        drawn += _score_figures(names, tables, main)
    rulers = [_points([s for s in each.scores if s.benchmark == RULER], places) for each in scored]
    if any(rulers):
        drawn.append(figures.ruler([(n, of) for n, of in zip(names, rulers, strict=True)]))
    drawn.append(
        figures.intervals(
            "diagnostics",
            "What goes wrong",
            "Share of responses with each fault; for repetition, the mean share of the text that "
            "repeats an earlier passage. Heuristics: open a response to see what they saw.",
            [
                (
                    "% of responses",
                    [
                        (title, [_percent(each.scores, metric) for each in scored])
                        for metric, title in FAULTS.items()
                    ],
                )
            ],
            names,
            is_score=False,
        )
    )
    return drawn


def _score_figures(
    names: Sequence[str], tables: Sequence[Mapping[tuple[str, str, str], TableRow]], main: str
) -> list[Figure]:
    """The scores by required length, and the six dimensions where a judge gave them."""
    keys = list(dict.fromkeys(key for t in tables for key in t if key[0] == main))
    rows = [("all prompts", k) for k in keys if k[1] == "all"]
    rows += [(k[2], k) for k in keys if k[1] == "bucket"]

    def estimates(key: tuple[str, str, str], metric: str) -> list[Interval]:
        return [t[key].metrics[metric] if key in t else _NOTHING for t in tables]

    panels = [
        (title, [(name, estimates(key, metric)) for name, key in rows])
        for metric, title in (
            ("length_score", "length score S_l"),
            ("quality_score", "quality score S_q"),
        )
    ]
    panels = [p for p in panels if any(not math.isnan(e.mean) for _, of in p[1] for e in of)]
    drawn = [
        figures.intervals(
            "buckets",
            "Scores by required length",
            f"{BENCHMARKS[main]}, means with 95% intervals over prompts.",
            panels,
            names,
        )
    ]
    dimensions = [
        (name, estimates((main, "all", "all"), f"quality_{metric}"))
        for metric, name in DIMENSIONS.items()
    ]
    if any(not math.isnan(e.mean) for _, of in dimensions for e in of):
        drawn.append(
            figures.intervals(
                "dimensions",
                "The six dimensions of quality",
                f"{BENCHMARKS[main]}, as the judge sees them: 1 to 5 put on 0 to 100, with 95% "
                "intervals over prompts.",
                [("score", dimensions)],
                names,
            )
        )
    return drawn


def _points(scores: Iterable[Score], places: Mapping[tuple[str, str], int]) -> list[figures.Point]:
    return [
        figures.Point(
            label(score.sample.id),
            score.sample.required,
            score.words,
            score.quality_score if score.judgement else score.length_score,
            f"#p{places[key_of(score)]}",
        )
        for score in scores
    ]


def _percent(scores: Iterable[Score], metric: str) -> Interval:
    found = metric_interval(scores, metric)
    return Interval(100 * found.mean, 100 * found.low, 100 * found.high, found.n)
