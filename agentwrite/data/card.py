"""Write the dataset card of a JSONL file, in the hub's format, and its length histogram."""

import io
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentwrite.data.mix import MixSummary, beside
from longwriter_core.files import write_atomically

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_AXOLOTL = {"sft": "`type: chat_template`", "dpo": "`rl: dpo` and `type: chat_template.default`"}

# The blue and orange of Okabe and Ito, distinguishable by colour-blind readers and in greyscale.
_LANGUAGES = {"en": ("#0072B2", "English"), "zh": ("#E69F00", "Chinese")}
_TICKS = tuple(step * 10**power for power in range(7) for step in (1, 2, 5))
_MAX_TICKS = 10  # the labels of more ticks would overlap
_BINS_PER_DECADE = 16


def write_card(
    summary: MixSummary,
    stage: str,
    settings: Mapping[str, Any],
    counts: Mapping[str, Mapping[str, int]],
) -> None:
    """Write the card and the histogram next to the rows of a `stage`, "sft" or "dpo".

    `counts` maps headings to further tables. The card contains no date and no folder, so the same
    rows give the same bytes. Raises OSError.
    """
    picture = beside(summary.output, ".png")
    if summary.long_rows:
        draw_lengths(picture, summary.words)
    else:
        picture.unlink(missing_ok=True)  # the file may be left from an earlier run
    data, total = summary.output.name, summary.taken.total()
    title = beside(summary.output, "").name
    lines = [
        "---",
        "# license: fill in what the models' terms and the general set's license allow",
        f"pretty_name: {_quote(title)}",
        f"language: [{', '.join(sorted(summary.words)) or 'en'}]",
        "task_categories: [text-generation]",
        f"tags: [long-form-generation, agentwrite, {stage}]",
        f"size_categories: [{next((name for end, name in _SIZES if total < end), '1M<n<10M')}]",
        "configs:",
        "- config_name: default",
        f"  data_files: {_quote(data)}",
        "---",
        "",
        f"# {_escape(title)}",
        "",
        f"{total:,} rows, made with `agentwrite {stage}`; {summary.long_rows:,} of them are long "
        f"texts. axolotl reads the file as it is, with {_AXOLOTL[stage]}.",
        "",
    ]
    lines += _table(
        "Sources",
        ("source", "rows read", "rows in this file"),
        [(name, f"{summary.read[name]:,}", f"{summary.taken[name]:,}") for name in summary.read],
    )
    if summary.general:
        lines += [
            f"Requested: {summary.general.ratio:g} general rows for each long text, "
            f"{summary.general_wanted:,} in all. In the file: {summary.general_rows:,}.",
            "",
        ]
    lines += _table(
        "Length of the long texts, in words",
        ("language", "rows", "min", "median", "mean", "max"),
        [
            (language, *(f"{value:,.0f}" for value in _spread(summary.words[language])))
            for language in sorted(summary.words)
        ],
    )
    if summary.long_rows:
        lines += [f"![Rows by length in words]({picture.name})", ""]
    lines += _table("Models", ("model", "rows"), _ranked(summary.models))
    lines += _table("Left out", ("rule", "rows"), _ranked(summary.rejected))
    lines += _table("General rows left out", ("reason", "rows"), _ranked(summary.unusable))
    for heading, numbers in counts.items():
        lines += _table(heading, ("", "times"), _ranked(numbers))
    lines += ["## Benchmark prompts", "", _benchmark_check(summary), ""]
    lines += _table(
        "Settings",
        ("setting", "value"),
        [
            (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for name, value in settings.items()
        ],
    )
    write_atomically(
        beside(summary.output, ".md"), "\n".join(lines).encode("utf-8", "backslashreplace")
    )


def _benchmark_check(summary: MixSummary) -> str:
    if not summary.benchmarks_checked:
        return "Not checked against the prompts of LongBench-Write and LongWrite-Ruler."
    names = ", ".join(sorted(summary.overlaps))
    return (
        "Every prompt was compared with those of LongBench-Write and LongWrite-Ruler: "
        f"{summary.overlaps.total():,} rows contained one and were left out"
        f"{f' ({names})' if names else ''}."
    )


def _spread(words: Iterable[int]) -> tuple[float, ...]:
    ordered = sorted(words)
    mean, median = statistics.fmean(ordered), statistics.median(ordered)
    return len(ordered), ordered[0], median, mean, ordered[-1]


def _table(heading: str, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    """Return the lines of a section with a table; no lines if there are no rows."""
    body = [f"| {' | '.join(map(_escape, row))} |" for row in rows]
    if not body:
        return []
    rule = "|---|" + "--:|" * (len(header) - 1)
    return [f"## {heading}", "", f"| {' | '.join(header)} |", rule, *body, ""]


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(name, f"{number:,}") for name, number in ranked if number]


def _escape(value: object) -> str:
    """Escape text for a table cell; names of models and files may contain any character."""
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;")


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is also a YAML string


def draw_lengths(path: Path, words: Mapping[str, Sequence[int]]) -> None:
    """Write a PNG histogram of lengths in words, on a log scale, stacked by language.

    The same lengths give the same bytes. Raises OSError.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    shown = {
        name: (list(words[language]), colour)
        for language, (colour, name) in _LANGUAGES.items()
        if words.get(language)
    }
    lengths = [length for values, _ in shown.values() for length in values]
    low = max(tick for tick in _TICKS if tick <= max(1, min(lengths)))
    # the first tick above the longest text that is at least 4 times `low`
    high = min(
        (tick for tick in _TICKS if tick > max(lengths) and tick >= 4 * low),
        default=10 * max(lengths),
    )
    bins = max(1, round(_BINS_PER_DECADE * math.log10(high / low)))
    figure = Figure(figsize=(7.2, 3.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(
        [values for values, _ in shown.values()],
        bins=[low * (high / low) ** (n / bins) for n in range(bins + 1)],
        stacked=True,
        color=[colour for _, colour in shown.values()],
        label=[f"{name} ({len(values):,})" for name, (values, _) in shown.items()],
        edgecolor="white",
        linewidth=0.6,
    )
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    if len(ticks) > _MAX_TICKS:
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
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_atomically(path, picture.getvalue())
