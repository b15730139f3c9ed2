"""`longwriter assets`: upstream's files."""

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "assets", help="show, fetch and verify upstream's benchmark files and prompts"
    )
    command.add_argument("--fetch", action="store_true", help="download what is missing or wrong")
    command.set_defaults(run=_assets)


def _assets(options: argparse.Namespace) -> int:
    from longwriter_core import benchmarks

    wrong = 0
    for name in benchmarks.ASSETS:
        if options.fetch and benchmarks.state(name) != "ok":
            benchmarks.fetch(name)
        state = benchmarks.state(name)
        wrong += state != "ok"
        print(f"{state:<10}  {name:<24}  {benchmarks.location(name)}")
    if wrong:
        print(f"{wrong} of {len(benchmarks.ASSETS)} are not here: longwriter assets --fetch")
    return 1 if wrong else 0
