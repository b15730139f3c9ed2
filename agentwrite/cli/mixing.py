"""What `sft` and `dpo` share: options of the mix, progress, and the summary."""

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentwrite.cli.options import print_counts
from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.data.mix import GeneralSet, MixSummary

SequenceLen = Annotated[
    int,
    typer.Option(
        min=1, metavar="TOKENS", help="longest prompt and answer together that training takes"
    ),
]
GeneralSource = Annotated[
    str | None,
    typer.Option(
        "--general",
        metavar="SOURCE",
        help="general data set to mix in: JSONL, Parquet, or a hub dataset, which is streamed",
    ),
]
GeneralSplit = Annotated[str, typer.Option(metavar="SPLIT", help="split of the hub dataset")]
Ratio = Annotated[
    float | None,
    typer.Option(min=0, max=1e6, metavar="R", help="general rows for each row made here"),
]
NoBenchmarkCheck = Annotated[
    bool,
    typer.Option(
        "--no-benchmark-check",
        help="do not look for the prompts of LongBench-Write and LongWrite-Ruler",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="seed of every random draw")]


def general_set(source: str | None, ratio: float | None, split: str) -> "GeneralSet | None":
    """The general set that the options name. Raises InputError if only one of the two is given."""
    from agentwrite.data.mix import GeneralSet

    if source is None and ratio is None:
        return None
    if source is None or ratio is None:
        raise InputError("--general and --ratio go together: which set, and how much of it")
    return GeneralSet(source, ratio, split)


class Bars:
    """A progress bar for each kind of row; it appears with the first row."""

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


def print_mix(mix: "MixSummary", what: str) -> None:
    """Print what was written where, and what was left out."""
    from agentwrite.data.mix import beside

    general = f" and {mix.general_rows:,} rows of {mix.general.name}" if mix.general else ""
    suffixes = (".md", ".png") if mix.long_rows else (".md",)
    others = " and ".join(beside(mix.output, suffix).name for suffix in suffixes)
    print(
        f"wrote {mix.output}: {mix.long_rows:,} {what}{general}, with {others} beside it",
        file=sys.stderr,
    )
    print_counts(f"left out, see {mix.rejects}", mix.rejected)
    print_counts("general rows left out", mix.unusable)
    if mix.general and mix.general_rows < mix.general_wanted:
        print(
            f"{mix.general.name} is too small: {mix.general_wanted:,} rows were requested, and it "
            f"has {mix.general_rows:,} usable ones",
            file=sys.stderr,
        )
    if not mix.benchmarks_checked:
        print("not compared with the benchmarks' prompts", file=sys.stderr)
