"""`longwriter leaderboard`: verified submissions as a static site."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

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
    summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="append the result, with every reason, as Markdown: for $GITHUB_STEP_SUMMARY",
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
    counts = (
        f"submissions verified: {built.verified}, not accepted: {len(built.invalid)}; "
        f"rankings: {built.rankings}"
    )
    if summary:
        with summary.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(_markdown(counts, built.invalid))
    print(f"wrote {built.page} and {built.data.name}; {counts}")
    return 1 if built.invalid else 0


def _markdown(counts: str, invalid: Sequence[Mapping[str, Any]]) -> str:
    """The result as Markdown. The untrusted reasons stand in a code block that they cannot end."""
    from longwriter_core.text.printable import printable

    lines = [
        line
        for entry in invalid
        for line in (entry["file"], *(f"- {reason}" for reason in entry["reasons"]))
    ]
    block = "\n".join(printable(line, 400).replace("`", "'") for line in lines)
    listed = f"\nNot accepted, with the reasons:\n\n```text\n{block}\n```\n" if lines else ""
    return f"### Leaderboard\n\n{counts}\n{listed}"


def _warn(text: str) -> None:
    """Print the untrusted `text` as a line that GitHub Actions does not run as a command."""
    from longwriter_core.text.printable import printable

    # ::error:: is a command only at the start of a line, and `text` starts with our own words.
    # ##[error] is a command anywhere.
    print(printable(text).replace("##[", "## ["), file=sys.stderr)
