"""A picture of how long texts are."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from longwriter_core.files import write_atomically

# Okabe and Ito's blue and orange: told apart by the colour-blind, and in grey.
_LANGUAGES = {"en": ("#0072B2", "English"), "zh": ("#E69F00", "Chinese")}
_TICKS = tuple(step * 10**power for power in range(7) for step in (1, 2, 5))
_MOST_TICKS = 10  # of more, the numbers would overlap
_BINS = 16  # in each ten-fold


def draw_lengths(path: Path, words: Mapping[str, Sequence[int]]) -> None:
    """Write a PNG of rows by their length in words, on a log scale, for each language.

    The same lengths give the same bytes. Raises OSError.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    shown = [language for language in _LANGUAGES if words.get(language)]
    longest = max((max(words[language]) for language in shown), default=1_000)
    shortest = max(1, min((min(words[language]) for language in shown), default=100))
    low, high = _edges(shortest, longest)
    edges = [low * (high / low) ** (n / _count(low, high)) for n in range(_count(low, high) + 1)]
    figure = Figure(figsize=(7.2, 3.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(
        [list(words[language]) for language in shown],
        bins=edges,
        stacked=True,
        color=[_LANGUAGES[language][0] for language in shown],
        label=[f"{_LANGUAGES[each][1]} ({len(words[each]):,})" for each in shown],
        edgecolor="white",
        linewidth=0.6,
    )
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    if len(ticks) > _MOST_TICKS:
        ticks = [tick for tick in ticks if str(tick)[0] == "1"]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("words (Chinese: characters)")
    axes.set_ylabel("rows")
    if shown:
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_atomically(path, picture.getvalue())


def _edges(shortest: int, longest: int) -> tuple[int, int]:
    """The ticks next to the extremes, at least two apart."""
    low = max(tick for tick in _TICKS if tick <= shortest)
    high = min((t for t in _TICKS if t > longest and t >= 4 * low), default=10 * longest)
    return low, high


def _count(low: int, high: int) -> int:
    from math import log10

    return max(1, round(_BINS * log10(high / low)))
