"""Measure the rules of `agentwrite select`: time and memory for each row.

    python scripts/bench_select.py [--rows 100000]

Prints a Markdown table. The rows are made up, and all differ, so that every one of them is
remembered. Upstream's files must be there: `longwriter assets --fetch`, or LONGWRITER_ASSETS.
Needs Linux.
"""

import argparse
import os
import platform
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from agentwrite.selecting.candidates import read_candidate
from agentwrite.selecting.rules import Rules, language_of
from longwriter_core.overlap import benchmark_prompts

WORDS = 60  # of an instruction
_STEPS = 10


def rows(number: int) -> Iterator[dict[str, object]]:
    """Different instructions in a row's usual form, of words that nobody has written."""
    dice = random.Random(0)
    words = [
        "".join(dice.choices("bcdfghklmnprstaeiou", k=dice.randint(3, 9))) for _ in range(20_000)
    ]
    for _ in range(number):
        text = f"Write a novel about the {' '.join(dice.choices(words, k=WORDS))} of 5000 words."
        yield {"conversation": [{"role": "user", "content": text}], "language": "English"}


def memory() -> int:
    """This process's resident memory now, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    rules, left = Rules(benchmark_prompts()), 0
    before, start = memory(), time.process_time()
    for number, row in enumerate(rows(options.rows), 1):
        candidate = read_candidate(row, number)
        assert candidate
        left += rules.check(candidate, language_of(candidate)) is None
        if sys.stderr.isatty() and number % max(1, options.rows // _STEPS) == 0:
            print(f"{number:,} rows", file=sys.stderr)
    seconds, grown = time.process_time() - start, memory() - before
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| what | measured |\n|---|---|")
    print(f"| rows; left by the rules | {options.rows:,}; {left:,} |")
    print(f"| processor time for each, with making it up | {seconds / options.rows * 1e3:.2f} ms |")
    print(f"| memory for each that is remembered | {grown / left:,.0f} bytes |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
