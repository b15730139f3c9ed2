"""The figures of a report: length against length, the ruler, scores and faults."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.pages import label
from longwriter_eval.report.drawing import (
    LIGHT,
    MAX_NAME,
    Figure,
    Point,
    draw_empty,
    draw_figure,
    length_axes,
    ring_legend,
    run_legend,
    run_mark,
    score_legend,
    spread,
)
from longwriter_eval.report.metadata import BENCHMARKS, FAULT_TITLES, RULER, ScoredRun
from longwriter_eval.report.responses import group_by_prompt, prompt_key
from longwriter_eval.scoring import Score
from longwriter_eval.stats.inference import Interval, mean_interval
from longwriter_eval.stats.score_table import TableRow, metric_interval

# Score classes: upper bound (exclusive) and name. Colours run from orange over grey to blue.
_SCORE_CLASSES = ((40, "under 40"), (60, "40–60"), (75, "60–75"), (90, "75–90"), (101, "90–100"))

_MAX_PANEL_NAME = 32  # characters of a run's name above its panel

PanelRow = tuple[str, Sequence[Interval]]  # title, and an interval per run


def draw_figures(scored: Sequence[ScoredRun]) -> list[Figure]:
    """Every figure that the runs have data for."""
    names = [run.name for run in scored]
    positions = {
        prompt_key(score): position
        for position, scores in enumerate(group_by_prompt(scored))
        for score in scores
        if score
    }
    figures = []
    benchmarks = dict.fromkeys(name for run in scored for name in run.benchmarks)
    mains = [name for name in benchmarks if name != RULER]
    for benchmark in mains:
        by_run = [
            (run.name, _points((s for s in run.scores if s.benchmark == benchmark), positions))
            for run in scored
        ]
        figures.append(
            length_scatter(
                "length" if len(mains) == 1 else f"length-{benchmark}",
                "Required and produced length"
                + ("" if len(mains) == 1 else f": {label(BENCHMARKS.get(benchmark, benchmark))}"),
                [(name, points) for name, points in by_run if points],
                "quality score" if any(run.judges for run in scored) else "length score",
            )
        )
    figures += _score_figures(names, scored)
    if any(run.has_segments for run in scored):
        figures.append(position_chart(names, scored))
    if RULER in benchmarks:
        figures.append(ruler_chart(scored, positions))
    panels = [
        (
            "% of responses" if len(benchmarks) == 1 else label(BENCHMARKS.get(name, name)),
            [
                (
                    title,
                    [
                        _percent(metric_interval(of, metric)) if of else Interval.unknown()
                        for run in scored
                        for of in [[s for s in run.scores if s.benchmark == name]]
                    ],
                )
                for metric, title in FAULT_TITLES.items()
            ],
        )
        for name in benchmarks
    ]
    figures.append(
        dot_plot(
            "diagnostics",
            "Faults in the responses",
            "Percentage of responses with each fault; for repetition, the mean percentage of the "
            "text that repeats an earlier passage. These are heuristics: open a response to check "
            "them.",
            panels,
            names,
            is_score=False,
        )
    )
    return figures


def _score_figures(names: Sequence[str], scored: Sequence[ScoredRun]) -> list[Figure]:
    """Scores by required length, and the six dimensions if a judge gave any."""
    tables: list[Mapping[tuple[str, str, str], TableRow]] = [
        {(row.benchmark, row.kind, row.name): row for row in run.table} for run in scored
    ]
    keys = dict.fromkeys(key for table in tables for key in table)
    main = next((b for b in BENCHMARKS if b != RULER and (b, "all", "all") in keys), None)
    if not main:
        return []

    def intervals(key: tuple[str, str, str], metric: str) -> list[Interval]:
        return [t[key].metrics[metric] if key in t else Interval.unknown() for t in tables]

    all_key = (main, "all", "all")
    rows = [("all prompts", all_key), *((k[2], k) for k in keys if k[:2] == (main, "bucket"))]
    panels = [
        (title, [(name, intervals(key, metric)) for name, key in rows])
        for metric, title in (
            ("length_score", "length score $S_l$"),
            ("quality_score", "quality score $S_q$"),
        )
    ]
    figures = [
        dot_plot(
            "buckets",
            "Scores by required length",
            f"{BENCHMARKS[main]}: means with 95% intervals over prompts.",
            [(title, rows) for title, rows in panels if _has_data(rows)],
            names,
        )
    ]
    dimensions = [
        (name, intervals(all_key, f"quality_{metric}")) for metric, name in DIMENSIONS.items()
    ]
    if _has_data(dimensions):
        figures.append(
            dot_plot(
                "dimensions",
                "The six dimensions of quality",
                f"{BENCHMARKS[main]}: the judge's grades of 1 to 5, rescaled to 0 to 100, with "
                "95% intervals over prompts.",
                [("score", dimensions)],
                names,
            )
        )
    return figures


def length_scatter(
    name: str, title: str, by_run: Sequence[tuple[str, Sequence[Point]]], scored_by: str
) -> Figure:
    """Required against produced words on log scales, coloured by score: a panel for each run."""
    all_points = [point for _, points in by_run for point in points]
    has_panels = len(by_run) > 1
    size = 14 if has_panels else 26  # square points

    def draw(*all_axes: Axes) -> None:
        for number, (axes, (run, points)) in enumerate(zip(all_axes, by_run, strict=True)):
            bottom = length_axes(axes, all_points, is_small=has_panels)
            if has_panels:
                axes.set_title(
                    run if len(run) <= _MAX_PANEL_NAME else f"{run[: _MAX_PANEL_NAME - 1]}…",
                    fontsize=9, loc="left",
                )  # fmt: skip
                axes.tick_params(labelsize=8.5)
                if number % 2:
                    axes.tick_params(labelleft=False)
                    axes.set_ylabel("")
                if number + 2 < len(by_run):  # another panel is below
                    axes.tick_params(labelbottom=False)
                    axes.set_xlabel("")
            for factor in (4, 1 / 3):
                left, right = axes.get_xlim()
                axes.plot(
                    (left, right), (left * factor, right * factor),
                    color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (2, 3)),
                )  # fmt: skip
            _draw_scored(axes, points, size)
            draw_empty(axes, points, bottom, LIGHT["warning"])
        score_legend(all_axes, scored_by)

    near = sum(p.required / 1.5 <= p.words <= p.required * 1.5 for p in all_points)
    empty = sum(not p.words for p in all_points)
    rows = -(-len(by_run) // 2)
    return draw_figure(
        name,
        title,
        f"One dot per response, coloured by {scored_by}; overlapping dots are moved aside. "
        "On the solid line, the response has the required length. At the dashed lines, four "
        "times or a third of it, the length score reaches 0. "
        + ("A cross is an empty response. " if empty else "")
        + "Click a dot to open its response.",
        f"Scatter plot of {len(all_points)} responses on log scales: {near} lie within a factor of "
        f"1.5 of the required length, {empty} are empty; the longest has "
        f"{max(p.words for p in all_points):,} words.",
        (*(["run"] if has_panels else []), "prompt", "required words", "produced words", scored_by),
        [
            (
                *([run] if has_panels else []),
                p.name,
                f"{p.required:,}",
                f"{p.words:,}",
                "–" if p.score is None else f"{p.score:.1f}",
            )
            for run, points in by_run
            for p in points
        ],
        draw,
        panels=len(by_run),
        columns=2,
        **({"height": 0.6 + 2.3 * rows} if has_panels else {}),
    )


def _draw_scored(axes: Axes, points: Sequence[Point], size: float) -> None:
    """Draw the responses that are not empty, coloured by score class."""
    written = [p for p in points if p.words]
    if not written:
        return
    places = spread(axes, written, math.sqrt(size))
    for number in range(len(_SCORE_CLASSES) + 1):
        in_class = [n for n, p in enumerate(written) if _score_class(p.score) == number]
        if not in_class:
            continue
        colour = LIGHT[f"score-{number}"] if number else LIGHT["muted"]
        dots = axes.scatter(
            [places[n] for n in in_class],
            [written[n].words for n in in_class],
            s=size,
            facecolors=colour if number else "none",
            edgecolors=LIGHT["page"] if number else colour,
            linewidths=0.5 if number else 1.1,
            label=_SCORE_CLASSES[number - 1][1] if number else "none",
            clip_on=False,
            zorder=3,
        )
        dots.set_urls([written[n].href for n in in_class])


def ruler_chart(scored: Sequence[ScoredRun], positions: Mapping[tuple[str, str], int]) -> Figure:
    """Required against produced words on the ruler: the mean of each length with its interval.

    A run without responses on the ruler keeps its colour and is not drawn.
    """
    names = [run.name for run in scored]
    points_by_run = [
        _points((s for s in run.scores if s.benchmark == RULER), positions) for run in scored
    ]
    runs = [(number, points) for number, points in enumerate(points_by_run) if points]
    means: dict[int, dict[int, Interval]] = {}  # run -> required words -> produced words
    rows = []
    for number, points in runs:
        means[number] = {}
        for required in sorted({p.required for p in points}):
            scores = [
                s
                for s in scored[number].scores
                if s.benchmark == RULER and s.sample.required == required
            ]
            mean = means[number][required] = metric_interval(scores, "output_words")
            words = [score.words for score in scores]
            limits = "–" if math.isnan(mean.low) else f"{mean.low:,.0f} to {mean.high:,.0f}"
            rows.append(
                (
                    names[number],
                    f"{required:,}",
                    f"{mean.mean:,.0f}",
                    limits,
                    f"{min(words):,}",
                    f"{max(words):,}",
                )
            )

    def draw(axes: Axes) -> None:
        all_points = [p for _, points in runs for p in points]
        bottom = length_axes(axes, all_points, sorted({p.required for p in all_points}))
        for place, (number, points) in enumerate(runs):
            colour, shape = run_mark(number)
            written = [p for p in points if p.words]
            # runs stand side by side, so that no interval covers another
            aside = 1.04 ** (place - (len(runs) - 1) / 2)
            dots = axes.scatter(
                [p.required * aside for p in written], [p.words for p in written],
                s=11, color=colour, alpha=0.35, linewidths=0, zorder=2, clip_on=False,
            )  # fmt: skip
            dots.set_urls([p.href for p in written])
            draw_empty(axes, points, bottom, colour)
            # the line has a gap where all responses are empty
            x = [required * aside for required in means[number]]
            y = [mean.mean or math.nan for mean in means[number].values()]
            axes.plot(x, y, color=colour, marker=shape, markersize=5.5)
            for at, mean in zip(x, means[number].values(), strict=True):
                axes.plot((at, at), (max(mean.low, bottom), mean.high), color=colour, linewidth=1.6)
            if not written:
                continue
            longest = max(written, key=lambda p: p.words)
            axes.scatter(
                [longest.required * aside], [longest.words],
                s=80, facecolors="none", edgecolors=colour, linewidths=1.5, zorder=4,
                clip_on=False,
            )  # fmt: skip
            if len(scored) == 1:
                ring_legend(axes, f"longest output: {longest.words:,} words", colour)
        run_legend(axes, [_with_longest(*pair) for pair in zip(names, points_by_run, strict=True)])

    longest = "; ".join(f"{names[n]}: {max(p.words for p in of):,} words" for n, of in runs)
    return draw_figure(
        "ruler",
        "LongWrite-Ruler",
        "Produced words as the required length grows. Small dots are responses, lines connect "
        "their means, bars are 95% intervals of the means, and a ring marks the longest output. "
        "A line that flattens shows the limit of the model.",
        f"Line chart on log scales of required against produced words. Longest output of {longest}",
        ("run", "required words", "mean", "95% interval", "shortest", "longest"),
        rows,
        draw,
    )


def position_chart(names: Sequence[str], scored: Sequence[ScoredRun]) -> Figure:
    """Quality by position: the mean S_q of each part, over the responses all of whose parts count.

    Runs with different numbers of parts share the axis, which is the share of the text.
    """
    curves: list[list[tuple[float, Interval]]] = []
    for run in scored:
        rows = run.segment_scores
        number = max(map(len, rows), default=0)
        rows = [row for row in rows if len(row) == number]
        means = [
            mean_interval([row[part] for row in rows], scale=(0.0, 100.0)) for part in range(number)
        ]
        curves.append([(100 * (part + 0.5) / number, mean) for part, mean in enumerate(means)])

    def draw(axes: Axes) -> None:
        for number, curve in enumerate(curves):
            colour, shape = run_mark(number)
            shift = 0.8 * (number - (len(curves) - 1) / 2)
            x = [position + shift for position, _ in curve]
            axes.plot(
                x, [mean.mean for _, mean in curve],
                color=colour, marker=shape, markersize=6, clip_on=False,
            )  # fmt: skip
            for position, (_, mean) in zip(x, curve, strict=True):
                axes.plot(
                    (position, position), (mean.low, mean.high),
                    color=colour, linewidth=1.6, solid_capstyle="butt", clip_on=False,
                )  # fmt: skip
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.grid(axis="y")
        axes.set_xlabel("position in the response (% of its words)")
        axes.set_ylabel("quality score of the part")
        run_legend(axes, names)

    drifts = [
        f"{name}: {drift.mean:+.1f}" + _drift_limits(drift)
        for name, run in zip(names, scored, strict=True)
        if not math.isnan((drift := mean_interval(run.drifts)).mean)
    ]
    return draw_figure(
        "position",
        "Quality along the text",
        "Mean quality of each part of the responses, judged with a summary of what came before, "
        "with 95% intervals over responses. Drift, in points from the first word to the "
        f"last: {'; '.join(drifts)}."
        if drifts
        else "No response has a verdict on every part.",
        "Line chart of the quality of each part against its position in the response. Drift: "
        + ("; ".join(drifts) or "unknown"),
        ("run", "position", "quality score", "responses"),
        [
            (name, f"{position:.0f}%", _interval_text(mean), f"{mean.n}")
            for name, curve in zip(names, curves, strict=True)
            for position, mean in curve
        ],
        draw,
    )


def _drift_limits(drift: Interval) -> str:
    return "" if math.isnan(drift.low) else f" ({drift.low:+.1f} to {drift.high:+.1f})"


def dot_plot(
    name: str,
    title: str,
    caption: str,
    panels: Sequence[tuple[str, Sequence[PanelRow]]],
    runs: Sequence[str],
    *,
    is_score: bool = True,
) -> Figure:
    """Means with intervals: a row each, and a mark per run. Scores have a scale from 0 to 100.

    `panels` are drawn side by side and have the same rows: panel title -> rows.
    """
    labels = [row_title for row_title, _ in panels[0][1]]
    limits = [100 if is_score else _limit(rows) for _, rows in panels]

    def draw(*all_axes: Axes) -> None:
        step = min(0.2, 0.7 / len(runs))
        for axes, (panel_title, rows), limit in zip(all_axes, panels, limits, strict=True):
            for number in range(len(runs)):
                colour, shape = run_mark(number)
                offset = step * (number - (len(runs) - 1) / 2)
                for row, (_, intervals) in enumerate(rows):
                    # matplotlib draws nothing for NaN
                    interval, y = intervals[number], row + offset
                    axes.plot(
                        (interval.low, interval.high), (y, y),
                        color=colour, linewidth=1.6, solid_capstyle="butt", clip_on=False,
                    )  # fmt: skip
                    axes.plot(
                        interval.mean, y, color=colour, marker=shape, markersize=6,
                        linestyle="none", clip_on=False,
                    )  # fmt: skip
            axes.set_xlim(0, limit)
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.set_yticks(range(len(labels)), labels)
            axes.tick_params(axis="y", length=0, pad=8)
            axes.spines["left"].set_visible(False)
            axes.grid(axis="x")
            axes.set_xlabel(panel_title, parse_math=True)
        for axes in all_axes[1:]:
            axes.tick_params(axis="y", labelleft=False)
        run_legend(all_axes[0], runs)

    has_panels = len(panels) > 1
    return draw_figure(
        name,
        title,
        caption,
        f"Dot plot with 95% intervals on a scale from 0 to {max(limits)}: {', '.join(labels)}, for "
        f"{', '.join(runs)}. The table below has the numbers.",
        ("", *(["score"] if has_panels else []), *runs),
        [
            (row_title, *([_plain(panel)] if has_panels else []), *map(_interval_text, intervals))
            for panel, rows in panels
            for row_title, intervals in rows
        ],
        draw,
        panels=len(panels),
        height=0.9 + (0.36 + 0.08 * len(runs)) * len(labels),
    )


def _limit(rows: Sequence[PanelRow]) -> int:
    """The end of a scale of percentages: the smallest that has room for every interval."""
    ends = [
        interval.mean if math.isnan(interval.high) else interval.high
        for _, intervals in rows
        for interval in intervals
    ]
    largest = max((end for end in ends if not math.isnan(end)), default=100)
    return next((end for end in (5, 10, 20, 50) if largest <= end), 100)


def _points(scores: Iterable[Score], positions: Mapping[tuple[str, str], int]) -> list[Point]:
    return [
        Point(
            label(score.sample.id),
            score.sample.required,
            score.words,
            score.quality_score if score.judgement else score.length_score,
            f"#p{positions[prompt_key(score)]}",
        )
        for score in scores
    ]


def _with_longest(name: str, points: Sequence[Point]) -> str:
    """A run's name for the legend, with the words of its longest response."""
    longest = f": {max(p.words for p in points):,} words" if points else ""
    return name[: MAX_NAME - len(longest)] + longest


def _plain(title: str) -> str:
    """A title without its mathematics, for a table."""
    return re.sub(r" ?\$[^$]*\$", "", title)


def _has_data(rows: Iterable[PanelRow]) -> bool:
    return any(not math.isnan(i.mean) for _, intervals in rows for i in intervals)


def _percent(share: Interval) -> Interval:
    return Interval(100 * share.mean, 100 * share.low, 100 * share.high, share.n)


def _score_class(score: float | None) -> int:
    """1 to 5; 0 for no score."""
    if score is None or math.isnan(score):
        return 0
    return next(n for n, (upper, _) in enumerate(_SCORE_CLASSES, 1) if score < upper)


def _interval_text(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return "–"
    limits = f" ({interval.low:.1f} to {interval.high:.1f})" if not math.isnan(interval.low) else ""
    return f"{interval.mean:.1f}{limits}"
