"""The `longwriter` command."""

import argparse
from collections.abc import Sequence

from longwriter_eval.command import run_command
from longwriter_eval.commands import (
    assets,
    compare,
    demo,
    leaderboard,
    recipes,
    report,
    score,
    submit,
    verify,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 something is missing, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="longwriter", description="Measure very long writing with language models."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (assets, demo, score, report, compare, submit, verify, leaderboard, recipes):
        command.add(commands)
    return run_command(parser, arguments)
