"""Measure how exact the loss is with each training strategy: the table in docs/LOSS.md.

    python scripts/measure_loss.py [--output FILE.md] [test_loss.py …]

Runs the tests of LossPlugin, which train tiny models on a CPU and compare the change of the weights
with gradients computed by hand, one sequence at a time. Prints the largest relative error of each
strategy. Needs the extras train, ray and deepspeed; without one of the last two, its rows are
missing. Exits with 1 if a test fails.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1] / "tests" / "train"
FILES = ("test_loss.py", "test_loss_ranks.py", "test_ray_training.py")


class Collector:
    """A pytest plugin that collects what the fixture `assert_exact` records."""

    def __init__(self) -> None:
        self.errors: dict[str, float] = {}  # the largest of each strategy

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Read a test's records."""
        if report.when == "call":
            for name, value in report.user_properties:
                if name == "strategy":
                    strategy, error = value
                    self.errors[strategy] = max(error, self.errors.get(strategy, 0.0))


def table(errors: dict[str, float]) -> str:
    """The errors as a Markdown table."""
    lines = ["| strategy | largest relative error |", "|---|--:|"]
    lines += [f"| {strategy} | {error:.1e} |" for strategy, error in errors.items()]
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, help="write the table to this file as well")
    parser.add_argument("tests", nargs="*", default=FILES, help="only these files of tests/train")
    args = parser.parse_args()
    os.environ.setdefault("AXOLOTL_DO_NOT_TRACK", "1")
    collector = Collector()
    files = [str(TESTS / name) for name in args.tests]
    code = pytest.main(["-q", "--no-header", *files], plugins=[collector])
    print(table(collector.errors))
    if args.output:
        args.output.write_text(table(collector.errors) + "\n", encoding="utf-8")
    return int(code != 0 or not collector.errors)


if __name__ == "__main__":
    sys.exit(main())
