"""A figure: drawn once, for the page and as files, with its numbers as a table.

It is drawn in the light colours of the palette. In the page the same drawing follows the reader's
theme: its colours become custom properties, and its text the page's own font.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

from longwriter_eval.pages import PALETTE

# Inches at 72 dpi: small enough that the text stays readable at a phone's width.
_WIDTH, _HEIGHT = 5.0, 4.1
_PNG_DPI = 220

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
class Figure:
    """A drawing, what it says to a reader who cannot see it, and its numbers."""

    name: str  # of its files
    title: str
    caption: str
    description: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    canvas: Canvas

    @cached_property
    def svg(self) -> str:
        """The drawing, in light colours on white."""
        file = io.StringIO()
        with _style():
            metadata = {"Date": None, "Creator": None, "Title": self.title}
            self.canvas.savefig(file, format="svg", metadata=metadata)
        return file.getvalue()

    def png(self) -> bytes:
        """The same, for where no SVG goes."""
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
    height: float = _HEIGHT,
) -> Figure:
    """The figure that `draw` makes on `panels` axes side by side; `height` in inches."""
    with _style():
        canvas = Canvas(figsize=(_WIDTH, height), dpi=72, layout="constrained")
        draw(*canvas.subplots(1, panels, squeeze=False)[0])
    return Figure(name, title, caption, description, header, rows, canvas)


def themed(figure: Figure, number: int) -> str:
    """The drawing for a page that holds others: own ids, the reader's colours, no font sizes lost.

    Screen readers get title and description; links are for the pointer, the list has them too.
    """
    svg = figure.svg[figure.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<\?.*?\?>", "", svg, flags=re.DOTALL)
    own = set(re.findall(r'\bid="([^"]+)"', svg))
    svg = re.sub(r'\bid="', f'id="f{number}-', svg)
    svg = re.sub(
        r"(url\(|xlink:href=\")#([^\")]+)",
        lambda m: f"{m[1]}#f{number}-{m[2]}" if m[2] in own else m[0],
        svg,
    )
    svg = svg.replace(' target="_blank"', "").replace("<a ", '<a tabindex="-1" ')
    for name, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(
        r"font: (bold|[4-9]00) ([\d.]+)px [^;\"]*", r"font-weight: \1; font-size: \2px", svg
    )
    head = f'<svg role="img" aria-labelledby="f{number}-t f{number}-d"'
    opening, _, rest = svg.partition(">")
    opening = re.sub(r' (width|height)="[^"]*"', "", opening).replace("<svg", head, 1)
    title, description = _escape(figure.title), _escape(figure.description)
    return (
        f'{opening}><title id="f{number}-t">{title}</title>'
        f'<desc id="f{number}-d">{description}</desc>{rest}'
    )


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """While drawing and saving, which both look at it."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE}), warnings.catch_warnings():
        # a name in a script that the font does not have is drawn as boxes in the PNG
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
