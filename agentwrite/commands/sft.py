"""`agentwrite sft`: SFT rows from finished texts."""

import argparse
import sys
from pathlib import Path
from typing import Any

from agentwrite.commands.mixing import (
    Bars,
    add_mixing_options,
    general_option,
    number,
    print_mixed,
)
from agentwrite.commands.options import positive, print_counts


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
    add_mixing_options(command, "an SFT set")
    command.set_defaults(run=_sft)


def _sft(options: argparse.Namespace) -> int:
    from agentwrite.sft import sft
    from agentwrite.sft_rules import Limits

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
            options.output,
            limits=limits,
            without=frozenset(options.without),
            general=general_option(options),
            seed=options.seed,
            check=not options.no_benchmark_check,
            progress=bars,
        )
    print_mixed(built.mixed, "texts")
    print_counts("cleaned away", built.cleaned)
    if built.without_length:
        print(f"{built.without_length:,} rows require no length", file=sys.stderr)
    return 0 if built.ours else 1
