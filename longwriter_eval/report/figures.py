"""The figures of a report: length against length, the ruler, and means with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from longwriter_eval.report.canvas import LIGHT, Figure, draw_figure
from longwriter_eval.stats.inference import Interval

MAX_NAME = 60  # characters of a run's name that the legend has room for; or of two together

# Colour and shape of a run's marks, so that no reader needs the colour.
_SHAPES = "osD^vP"
# S_q below each of these, and the rest; five classes from orange over grey to blue.
SCORE_CLASSES = ((40, "under 40"), (60, "40–60"), (75, "60–75"), (90, "75–90"), (101, "90–100"))


@dataclass(frozen=True)
class Point:
    """A response in a figure. `score` colours it; `href` is where a click on it leads."""

    name: str
    required: int
    words: int
    score: float | None
    href: str


def scatter(
    name: str, title: str, points: Sequence[Point], scored_by: str, frame: Sequence[Point]
) -> Figure:
    """Required against produced words, both on a log scale, coloured by score.

    The axes have room for all of `frame`: figures of several runs share theirs.
    """

    def draw(axes: Axes) -> None:
        _length_axes(axes, frame)
        floor = axes.get_ylim()[0]
        for factor, text in ((4, "4 × too long"), (1 / 3, "a third")):
            left, right = axes.get_xlim()
            axes.plot(
                (left, right), (left * factor, right * factor),
                color=LIGHT["muted"], linewidth=0.8, linestyle=(0, (2, 3)),
            )  # fmt: skip
            _along(axes, factor, f"{text}: S_l = 0")
        for number in range(len(SCORE_CLASSES) + 1):
            chosen = [p for p in points if _score_class(p.score) == number]
            if not chosen:
                continue
            colour = LIGHT[f"score-{number}"] if number else LIGHT["muted"]
            drawn = axes.scatter(
                [p.required for p in chosen],
                [max(p.words, floor) for p in chosen],
                s=30,
                facecolors=colour if number else "none",
                edgecolors=LIGHT["page"] if number else colour,
                linewidths=0.5 if number else 1.1,
                label=SCORE_CLASSES[number - 1][1] if number else "none",
                clip_on=False,
                zorder=3,
            )
            drawn.set_urls([p.href for p in chosen])
        _legend(axes, scored_by)

    def shown(score: float | None) -> str:
        return "–" if score is None else f"{score:.1f}"

    near = sum(p.required / 1.5 <= p.words <= p.required * 1.5 for p in points)
    return draw_figure(
        name,
        title,
        f"One dot per response, coloured by {scored_by}. On the line the text is as long as asked; "
        "from the dashed lines on, its length scores 0. A dot opens its response.",
        f"Scatter plot of {len(points)} responses on log scales: {near} lie within a factor of "
        f"1.5 of the required length; the longest has {max(p.words for p in points):,} words.",
        ("prompt", "required words", "produced words", scored_by),
        [(p.name, f"{p.required:,}", f"{p.words:,}", shown(p.score)) for p in points],
        draw,
    )


def ruler(runs: Sequence[tuple[str, Sequence[Point]]]) -> Figure:
    """Required against produced words of the ruler: a line through each run's means."""
    rows = []
    for name, points in runs:
        for required in sorted({p.required for p in points}):
            words = [p.words for p in points if p.required == required]
            mean = f"{sum(words) / len(words):,.0f}"
            rows.append((name, f"{required:,}", mean, f"{min(words):,}", f"{max(words):,}"))

    def draw(axes: Axes) -> None:
        everything = [p for _, points in runs for p in points]
        _length_axes(axes, everything)
        floor = axes.get_ylim()[0]
        for number, (name, points) in enumerate(runs):
            colour, shape = _mark(number)
            lengths = sorted({p.required for p in points})
            grouped = [[p.words for p in points if p.required == length] for length in lengths]
            means = [max(sum(words) / len(words), floor) for words in grouped]
            dots = axes.scatter(
                [p.required for p in points], [max(p.words, floor) for p in points],
                s=11, color=colour, alpha=0.45, linewidths=0, zorder=2, clip_on=False,
            )  # fmt: skip
            dots.set_urls([p.href for p in points])
            axes.plot(lengths, means, color=colour, marker=shape, markersize=5.5, label=name)
            longest = max(points, key=lambda p: p.words)
            axes.scatter(
                [longest.required], [max(longest.words, floor)],
                s=80, facecolors="none", edgecolors=colour, linewidths=1.5, zorder=4,
                clip_on=False,
            )  # fmt: skip
            axes.annotate(
                f"{longest.words:,}", (longest.required, max(longest.words, floor)),
                xytext=(-8, 7 + 0 * number), textcoords="offset points", ha="right",
                color=colour, fontsize=9.5, fontweight="bold",
            )  # fmt: skip
        if len(runs) > 1:
            _legend(axes, None)

    longest = "; ".join(f"{name}: {max(p.words for p in points):,} words" for name, points in runs)
    return draw_figure(
        "ruler",
        "LongWrite-Ruler",
        "How much is written when more and more is asked for. Small dots are responses, the line "
        "goes through their means, the ring marks the longest output. A flat end is the limit.",
        f"Line chart on log scales of required against produced words. Longest output of {longest}",
        ("run", "required words", "mean", "shortest", "longest"),
        rows,
        draw,
    )


def intervals(
    name: str,
    title: str,
    caption: str,
    panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[Interval]]]]],
    runs: Sequence[str],
    *,
    is_score: bool = True,
) -> Figure:
    """Values with intervals, a row each and a mark per run; scores on a scale from 0 to 100.

    `panels` stand beside each other and share their rows: label -> rows -> an estimate per run.
    """
    labels = [label for label, _ in panels[0][1]]
    ends = [
        value.mean if math.isnan(value.high) else value.high
        for _, rows in panels
        for _, estimates in rows
        for value in estimates
    ]
    furthest = max((end for end in ends if not math.isnan(end)), default=100)
    most = 100 if is_score else next((end for end in (5, 10, 20, 50) if furthest <= end), 100)

    def draw(*all_axes: Axes) -> None:
        step = min(0.2, 0.7 / len(runs))
        for axes, (panel, rows) in zip(all_axes, panels, strict=True):
            for number, run in enumerate(runs):
                colour, shape = _mark(number)
                for place, (_, estimates) in enumerate(rows):
                    value, at = estimates[number], place + step * (number - (len(runs) - 1) / 2)
                    if not math.isnan(value.low):
                        axes.plot(
                            (value.low, value.high), (at, at),
                            color=colour, linewidth=1.6, solid_capstyle="butt", clip_on=False,
                        )  # fmt: skip
                    if not math.isnan(value.mean):
                        axes.plot(
                            value.mean, at, color=colour, marker=shape, markersize=6,
                            linestyle="none", clip_on=False, label=run if not place else None,
                        )  # fmt: skip
            axes.set_xlim(0, most)
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.set_yticks(range(len(labels)), labels)
            axes.tick_params(axis="y", length=0, pad=8)
            axes.spines["left"].set_visible(False)
            axes.grid(axis="x")
            axes.set_xlabel(panel)
        for axes in all_axes[1:]:
            axes.tick_params(axis="y", labelleft=False)
        if len(runs) > 1:
            _legend(all_axes[0], None)

    def shown(value: Interval) -> str:
        if math.isnan(value.mean):
            return "–"
        text = f"{value.mean:.1f}"
        if math.isnan(value.low):
            return text
        return f"{text} ({value.low:.1f} to {value.high:.1f})"

    rows = [
        (row, *([panel] if len(panels) > 1 else []), *(shown(value) for value in estimates))
        for panel, of_panel in panels
        for row, estimates in of_panel
    ]
    return draw_figure(
        name,
        title,
        caption,
        f"Dot plot with 95% intervals on a scale from 0 to {most}: {', '.join(labels)}, for "
        f"{', '.join(runs)}. The numbers are in the table below.",
        ("", *(["score"] if len(panels) > 1 else []), *runs),
        rows,
        draw,
        panels=len(panels),
        height=0.9 + (0.36 + 0.08 * len(runs)) * len(labels),
    )


def _length_axes(axes: Axes, points: Sequence[Point]) -> None:
    """Both axes in words on log scales with the diagonal, and with room for `points`."""
    required, words = [p.required for p in points], [p.words for p in points]
    low, high = min(required), max(required)
    if high < 4 * low:  # else one tick would be all there is
        low, high = low // 2, high * 2
    bottom = max(10, min([low, *(w for w in words if w)]) * 0.7)
    top = max(high, *words) * 1.5
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low * 0.75, high * 1.35)
    axes.set_ylim(min(bottom, low * 0.75), top)
    axes.axline((low, low), (high * 2, high * 2), color=LIGHT["muted"], linewidth=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axis.set_minor_locator(NullLocator())
    axes.grid(visible=True)
    axes.set_xlabel("required words")
    axes.set_ylabel("produced words")


def _along(axes: Axes, factor: float, text: str) -> None:
    """Write on the line y = factor · x, where the plot has room for it."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    first, last = max(left, bottom / factor), min(right, top / factor)
    if first >= last:
        return
    at = first * (last / first) ** (0.04 if factor > 1 else 0.97)
    axes.annotate(
        text, (at, at * factor), xytext=(0, 3 if factor > 1 else -3), textcoords="offset points",
        rotation=math.degrees(math.atan(1)), rotation_mode="anchor", transform_rotates_text=True,
        ha="left" if factor > 1 else "right", va="bottom" if factor > 1 else "top",
        color=LIGHT["muted"], fontsize=8.5,
    )  # fmt: skip


def _legend(axes: Axes, title: str | None) -> None:
    legend: Any = axes.figure
    handles, names = axes.get_legend_handles_labels()
    # names of models that do not fit beside each other stand below each other
    beside = 2 if 2 * max(map(len, names)) <= MAX_NAME else 1
    legend.legend(
        handles,
        [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…" for name in names],
        loc="outside upper left",
        ncols=6 if title else beside,
        title=title,
        alignment="left",
        columnspacing=1.0,
        handletextpad=0.2 if title else 0.5,
        fontsize=9,
        title_fontsize=9,
        borderpad=0.1,
    )


def _mark(number: int) -> tuple[str, str]:
    return LIGHT[f"run-{number % 6 + 1}"], _SHAPES[number % len(_SHAPES)]


def _score_class(score: float | None) -> int:
    """1 to 5; 0 for none."""
    if score is None or math.isnan(score):
        return 0
    return next(n for n, (end, _) in enumerate(SCORE_CLASSES, 1) if score < end)


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
