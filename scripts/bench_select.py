"""Measure the rules of `agentwrite select`: time and memory per row.

    python scripts/bench_select.py [--rows 100000] [--output FILE.md]

Prints a Markdown table. The rows are made up and all different, so the rules must keep every row in
memory. Needs the upstream files (`longwriter assets --fetch`, or LONGWRITER_ASSETS) and Linux.
"""

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench_table import Row, machine, print_table

from agentwrite.selecting.candidates import language_of, read_candidate
from agentwrite.selecting.rules import Rules
from longwriter_core.mock_server.prose import random_words
from longwriter_core.overlap import benchmark_prompts

WORDS = 60  # per instruction
REPORTS = 10  # progress messages


def make_rows(count: int) -> Iterator[dict[str, object]]:
    """Different instructions of made-up words, in the usual row format."""
    words = random_words()
    for number in range(count):
        subject = " ".join(itertools.islice(words, WORDS))
        text = f"Write a novel about the {subject} {number} of 5000 words."
        yield {"conversation": [{"role": "user", "content": text}], "language": "English"}


def memory() -> int:
    """The current resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(count: int) -> Iterator[Row]:
    """All rows of the table."""
    rules, kept = Rules(benchmark_prompts()), 0
    before, start = memory(), time.process_time()
    for number, row in enumerate(make_rows(count), 1):
        candidate = read_candidate(row, number)
        assert candidate
        kept += rules.check(candidate, language_of(candidate)) is None
        if sys.stderr.isatty() and number % max(1, count // REPORTS) == 0:
            print(f"{number:,} rows", file=sys.stderr)
    seconds, grown = time.process_time() - start, memory() - before
    yield "rows; kept by the rules", "", f"{count:,}; {kept:,}", None
    what = "processor time per row, including the time to make it up"
    yield what, "", f"{seconds / count * 1e3:.2f} ms", None
    yield "memory per remembered row", "", f"{grown / kept:,.0f} bytes", None


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    return print_table(measure(options.rows), machine(), options.output)


if __name__ == "__main__":
    sys.exit(main())
