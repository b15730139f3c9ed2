"""Measure how fast the text functions process the output of a broken model.

    python scripts/bench_text.py [--output FILE.md]

Prints a Markdown table with a goal beside each number, and exits with 1 if a goal is missed. Takes
a few seconds. Each text took quadratic time in an earlier version, because its regular expressions
backtracked.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench_table import Row, machine, print_table

from longwriter_core.text.special_tokens import strip_special_tokens
from longwriter_eval.judge.prompt import JudgePrompt

GOAL = 2.0  # seconds
SPECIAL_TOKENS = {
    "a long run of special tokens inside": "x" + "</s> " * 50_000 + "x",
    "openings of special tokens": "<|" * 100_000,
    "a token before many blanks": "<s>" + " " * 200_000 + "x",
}


def measure() -> Iterator[Row]:
    """All rows of the table."""
    for name, text in SPECIAL_TOKENS.items():
        yield measure_one(f"strip special tokens: {name}", partial(strip_special_tokens, text))
    prompt, response = JudgePrompt.load("longwriter"), ("<" + " " * 100_000) * 2
    yield measure_one(
        "render a judge's prompt: brackets before many blanks",
        partial(prompt.render, "Write.", response),
    )


def measure_one(what: str, work: Callable[[], object]) -> Row:
    """The row of one piece of work."""
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    return what, f"< {GOAL:.0f} s", f"{1000 * seconds:.0f} ms", seconds < GOAL


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    return print_table(measure(), machine(), parser.parse_args().output)


if __name__ == "__main__":
    sys.exit(main())
