"""The Markdown tables that the benchmarks print."""

import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# The measured quantity, its goal, the value, and whether it meets the goal (None: no goal).
Row = tuple[Any, Any, Any, bool | None]


def machine(*more: str) -> str:
    """The machine and the versions used for the measurement."""
    cores = f"{os.cpu_count()} cores"
    return ", ".join((platform.machine(), cores, f"Python {platform.python_version()}", *more))


def print_table(rows: Iterable[Row], where: str, output: Path | None = None) -> int:
    """Print each row as soon as it is measured, and write all of them to `output`.

    Returns 1 if a goal is missed, else 0.
    """
    lines = [where, "", "| what | goal | measured | met |", "|---|---|---|---|"]
    print(*lines, sep="\n")
    is_missed = False
    for *cells, met in rows:
        is_missed |= met is False
        mark = "" if met is None else "yes" if met else "**no**"
        lines.append(f"| {' | '.join(map(str, cells))} | {mark} |")
        print(lines[-1], flush=True)
    if output:
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(is_missed)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 1) -> str:
    """A Markdown table; columns from index `numbers_from` on are right-aligned."""
    rule = ["---" if column < numbers_from else "--:" for column in range(len(head))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))
