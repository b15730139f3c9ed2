"""`agentwrite select`: instructions that need thousands of words."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentwrite.cli.options import add_endpoint_options, positive, print_counts, tokens
from agentwrite.cli.progress import ProgressLine
from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.selecting.selection import Selection
    from agentwrite.settings import Settings


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "select",
        help="choose instructions that need thousands of words",
        description="Choose, from a hub dataset or local rows, instructions that need thousands of "
        "words: by rules, then by a model's yes or no. Run again, it pays for nothing twice.",
    )
    command.add_argument(
        "source", metavar="SOURCE",
        help="hub dataset (streamed), JSONL or parquet file, or a folder of them",
    )  # fmt: skip
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="what `run` reads"
    )
    command.add_argument(
        "--quota", type=_quota, action="append", default=[], metavar="LANGUAGE=N",
        help="at most so many in en or zh, and in no other; default: all in both",
    )  # fmt: skip
    command.add_argument("--split", default="train", help="split of a hub dataset (default: train)")
    command.add_argument("--limit", type=positive, metavar="N", help="only the first N rows")
    command.add_argument("--rules-only", action="store_true", help="ask no model")
    add_endpoint_options(command, needs_model=False)
    command.set_defaults(run=_select)


def _quota(text: str) -> tuple[str, int]:
    language, _, number = text.partition("=")
    return language.strip(), positive(number.strip())


def _select(options: argparse.Namespace) -> int:
    from agentwrite.selecting.select import select

    settings = _settings(options)
    quota = dict(options.quota)
    if len(quota) < len(options.quota):
        raise InputError("--quota: one number for each language")
    if options.dry_run:
        _print_estimate(options, settings, quota)
        return 0
    with ProgressLine("Selecting", "row", options.model) as line:

        def progress(selection: "Selection") -> None:
            line.show(
                selection.read, selection.total, selection.usage,
                asked=selection.asked, failed=selection.failed.total(), **selection.chosen,
            )  # fmt: skip

        selection = select(
            options.source, options.output, settings,
            quota=quota, split=options.split, limit=options.limit, progress=progress,
        )  # fmt: skip
    return _report(selection, options)


def _settings(options: argparse.Namespace) -> "Settings | None":
    from agentwrite.settings import Settings

    if options.rules_only:
        if options.model or options.base_url:
            raise InputError("--rules-only asks no model: leave out --model and --base-url")
        return None
    if not options.model:
        raise InputError("name the model that decides with --model, or say --rules-only")
    return Settings.resolve(
        model=options.model, base_urls=tuple(options.base_url), concurrency=options.concurrency
    )


def _print_estimate(
    options: argparse.Namespace, settings: "Settings | None", quota: dict[str, int]
) -> None:
    from agentwrite.selecting.select import estimate

    found = estimate(options.source, quota=quota, split=options.split, limit=options.limit)
    print(f"of the first {found.read:,} rows, the rules leave {found.left:,}")
    print_counts("turned away", found.turned_away)
    if not settings:
        return
    print(
        f"would ask {settings.model} at {settings.where} about these: {found.left:,} calls, "
        f"{tokens(settings.model, found)}"
    )
    if found.read and found.total and found.total > found.read:
        whole = found.scaled(found.total)
        ends = "; it ends when the quotas are full" if quota else ""
        print(
            f"all {whole.read:,} rows: about {whole.left:,} calls, "
            f"{tokens(settings.model, whole)}{ends}"
        )


def _report(selection: "Selection", options: argparse.Namespace) -> int:
    """Print the summary; returns the exit code."""
    from agentwrite.selecting.selection import rejects_path

    chosen = ", ".join(f"{language} {n:,}" for language, n in sorted(selection.chosen.items()))
    print(
        f"wrote {options.output}: {selection.chosen.total():,} instructions"
        f"{f' ({chosen})' if chosen else ''} of {selection.read:,} rows; the others are in "
        f"{rejects_path(options.output)}",
        file=sys.stderr,
    )
    print_counts("turned away", selection.turned_away)
    if not options.rules_only:
        print(
            f"asked {options.model} about {selection.asked:,}, with {selection.usage.calls:,} "
            f"calls in this run: {tokens(options.model, selection.usage)}",
            file=sys.stderr,
        )
    print_counts("asked again", selection.rejected)
    print_counts("no decision", selection.failed)
    for language, number in selection.missing.items():
        print(f"{language}: {number:,} fewer than its quota", file=sys.stderr)
    if selection.stopped:
        print(f"stopped: {selection.stopped}", file=sys.stderr)
    elif selection.is_full or not selection.failed:
        return 0
    print(f"to go on: {options.again}", file=sys.stderr)
    return 1
