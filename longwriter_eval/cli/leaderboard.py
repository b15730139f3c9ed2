"""`longwriter leaderboard`: verified submissions as a static site."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "leaderboard",
        help="verify a folder of submissions and rank them on a static page",
        description="Verify every *.zip below DIR and write a page, leaderboard.json and a report "
        "per submission. What was verified before is not verified again. Exit code 1: some are "
        "invalid; the page lists them with their reasons.",
    )
    command.add_argument("folder", metavar="DIR", type=Path, help="the submissions")
    command.add_argument("-o", "--output", type=Path, default=Path("site"), help="default: site")
    command.set_defaults(run=_leaderboard)


def _leaderboard(options: argparse.Namespace) -> int:
    from longwriter_eval.leaderboard.site import build

    built = build(options.folder, options.output)
    for entry in built.invalid:
        print(_line(f"not accepted: {entry['file']}: {entry['reasons'][0]}"), file=sys.stderr)
        if len(entry["reasons"]) > 1:
            path = shlex.quote(str(options.folder / entry["file"]))
            print(
                _line(
                    f"  and {len(entry['reasons']) - 1} more reasons; all: longwriter verify {path}"
                ),
                file=sys.stderr,
            )
    print(
        f"wrote {built.page} and {built.data.name}; submissions verified: {built.verified}, "
        f"not accepted: {len(built.invalid)}; rankings: {built.rankings}"
    )
    return 1 if built.invalid else 0


def _line(text: str) -> str:
    """`text`, of others' words, as a line that GitHub's log does not take for a command."""
    from longwriter_core.text.printable import printable

    # ::error:: is one at the start of a line, which is ours; ##[error] is one anywhere
    return printable(text).replace("##[", "## [")
