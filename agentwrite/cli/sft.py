"""`agentwrite sft`: SFT rows from finished texts."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from agentwrite.cli import mixing
from agentwrite.cli.options import print_counts
from agentwrite.thresholds import SEED, SEQUENCE_LEN, SftLimits

if TYPE_CHECKING:
    from agentwrite.data.mix import GeneralSet
    from agentwrite.data.sft import SftSummary


def command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="run folder")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="JSONL or Parquet file, by its ending"),
    ],
    min_words: Annotated[
        int, typer.Option(min=1, metavar="N", help="shortest text")
    ] = SftLimits.min_words,
    max_words: Annotated[
        int, typer.Option(min=1, metavar="N", help="longest text")
    ] = SftLimits.max_words,
    min_length_score: Annotated[
        float,
        typer.Option(min=0, max=100, metavar="S", help="lowest S_l, where a length is required"),
    ] = SftLimits.min_length_score,
    max_repetition: Annotated[
        float,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="largest share of words in repeated runs of ten"
        ),
    ] = SftLimits.max_repetition,
    without: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help="rule not to apply; can be repeated")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="only the first N texts of each folder")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="print what the file would hold, write nothing; no model is called either way",
        ),
    ] = False,
    sequence_len: mixing.SequenceLen = SEQUENCE_LEN,
    general: mixing.GeneralSource = None,
    general_split: mixing.GeneralSplit = "train",
    ratio: mixing.Ratio = None,
    no_benchmark_check: mixing.NoBenchmarkCheck = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="push the file and its card to this hub dataset"),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="create the hub dataset as a public one")
    ] = False,
    seed: mixing.Seed = SEED,
) -> int:
    """Make SFT rows from finished texts.

    Filters the texts of run folders, mixes them with a general data set, and writes rows for
    axolotl's chat_template strategy, with a dataset card and a length histogram.
    """
    from agentwrite.data.hub import HubDataset
    from agentwrite.data.sft import check_paths, sft

    limits = SftLimits(min_words, max_words, sequence_len, min_length_score, max_repetition)
    mixed_in = mixing.general_set(general, ratio, general_split)

    def build(output: Path, mixed_in: "GeneralSet | None") -> "SftSummary":
        with mixing.Bars() as bars:
            return sft(
                folders,
                output,
                limits=limits,
                without=without or (),
                general=mixed_in,
                seed=seed,
                check_benchmarks=not no_benchmark_check,
                limit=limit,
                progress=bars,
            )

    if dry_run:
        check_paths(folders, output, mixed_in)
        # Build the rows made here in a temporary folder. The general set is left out, since
        # reading it may take hours.
        with TemporaryDirectory() as folder:
            summary = build(Path(folder) / "sft.jsonl", None)
        rows = round(mixed_in.ratio * summary.texts) if mixed_in else 0
        mixed = f" and {rows:,} rows of {mixed_in.name}" if mixed_in else ""
        print(f"would write {output}: {summary.texts:,} texts{mixed}; no model is called")
        print_counts("would leave out", summary.rejected)
    else:
        repository = HubDataset(push_to_hub, public=public) if push_to_hub else None
        summary = build(output, mixed_in)
        mixing.print_mix(summary.mix, "texts")
        if repository and summary.texts:
            repository.push(output)
            print(f"pushed to {repository.url}", file=sys.stderr)
    for folder, missing in summary.unfinished.items():
        print(
            f"warning: {folder} is unfinished: {missing:,} of its instructions have no text. Rerun "
            "its agentwrite run to add them",
            file=sys.stderr,
        )
    print_counts("removed by cleaning", summary.cleaned)
    if summary.without_length:
        print(f"{summary.without_length:,} rows require no length", file=sys.stderr)
    return 0 if summary.texts else 1
