"""`agentwrite run`: a text for every instruction of a file."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentwrite.cli.options import (
    add_cluster_options,
    add_endpoint_options,
    add_writing_options,
    cluster,
    positive,
    print_counts,
    print_estimate,
    tokens,
    writing_settings,
)
from agentwrite.cli.progress import ProgressLine

if TYPE_CHECKING:
    from agentwrite.batch.run import Tally


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "run",
        help="write a text for every instruction of a file",
        description="Write a text for every row of a JSONL file with `instruction` (or `prompt`) "
        "and, if you like, `id` and `length` in words. Run again, it goes on where it was.",
    )
    command.add_argument("instructions", metavar="INSTRUCTIONS", type=Path, help="a JSONL file")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="run folder"
    )
    command.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N instructions"
    )
    command.add_argument(
        "--length", type=positive, metavar="WORDS", help="length where none is named"
    )
    add_writing_options(command)
    add_cluster_options(command)
    add_endpoint_options(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from agentwrite.batch.run import estimate, run

    settings = writing_settings(options)
    workers = cluster(options)
    choice = {"limit": options.limit, "default_length": options.length}
    if options.dry_run:
        found = estimate(options.instructions, options.output, settings, **choice)
        print_estimate(found, settings)
        return 0
    with ProgressLine("Writing", "text", settings.model) as line:

        def progress(tally: "Tally") -> None:
            line.show(
                tally.skipped + tally.written + tally.failed, tally.instructions, tally.usage,
                sections=tally.sections, words=tally.words, failed=tally.failed,
            )  # fmt: skip

        tally = run(
            options.instructions, options.output, settings,
            cluster=workers, progress=progress, **choice,
        )  # fmt: skip
    return _report(tally, options)


def _report(tally: "Tally", options: argparse.Namespace) -> int:
    """Print the summary; returns the exit code."""
    earlier = f" ({tally.skipped:,} were there already)" if tally.skipped else ""
    print(
        f"wrote {options.output / 'texts.jsonl'}: {tally.skipped + tally.finished:,} of "
        f"{tally.instructions:,} texts{earlier}, {tally.words:,} words in {tally.sections:,} "
        f"sections; {tally.usage.calls:,} calls, {tokens(options.model, tally.usage)}",
        file=sys.stderr,
    )
    print_counts("cleaned away", tally.cleaned)
    print_counts("asked again", tally.rejected)
    if tally.planned:
        print(f"{tally.planned:,} name no length: the plan decided", file=sys.stderr)
    if tally.folded:
        print(f"{tally.folded:,} outgrew the context and used a summary", file=sys.stderr)
    if not tally.missing:
        return 0
    if tally.stopped:
        print(f"stopped: {tally.stopped}", file=sys.stderr)
    print_counts(f"failed, see {options.output / 'failed.jsonl'}", tally.reasons)
    print(
        f"{tally.missing:,} of {tally.instructions:,} have no text; to go on: {options.again}",
        file=sys.stderr,
    )
    return 1
