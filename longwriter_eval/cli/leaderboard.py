"""`longwriter leaderboard`: verified submissions as a static site."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="folder with submissions")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="folder for the site")
    ] = Path("site"),
    bridge: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="link between two judges (longwriter calibrate --output FILE): their scores are "
            "also shown converted, marked ≈ and without a rank; repeatable",
        ),
    ] = None,
) -> int:
    """Verify submissions and rank them on a static page.

    Verifies every *.zip below DIR and writes a page, leaderboard.json and a report for each
    submission. Submissions verified by an earlier run are not verified again. Exit code 1 means
    that some submissions are invalid; the page lists them with the reasons.
    """
    from longwriter_eval.bridge import Bridge
    from longwriter_eval.leaderboard.site import build

    built = build(folder, output, [Bridge.load(path) for path in bridge or ()])
    for entry in built.invalid:
        _warn(f"not accepted: {entry['file']}: {entry['reasons'][0]}")
        if more := len(entry["reasons"]) - 1:
            path = shlex.quote(str(folder / entry["file"]))
            _warn(f"  and {more} more reasons; to list all: longwriter verify {path}")
    print(
        f"wrote {built.page} and {built.data.name}; submissions verified: {built.verified}, "
        f"not accepted: {len(built.invalid)}; rankings: {built.rankings}"
    )
    return 1 if built.invalid else 0


def _warn(text: str) -> None:
    """Print the untrusted `text` as a line that GitHub Actions does not run as a command."""
    from longwriter_core.text.printable import printable

    # ::error:: is a command only at the start of a line, and `text` starts with our own words.
    # ##[error] is a command anywhere.
    print(printable(text).replace("##[", "## ["), file=sys.stderr)
