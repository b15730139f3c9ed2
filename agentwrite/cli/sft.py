"""`agentwrite sft`: SFT rows from finished texts."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from agentwrite.cli import mixing
from agentwrite.cli.options import print_counts
from agentwrite.thresholds import SEED, SEQUENCE_LEN, SftLimits
from longwriter_eval.cli import judge_options

if TYPE_CHECKING:
    from agentwrite.data.mix import GeneralSet
    from agentwrite.data.sft import SftSummary


def command(
    ctx: typer.Context,
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
    min_quality: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="S",
            help="lowest S_q by the judge; judges what other rules keep",
        ),
    ] = None,
    judge: judge_options.Profile = None,
    judge_model: judge_options.Model = None,
    judge_base_url: judge_options.BaseUrl = None,
    judge_prompt: judge_options.Prompt = None,
    judge_repeats: judge_options.Repeats = None,
    judge_concurrency: judge_options.Concurrency = None,
    judge_temperature: judge_options.Temperature = None,
    judge_max_tokens: judge_options.MaxTokens = None,
    judge_extra: judge_options.Extra = None,
    batch: judge_options.Batch = False,
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
            help="print what the file would hold, write nothing, call no model",
        ),
    ] = False,
    sequence_len: mixing.SequenceLen = SEQUENCE_LEN,
    general: mixing.GeneralSource = None,
    general_split: mixing.GeneralSplit = "train",
    ratio: mixing.Ratio = None,
    no_benchmark_check: mixing.NoBenchmarkCheck = False,
    with_plan: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="begin each answer with its plan as thinking: think, thinking, magistral, kimi "
            "or gpt-oss",
        ),
    ] = None,
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
    from agentwrite.data.sft import MinQuality, check_paths, sft
    from longwriter_eval.judge.settings import JudgeSettings

    limits = SftLimits(min_words, max_words, sequence_len, min_length_score, max_repetition)
    mixed_in = mixing.general_set(general, ratio, general_split)

    quality = None
    if min_quality is not None and not dry_run:
        overrides = judge_options.overrides(
            profile=judge,
            model=judge_model,
            base_url=judge_base_url,
            prompt=judge_prompt,
            repeats=judge_repeats,
            concurrency=judge_concurrency,
            temperature=judge_temperature,
            max_tokens=judge_max_tokens,
            extra=judge_extra,
            batch=batch,
        )
        quality = MinQuality(min_quality, JudgeSettings.resolve(overrides, os.environ))

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
                min_quality=quality,
                with_plan=with_plan,
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
        judged = ", of which those are kept that the judge scores high enough"
        print(
            f"would write {output}: {summary.texts:,} texts"
            f"{judged if min_quality is not None else ''}{mixed}; no model is called"
        )
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
    if summary.without_length:
        print(f"{summary.without_length:,} rows require no length", file=sys.stderr)
    if unjudged := summary.rejected["unjudged"]:
        print(f"{unjudged:,} texts have no verdict; to resume: {ctx.obj}", file=sys.stderr)
    return 0 if summary.texts and not unjudged else 1
