"""The dataset card beside a file of rows: a README that the hub can read."""

import json
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from agentwrite.data.histogram import draw_lengths
from agentwrite.data.mix import Mixed, beside
from longwriter_core.files import write_atomically

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LOADED = {"sft": "`type: chat_template`", "dpo": "`rl: dpo` and `type: chat_template.default`"}


def write_card(
    mixed: Mixed,
    stage: str,
    settings: Mapping[str, Any],
    counts: Mapping[str, Mapping[str, int]],
) -> None:
    """Write the card of a file of rows, and its picture. It says nothing of the day or place.

    `counts` are further tables, by their heading. Raises OSError.
    """
    if mixed.ours:
        draw_lengths(beside(mixed.output, ".png"), mixed.words)
    else:
        beside(mixed.output, ".png").unlink(missing_ok=True)  # an earlier file's
    path, data = beside(mixed.output, ".md"), mixed.output.name
    total = mixed.taken.total()
    lines = [
        "---",
        "# license: fill in what the models' terms and the general set's license allow",
        f"pretty_name: {_quoted(data.removesuffix('.jsonl'))}",
        f"language: [{', '.join(sorted(mixed.words)) or 'en'}]",
        "task_categories: [text-generation]",
        f"tags: [long-form-generation, agentwrite, {stage}]",
        f"size_categories: [{next((name for most, name in _SIZES if total < most), '1M<n<10M')}]",
        "configs:",
        "- config_name: default",
        f"  data_files: {_quoted(data)}",
        "---",
        "",
        f"# {_cell(data.removesuffix('.jsonl'))}",
        "",
        f"{total:,} rows, made with `agentwrite {stage}`; {mixed.ours:,} of them are long texts. "
        f"axolotl reads them as they are, with {_LOADED[stage]}.",
        "",
    ]
    lines += _table(
        "Sources",
        ("source", "rows read", "rows in this file"),
        [(name, f"{mixed.read[name]:,}", f"{mixed.taken[name]:,}") for name in mixed.read],
    )
    if mixed.general:
        lines += [
            f"{mixed.general.ratio:g} general rows were wanted for each long one: "
            f"{mixed.general_wanted:,}; there are {mixed.general_taken:,}.",
            "",
        ]
    lines += _table(
        "Length of the long texts, in words",
        ("language", "rows", "least", "median", "mean", "most"),
        [
            (language, *(f"{value:,.0f}" for value in _spread(mixed.words[language])))
            for language in sorted(mixed.words)
        ],
    )
    if mixed.ours:
        lines += [f"![Rows by length in words]({beside(mixed.output, '.png').name})", ""]
    lines += _table("Models", ("model", "rows"), _ordered(mixed.models))
    lines += _table("Left out", ("rule", "rows"), _ordered(mixed.rejected))
    lines += _table("General rows left out", ("reason", "rows"), _ordered(mixed.unusable))
    for what, found in counts.items():
        lines += _table(what, ("", "times"), _ordered(found))
    lines += ["## Benchmark prompts", "", _overlap(mixed), ""]
    lines += _table(
        "Settings", ("setting", "value"), [(name, _said(settings[name])) for name in settings]
    )
    write_atomically(path, "\n".join(lines).encode("utf-8", "backslashreplace"))


def _overlap(mixed: Mixed) -> str:
    if not mixed.checked:
        return "Not checked against the prompts of LongBench-Write and LongWrite-Ruler."
    left = mixed.overlaps.total()
    which = ", ".join(sorted(mixed.overlaps))
    return (
        "Every prompt was compared with those of LongBench-Write and LongWrite-Ruler "
        f"(`longwriter_eval/overlap.py`): {left:,} rows held one, and were left out"
        f"{f' ({which})' if which else ''}."
    )


def _spread(words: Iterable[int]) -> tuple[float, ...]:
    found = sorted(words)
    mean, median = statistics.fmean(found), statistics.median(found)
    return len(found), found[0], median, mean, found[-1]


def _table(heading: str, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> list[str]:
    """Nothing for no rows."""
    body = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    if not body:
        return []
    rule = "|---|" + "--:|" * (len(header) - 1)
    return [f"## {heading}", "", f"| {' | '.join(header)} |", rule, *body, ""]


def _ordered(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(name, f"{number:,}") for name, number in ranked if number]


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cell(value: object) -> str:
    """Text for a table: names come from models and files, and may hold anything."""
    text = " ".join(str(value).split())
    return text.replace("|", "\\|").replace("<", "&lt;")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # also a YAML string
