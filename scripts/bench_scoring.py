"""Measure scoring a finished run of very long responses.

    python scripts/bench_scoring.py [--words 30000] [--responses 120] [--output FILE.md]

Scores random English and Chinese sentences with every metric and diagnostic, without a judge,
and computes the score table. Prints a Markdown table with a goal beside each number, and exits
with 1 if a goal is missed.
"""

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench_table import Row, machine, print_table

from longwriter_core.mock_server.prose import prose
from longwriter_eval.runs import Sample
from longwriter_eval.scoring import score_response
from longwriter_eval.stats.score_table import score_table

SECONDS, MEMORY = 11.5, 314  # MiB


def measure(responses: int, words: int) -> Iterator[Row]:
    """The rows of the table."""
    texts = [prose(words, number, ("en", "zh")[number % 2]) for number in range(responses)]
    samples = [
        Sample(
            "longbench_write_length", f"longbench_write/{number:03d}", "Write a long text.",
            "Essay", words, ("en", "zh")[number % 2], text, {},
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip
    start = time.perf_counter()
    scores = [
        score_response(sample, text, reached_limit=False, judgement=None)
        for sample, text in zip(samples, texts, strict=True)
    ]
    score_table(scores)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    what = f"{responses} responses of {words:,} words"
    yield f"score {what}", f"< {SECONDS} s", f"{seconds:.1f} s", seconds < SECONDS
    yield f"peak memory, {what}", f"< {MEMORY} MiB", f"{peak:.0f} MiB", peak < MEMORY


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--responses", type=int, default=120)
    parser.add_argument("--words", type=int, default=30_000)
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    rows = measure(arguments.responses, arguments.words)
    return print_table(rows, machine(), arguments.output)


if __name__ == "__main__":
    sys.exit(main())
