"""What `sft` and `dpo` share: options of the mix, progress, and the summary."""

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentwrite.cli.options import print_counts
from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.data.mix import General, Mixed

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


def general_set(source: str | None, ratio: float | None, split: str) -> "General | None":
    """The general set that the options name. Raises InputError if only one of the two is given."""
    from agentwrite.data.mix import General

    if source is None and ratio is None:
        return None
    if source is None or ratio is None:
        raise InputError("--general and --ratio go together: which set, and how much of it")
    return General(source, ratio, split)


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
