"""The `longwriter` command."""

import argparse
from collections.abc import Sequence

from longwriter_core.command import run_parser
from longwriter_eval.cli import assets, compare, demo, leaderboard, report, score, submit, verify
from longwriter_train import cli as recipes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 something is missing, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="longwriter", description="Measure very long writing with language models."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (assets, demo, score, report, compare, submit, verify, leaderboard, recipes):
        command.add(commands)
    return run_parser(parser, arguments)
