"""Drawing one figure: its files, its themed version for the page, its axes, marks and legends.

A figure is drawn once, in the light colours of the palette. In the page, the same drawing follows
the reader's theme: its colours become CSS custom properties, and its text uses the page's font.
"""

import contextlib
import html
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from longwriter_eval.pages import PALETTE

# Inches at 72 dpi: small enough that the text stays readable on a phone.
_WIDTH, _HEIGHT = 5.0, 4.1
_PNG_DPI = 220

# Characters of a run's name, or of two names side by side, that fit into a legend.
MAX_NAME = 60

# Marker shapes of the runs, so that they can be told apart without colour.
_SHAPES = "osD^vP"

LIGHT = {name: values[0] for name, values in PALETTE.items()}
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": LIGHT["page"],
    "axes.facecolor": "none",
    "font.size": 10,
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "longwriter",
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # a model may be called $x$
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
}


@dataclass(frozen=True)
class Point:
    """A response in a figure. `score` sets its colour; `href` is the link of its mark."""

    name: str
    required: int  # words
    words: int
    score: float | None
    href: str


@dataclass(frozen=True)
class Figure:
    """A drawing, a description for screen readers, and the numbers as a table."""

    name: str  # stem of its file names
    title: str
    caption: str
    description: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    canvas: Canvas

    @cached_property
    def svg(self) -> str:
        """The drawing in the light theme."""
        file = io.StringIO()
        with _style():
            metadata = {"Date": None, "Creator": None, "Title": self.title}
            self.canvas.savefig(file, format="svg", metadata=metadata)
        return file.getvalue()

    def png(self) -> bytes:
        """The drawing in the light theme, as a bitmap."""
        file = io.BytesIO()
        with _style():
            self.canvas.savefig(file, format="png", dpi=_PNG_DPI, metadata={"Software": None})
        return file.getvalue()


def draw_figure(
    name: str,
    title: str,
    caption: str,
    description: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    draw: Callable[..., None],
    panels: int = 1,
    columns: int | None = None,
    height: float = _HEIGHT,
) -> Figure:
    """The figure that `draw` makes on `panels` axes, `columns` side by side (by default all).

    `height` is in inches.
    """
    columns = min(columns or panels, panels)
    lines = -(-panels // columns)
    with _style():
        canvas = Canvas(figsize=(_WIDTH, height), dpi=72, layout="constrained")
        all_axes = canvas.subplots(lines, columns, squeeze=False).ravel()
        for unused in all_axes[panels:]:
            unused.remove()
        draw(*all_axes[:panels])
        canvas.draw_without_rendering()  # lays out once, and not again for every file
        canvas.set_layout_engine(None)
    return Figure(name, title, caption, description, header, rows, canvas)


def themed_svg(figure: Figure, number: int) -> str:
    """The drawing as SVG to embed in a page, in the reader's theme.

    Element ids get the prefix f`number`-, because a page holds several figures. Title and
    description are added for screen readers. Links leave the tab order, since the page's list of
    responses has the same ones.
    """
    svg = figure.svg[figure.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<\?.*?\?>", "", svg, flags=re.DOTALL)
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    svg = re.sub(r'\bid="', f'id="f{number}-', svg)
    svg = re.sub(
        r"(url\(|xlink:href=\")#([^\")]+)",
        lambda m: f"{m[1]}#f{number}-{m[2]}" if m[2] in ids else m[0],
        svg,
    )
    svg = svg.replace(' target="_blank"', "").replace("<a ", '<a tabindex="-1" ')
    for name, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(
        r"font: (bold|[4-9]00) ([\d.]+)px [^;\"]*", r"font-weight: \1; font-size: \2px", svg
    )
    attributes = f'<svg role="img" aria-labelledby="f{number}-t f{number}-d"'
    opening, _, rest = svg.partition(">")
    opening = re.sub(r' (width|height)="[^"]*"', "", opening).replace("<svg", attributes, 1)
    title, description = (
        html.escape(text, quote=False) for text in (figure.title, figure.description)
    )
    return (
        f'{opening}><title id="f{number}-t">{title}</title>'
        f'<desc id="f{number}-d">{description}</desc>{rest}'
    )


def length_axes(
    axes: Axes, points: Sequence[Point], ticks: Sequence[int] = (), *, is_small: bool = False
) -> float:
    """Set up required and produced words on log scales, with the diagonal and room for `points`.

    `ticks` are the required lengths to name; by default 1, 2 and 5 of each power of ten, and in a
    small panel 1 and 3. Returns the number of words at the lower end, where empty responses are
    drawn: a log scale has no zero.
    """
    required, words = [p.required for p in points], [p.words for p in points if p.words]
    low, high = min(required), max(required)
    if high < 4 * low:  # a narrower range would have a single tick
        low, high = low // 2, high * 2
    bottom = min(low * 0.75, *(n * 0.7 for n in words)) if words else low * 0.75
    if len(words) < len(points):
        bottom *= 0.6  # a strip for the empty responses, below all others
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low * 0.65, high * 1.5)
    axes.set_ylim(bottom, max([high, *words]) * 1.5)
    axes.axline((low, low), (high * 2, high * 2), color=LIGHT["muted"], linewidth=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3) if is_small else (1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short_number(value)))
        axis.set_minor_locator(NullLocator())
    if ticks:
        axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.grid(visible=True)
    axes.set_xlabel("required words")
    axes.set_ylabel("produced words")
    return bottom


def draw_empty(axes: Axes, points: Sequence[Point], y: float, colour: str) -> None:
    """Draw a cross at `y` for each of `points` that has no words."""
    empty = [point for point in points if not point.words]
    if empty:
        crosses = axes.scatter(
            [p.required for p in empty], [y] * len(empty),
            s=30, marker="x", color=colour, linewidths=1.3, label="empty", clip_on=False, zorder=3,
        )  # fmt: skip
        crosses.set_urls([p.href for p in empty])


def spread(axes: Axes, points: Sequence[Point], size: float) -> list[float]:
    """The x of each point, moved aside where dots of `size` (diameter in points) would overlap.

    The limits of the axes must be set. Dots move by at most one and a half diameters and may still
    overlap by half, so that many responses of one length stay a narrow group.
    """
    figure: Any = axes.figure
    step = size * figure.dpi / 72 / 2
    pixels = axes.transData.transform([(p.required, p.words) for p in points])
    placed: dict[int, list[tuple[float, float]]] = {}
    moved = [0.0] * len(points)
    for n in sorted(range(len(points)), key=lambda n: points[n].words):
        y = pixels[n][1]
        taken = placed.setdefault(points[n].required, [])
        near = {round(aside / step) for aside, other in taken if abs(other - y) < step}
        moved[n] = step * next((k for k in (0, 1, -1, 2, -2, 3, -3) if k not in near), 0)
        taken.append((moved[n], y))
    back = axes.transData.inverted()
    return [float(back.transform((x + m, y))[0]) for (x, y), m in zip(pixels, moved, strict=True)]


def run_mark(number: int) -> tuple[str, str]:
    """Colour and marker shape of a run; both repeat after six runs."""
    return LIGHT[f"run-{number % 6 + 1}"], _SHAPES[number % len(_SHAPES)]


def run_legend(axes: Axes, names: Sequence[str]) -> None:
    """A legend of all runs, above the figure. A single run needs none."""
    if len(names) > 1:
        handles = []
        for number in range(len(names)):
            colour, shape = run_mark(number)
            handles.append(Line2D([], [], color=colour, marker=shape, linestyle="none"))
        columns = 2 if 2 * max(map(len, names)) <= MAX_NAME else 1
        _legend(axes, handles, names, ncols=columns, handletextpad=0.5)


def score_legend(all_axes: Sequence[Axes], title: str) -> None:
    """A legend of the labelled marks in `all_axes`, above the figure."""
    marks = {
        text: handle
        for axes in all_axes
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    _legend(all_axes[0], [*marks.values()], [*marks], ncols=6, handletextpad=0.2, title=title)


def ring_legend(axes: Axes, label: str, colour: str) -> None:
    """A legend for a ring, above the figure."""
    ring = Line2D(
        [], [], color=colour, marker="o", markersize=9, markerfacecolor="none", linestyle="none"
    )
    _legend(axes, [ring], [label], handletextpad=0.5)


def _legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str], **options: Any) -> None:
    figure: Any = axes.figure
    figure.legend(
        handles,
        [text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 1]}…" for text in labels],
        loc="outside upper left",
        alignment="left",
        columnspacing=1.0,
        fontsize=9,
        title_fontsize=9,
        borderpad=0.1,
        **options,
    )


def _short_number(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Our matplotlib settings, which apply both while drawing and while saving."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE}), warnings.catch_warnings():
        # a name in a script that the font lacks is drawn as boxes in the PNG
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
