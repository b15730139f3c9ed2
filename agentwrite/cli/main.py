"""The `agentwrite` command."""

import argparse
from collections.abc import Sequence

from agentwrite.cli import dpo, run, select, serve, sft, stats, write
from longwriter_core.command import run_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 something is missing, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="agentwrite", description="Write very long texts: plan, then write step by step."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (write, run, select, sft, dpo, stats, serve):
        command.add(commands)
    return run_parser(parser, arguments)
