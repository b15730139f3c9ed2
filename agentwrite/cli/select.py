"""`agentwrite select`: instructions that need thousands of words."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentwrite.cli import options
from agentwrite.cli.options import print_counts, tokens
from agentwrite.cli.progress import ProgressLine
from agentwrite.settings import Settings
from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.selecting.log import Selection
    from agentwrite.selecting.rows import SelectionEstimate


def command(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="hub dataset (streamed), JSONL or Parquet file, or a folder of them",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="JSONL file for `run`")
    ],
    quota: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANGUAGE=N",
            help="at most N rows in en or zh, and none in languages without a quota; can be "
            "repeated; default: every row in either",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="split of a hub dataset")] = "train",
    limit: options.Limit = None,
    rules_only: Annotated[bool, typer.Option("--rules-only", help="ask no model")] = False,
    model: Annotated[
        str | None, typer.Option(help=Settings.model_fields["model"].description)
    ] = None,
    base_url: options.BaseUrls = None,
    concurrency: options.Concurrency = options.DEFAULTS["concurrency"],
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="TOKENS", help="token limit of one reply")
    ] = None,
    context: options.KnownContext = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="sampling temperature; default: 0.5")
    ] = None,
    extra: options.Extra = "{}",
    timeout: options.Timeout = None,
    max_cost: options.MaxCost = None,
    batch: options.Batch = False,
    dry_run: options.DryRun = False,
) -> int:
    """Choose instructions that need thousands of words.

    Chooses rows of a hub dataset or of local files, first by rules, then by a model's yes or no.
    Rerun the same command after any interruption to resume.
    """
    from agentwrite.selecting.rows import estimate
    from agentwrite.selecting.select import select

    if rules_only and (model or base_url or batch):
        raise InputError("--rules-only asks no model: leave out --model, --base-url and --batch")
    if not rules_only and not model:
        raise InputError("name the model that decides with --model, or pass --rules-only")
    settings = None
    if model:
        sampling = {"max_tokens": max_tokens, "temperature": temperature}
        settings = Settings.resolve(
            **{name: value for name, value in sampling.items() if value is not None},
            model=model,
            base_urls=base_url,
            concurrency=concurrency,
            context=context,
            extra=extra,
            timeout=timeout,
            max_cost=max_cost,
            batch=batch,
        )
    quotas = _quotas(quota or [])
    if dry_run:
        _print_estimate(estimate(source, quota=quotas, split=split, limit=limit), settings, quotas)
        return 0
    with ProgressLine("Selecting", "row") as line:

        def progress(selection: "Selection") -> None:
            line.show(
                selection.read, selection.total, selection.usage,
                asked=selection.asked, failed=selection.failed.total(), **selection.chosen,
                state=selection.state,
            )  # fmt: skip

        selection = select(
            source, output, settings, quota=quotas, split=split, limit=limit, progress=progress
        )
    return _report(selection, output, model, ctx.obj)


def _quotas(given: list[str]) -> dict[str, int]:
    """Language -> number. Raises InputError."""
    quotas: dict[str, int] = {}
    for text in given:
        language, _, number = (part.strip() for part in text.partition("="))
        if not number.isdecimal() or int(number) < 1:
            raise InputError(f"--quota {text}: write LANGUAGE=N with a whole number from 1")
        if language in quotas:
            raise InputError("--quota: one number for each language")
        quotas[language] = int(number)
    return quotas


def _print_estimate(
    sample: "SelectionEstimate", settings: Settings | None, quotas: dict[str, int]
) -> None:
    print(f"of the first {sample.read:,} rows, the rules leave {sample.left:,}")
    print_counts("rejected", sample.rejected)
    if not settings:
        return
    print(
        f"would ask {settings.model} at {settings.where} about these: {sample.left:,} calls, "
        f"{tokens(settings.model, sample)}"
    )
    if sample.read and sample.total and sample.total > sample.read:
        whole = sample.scaled(sample.total)
        ends = "; it ends when the quotas are full" if quotas else ""
        print(
            f"all {whole.read:,} rows: about {whole.left:,} calls, "
            f"{tokens(settings.model, whole)}{ends}"
        )


def _report(selection: "Selection", output: Path, model: str | None, resume: str) -> int:
    """Print the summary; returns the exit code."""
    from agentwrite.selecting.log import rejects_path

    chosen = ", ".join(f"{language} {n:,}" for language, n in sorted(selection.chosen.items()))
    print(
        f"wrote {output}: {selection.chosen.total():,} instructions"
        f"{f' ({chosen})' if chosen else ''} of {selection.read:,} rows; the others are in "
        f"{rejects_path(output)}",
        file=sys.stderr,
    )
    print_counts("rejected", selection.rejected)
    if model:
        print(
            f"asked {model} about {selection.asked:,}, with {selection.usage.calls:,} "
            f"calls in this run: {tokens(model, selection.usage)}",
            file=sys.stderr,
        )
    print_counts("retried", selection.retries)
    print_counts("no decision", selection.failed)
    for language, number in selection.missing.items():
        print(f"{language}: {number:,} fewer than its quota", file=sys.stderr)
    if selection.stopped:
        print(f"stopped: {selection.stopped}", file=sys.stderr)
    elif selection.is_full or not selection.failed:
        return 0
    print(f"to resume: {resume}", file=sys.stderr)
    return 1
