"""What `sft` and `dpo` share: options of the mix, progress, and the summary."""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from agentwrite.cli.options import positive, print_counts
from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.data.mix import General, Mixed


def add_mixing_options(command: argparse.ArgumentParser, kind: str) -> None:
    """Options of the commands that mix their rows with a general set."""
    command.add_argument(
        "--sequence-len", type=positive, default=32_768, metavar="TOKENS",
        help="what training takes of prompt and answer together (default: 32,768)",
    )  # fmt: skip
    command.add_argument(
        "--general", metavar="SOURCE",
        help=f"{kind} to mix in: JSONL, Parquet, or a hub dataset, which is streamed",
    )  # fmt: skip
    command.add_argument(
        "--general-split", default="train", metavar="SPLIT", help="of the hub dataset"
    )
    command.add_argument(
        "--ratio", type=number(0, 1e6), metavar="R", help="general rows for each row of ours"
    )
    command.add_argument(
        "--no-benchmark-check", action="store_true",
        help="do not look for the prompts of LongBench-Write and LongWrite-Ruler",
    )  # fmt: skip
    command.add_argument(
        "--seed", type=int, default=42, metavar="N", help="of every draw (default: 42)"
    )


def general_option(options: argparse.Namespace) -> "General | None":
    """The general set that the options name. Raises InputError for half of it."""
    from agentwrite.data.mix import General

    if (options.general is None) != (options.ratio is None):
        raise InputError("--general and --ratio go together: which set, and how much of it")
    if options.general is None:
        return None
    return General(options.general, options.ratio, options.general_split)


def number(least: float, most: float) -> Callable[[str], float]:
    """A number from `least` to `most`, as an option's type."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"must be a number from {least:g} to {most:g}, not {text!r}"
            )
        return value

    return read


class Bars:
    """A progress bar for each kind of row, from the first one on."""

    def __enter__(self) -> "Bars":
        self._bars: dict[str, Any] = {}
        self._open = ExitStack()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def __call__(self, what: str) -> None:
        """Count one more row of a kind."""
        from tqdm import tqdm

        if what not in self._bars:
            self._bars[what] = self._open.enter_context(tqdm(desc=f"Reading {what}", unit="row"))
        self._bars[what].update()


def print_mixed(mixed: "Mixed", what: str) -> None:
    """What was written where, and what was left out."""
    from agentwrite.data.mix import beside

    general = ""
    if mixed.general:
        general = f" and {mixed.general_taken:,} rows of {mixed.general.name}"
    endings = (".md", ".png") if mixed.ours else (".md",)
    also = " and ".join(beside(mixed.output, ending).name for ending in endings)
    print(
        f"wrote {mixed.output}: {mixed.ours:,} {what}{general}, with {also} beside it",
        file=sys.stderr,
    )
    print_counts(f"left out, see {mixed.rejects}", mixed.rejected)
    print_counts("general rows left out", mixed.unusable)
    if mixed.general and mixed.general_taken < mixed.general_wanted:
        print(
            f"{mixed.general.name} is too small: {mixed.general_wanted:,} rows were wanted, and it "
            f"has {mixed.general_taken:,} usable ones",
            file=sys.stderr,
        )
    if not mixed.checked:
        print("not compared with the benchmarks' prompts", file=sys.stderr)
