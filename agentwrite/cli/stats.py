"""`agentwrite stats`: lengths, languages, types, models and costs of our files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agentwrite.data.stats import Distribution, Lengths, Stats

_BAR = 40  # characters of the longest bar


def command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSONL file or run folder")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="print a JSON list of objects")] = False,
) -> int:
    """Summarise files of instructions, texts, SFT rows or DPO rows.

    Counts rows, words, languages, types, models and costs of the files that `select`, `run`, `sft`
    and `dpo` have written.
    """
    from agentwrite.data.stats import stats

    if as_json:
        summaries = [stats(path).as_dict() for path in files]
        print(json.dumps(summaries, indent=2, ensure_ascii=False))
        return 0
    for number, path in enumerate(files):
        print("\n" * (number > 0) + _page(stats(path)))
    return 0


def _page(summary: "Stats") -> str:
    from longwriter_core.llm.profiles import money

    things = {"sft": "SFT rows", "dpo": "DPO rows"}.get(summary.kind, summary.kind)
    chosen = ", chosen" if summary.kind == "dpo" else ""
    lines = [f"{summary.path}: {summary.rows:,} {things}"]
    for name, label in (
        ("words", f"words{chosen}"), ("rejected_words", "words, rejected"),
        ("required", "words asked for"),
    ):  # fmt: skip
        if lengths := summary.lengths.get(name):
            lines += [_distribution(label, lengths, ",.0f", summary.rows), *_bars(lengths)]
    for name, label, form in (
        ("produced", "produced / asked for", ".2f"), ("length_score", f"S_l{chosen}", ".1f"),
        ("chosen_score", "score, chosen", ".1f"), ("rejected_score", "score, rejected", ".1f"),
        ("margin", "margin", ".1f"),
    ):  # fmt: skip
        if numbers := summary.numbers.get(name):
            lines.append(_distribution(label, numbers, form, summary.rows))
    for name, label in (
        ("languages", "languages"), ("types", "types"), ("sources", "sources"),
        ("models", "models"), ("cleaned", "cleaned away"), ("rejected", "retried"),
    ):  # fmt: skip
        if counts := summary.counts.get(name):
            lines.append(_line(label, ", ".join(f"{name} {n:,}" for name, n in counts.items())))
    if summary.prompt_tokens or summary.completion_tokens:
        price = money(summary.cost)
        tokens = f"{summary.prompt_tokens:,} prompt, {summary.completion_tokens:,} completion"
        lines.append(_line("tokens", f"{tokens}{f', {price}' if price else ''}"))
    return "\n".join(lines)


def _line(label: str, text: str) -> str:
    return f"  {label:<22}{text}"


def _distribution(label: str, found: "Distribution", form: str, rows: int) -> str:
    of = f"  ({found.count:,} of {rows:,} rows)" if found.count < rows else ""
    shown = (f"{name} {getattr(found, name):{form}}" for name in ("min", "median", "mean", "max"))
    return _line(label, f"{'  '.join(shown)}{of}")


def _bars(found: "Lengths") -> list[str]:
    names = list(found.histogram)
    filled = [at for at, name in enumerate(names) if found.histogram[name]]
    most, lines = max(found.histogram.values()), []
    for name in names[filled[0] : filled[-1] + 1]:
        number = found.histogram[name]
        bar = "█" * max(round(number / most * _BAR), number > 0)
        lines.append(f"    {name:<10}{number:>9,}  {bar}".rstrip())
    return lines
