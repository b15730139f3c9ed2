"""The table that the benchmarks print: a goal beside each number, and whether it was met."""

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# What was measured, its goal, the measured value, and whether it meets the goal (None: no goal).
Row = tuple[Any, Any, Any, bool | None]


def machine(*more: str) -> str:
    """What the numbers were measured on."""
    cores = f"{os.cpu_count()} cores"
    return ", ".join((platform.machine(), cores, f"Python {platform.python_version()}", *more))


def print_table(rows: Iterable[Row], where: str, output: Path | None = None) -> int:
    """Print each row as it comes, also to `output`; 1 if a goal is missed, else 0."""
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
