"""What an experiment leaves behind: its parts, its table, its figure."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from longwriter_core.errors import InputError
from longwriter_core.files import write_atomically
from longwriter_eval.report.drawing import Figure, draw_figure, run_legend, run_mark
from longwriter_eval.stats.inference import Interval


@dataclass(frozen=True)
class Line:
    """A line of a figure: a mean with its interval at each x."""

    name: str
    points: Sequence[tuple[float, Interval]]


def measure_once(
    folder: Path, part: str, settings: Mapping[str, Any], measure: Callable[[], Any]
) -> Any:
    """Return what `measure` returned, now or in an earlier run of the same command.

    The result is kept in FOLDER/PART.json, so that a stopped experiment resumes with the part that
    it was in. Raises InputError if the file is of other settings.
    """
    path = folder / f"{part}.json"
    settings = json.loads(json.dumps(settings))
    if path.exists():
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            kept_settings, result = kept["settings"], kept["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not a result of this command: remove it") from error
        if kept_settings != settings:
            changed = [key for key, value in settings.items() if kept_settings.get(key) != value]
            raise InputError(
                f"{path} is of a run with other settings ({', '.join(changed)}): "
                "name another folder with --output"
            )
        return result
    result = measure()
    text = json.dumps({"settings": settings, "result": result}, ensure_ascii=False, indent=1)
    write_atomically(path, text.encode())
    return json.loads(text)["result"]


def line_chart(
    name: str,
    title: str,
    caption: str,
    lines: Sequence[Line],
    axes_labels: tuple[str, str],
    scale: str = "linear",
) -> Figure:
    """Return a figure of lines with their intervals. `scale` is matplotlib's, of both axes."""
    x_label, y_label = axes_labels

    def draw(axes: Axes) -> None:
        axes.set_xscale(scale)
        axes.set_yscale(scale)
        if scale == "log":
            ticks = sorted({x for line in lines for x, _ in line.points})
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_ticks(ticks, [f"{tick:,g}" for tick in ticks])
                axis.set_ticks([], minor=True)
        for number, line in enumerate(lines):
            colour, shape = run_mark(number)
            xs = [x for x, _ in line.points]
            axes.fill_between(
                xs,
                [interval.low for _, interval in line.points],
                [interval.high for _, interval in line.points],
                color=colour, alpha=0.15, linewidth=0,
            )  # fmt: skip
            axes.plot(
                xs, [interval.mean for _, interval in line.points],
                color=colour, marker=shape, markersize=5 if len(xs) < 20 else 0,
            )  # fmt: skip
        axes.grid(visible=True)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        run_legend(axes, [line.name for line in lines])

    rows = [
        (line.name, f"{x:,g}", interval_text(interval))
        for line in lines
        for x, interval in line.points
    ]
    description = f"Line chart of {y_label} against {x_label} for " + ", ".join(
        line.name for line in lines
    )
    return draw_figure(name, title, caption, description, ("", x_label, y_label), rows, draw)


def interval_text(interval: Interval, digits: int = 1) -> str:
    """Return `mean (low to high)`, without the interval where it is unknown or a point."""
    mean = f"{interval.mean:,.{digits}f}"
    if math.isnan(interval.low) or interval.low == interval.high:
        return mean
    return f"{mean} ({interval.low:,.{digits}f} to {interval.high:,.{digits}f})"


def write_figure(figure: Figure, folder: Path) -> Path:
    """Write FOLDER/NAME.svg, and return its path."""
    path = folder / f"{figure.name}.svg"
    write_atomically(path, figure.svg.encode())
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, [f"{'-' * (width - 1)}:" for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )
