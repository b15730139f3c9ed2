"""`agentwrite sft`: SFT rows from finished texts."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from agentwrite.cli.mixing import Bars, add_mixing_options, general_option, number, print_mixed
from agentwrite.cli.options import positive, print_counts

if TYPE_CHECKING:
    from agentwrite.data.sft import Sft


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "sft",
        help="make SFT rows of finished texts",
        description="Filter the texts of run folders, mix them with a general set, and write rows "
        "for axolotl's chat_template strategy, with a dataset card and a length histogram.",
    )
    command.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="a run folder")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="a JSONL file"
    )
    command.add_argument(
        "--min-words", type=positive, default=1_500, metavar="N", help="default: 1,500"
    )
    command.add_argument(
        "--max-words", type=positive, default=32_000, metavar="N", help="default: 32,000"
    )
    command.add_argument(
        "--min-length-score", type=number(0, 100), default=80.0, metavar="S",
        help="least S_l, where a length is required (default: 80)",
    )  # fmt: skip
    command.add_argument(
        "--max-repetition", type=number(0, 1), default=0.1, metavar="SHARE",
        help="most of a text's words that may lie in repeated runs of ten (default: 0.1)",
    )  # fmt: skip
    command.add_argument(
        "--without", action="append", default=[], metavar="RULE", help="a rule not to apply"
    )
    command.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N texts of each folder"
    )
    command.add_argument(
        "--dry-run", action="store_true",
        help="say what would be in the file, and write nothing; no model is called either way",
    )  # fmt: skip
    add_mixing_options(command, "an SFT set")
    command.set_defaults(run=_sft)


def _sft(options: argparse.Namespace) -> int:
    built = _dry_run(options) if options.dry_run else _build(options, options.output)
    print_counts("cleaned away", built.cleaned)
    if built.without_length:
        print(f"{built.without_length:,} rows require no length", file=sys.stderr)
    return 0 if built.ours else 1


def _build(options: argparse.Namespace, output: Path) -> "Sft":
    from agentwrite.data.sft import sft
    from agentwrite.data.sft_rules import Limits

    limits = Limits(
        options.min_words,
        options.max_words,
        options.sequence_len,
        options.min_length_score,
        options.max_repetition,
    )
    with Bars() as bars:
        built = sft(
            options.folders,
            output,
            limits=limits,
            without=frozenset(options.without),
            general=None if options.dry_run else general_option(options),
            seed=options.seed,
            check=not options.no_benchmark_check,
            limit=options.limit,
            progress=bars,
        )
    if not options.dry_run:
        print_mixed(built.mixed, "texts")
    return built


def _dry_run(options: argparse.Namespace) -> "Sft":
    """All of ours, built where nobody finds it: reading the general set may take hours."""
    from agentwrite.data.sft import check_paths

    general = general_option(options)
    check_paths(options.folders, options.output, general)
    with TemporaryDirectory() as folder:
        built = _build(options, Path(folder) / "sft.jsonl")
    mixed = f" and {round(general.ratio * built.ours):,} rows of {general.name}" if general else ""
    print(f"would write {options.output}: {built.ours:,} texts{mixed}; no model is called")
    print_counts("would leave out", built.rejected)
    return built
