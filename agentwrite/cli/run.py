"""`agentwrite run`: a text for every instruction of a file."""

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
    from agentwrite.batch.run import WritingProgress


def command(
    ctx: typer.Context,
    instructions: Annotated[
        Path, typer.Argument(metavar="INSTRUCTIONS", help="JSONL, CSV or Parquet file")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="run folder")],
    model: options.ModelName,
    base_url: options.BaseUrls = None,
    concurrency: options.Concurrency = options.DEFAULTS["concurrency"],
    limit: options.Limit = None,
    length: options.Length = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="refuse a file with a bad row instead of skipping it")
    ] = False,
    parallel: options.Parallel = options.DEFAULTS["parallel"],
    prompts: options.PromptSet = options.DEFAULTS["prompts"],
    context: options.Context = options.DEFAULTS["context"],
    max_tokens: options.MaxTokens = options.DEFAULTS["max_tokens"],
    temperature: options.Temperature = options.DEFAULTS["temperature"],
    extra: options.Extra = "{}",
    plan_model: options.PlanModel = None,
    summary_model: options.SummaryModel = None,
    story: options.Story = False,
    critic: options.Critic = False,
    timeout: options.Timeout = None,
    max_cost: options.MaxCost = None,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = None,
    dry_run: options.DryRun = False,
) -> int:
    """Write a text for every instruction of a file.

    Each row holds `instruction`, `prompt` or `messages`, and optionally `id` and `length` in words.
    Bad rows are skipped and listed in DIR/bad_rows.jsonl. Rerun the same command after any
    interruption to resume.
    """
    from agentwrite.batch.run import run

    settings = Settings.resolve(
        model=model,
        base_urls=base_url,
        concurrency=concurrency,
        parallel=parallel,
        prompts=prompts,
        context=context,
        max_tokens=max_tokens,
        temperature=temperature,
        extra=extra,
        plan_model=plan_model,
        summary_model=summary_model,
        story=story,
        critic=critic,
        timeout=timeout,
        max_cost=max_cost,
    )
    workers = options.cluster(engine, ray_address)
    if workers and max_cost:
        raise InputError("--max-cost needs --engine local: workers do not share a budget")
    if dry_run:
        from agentwrite.estimate import estimate_run

        expected = estimate_run(
            instructions, output, settings, limit=limit, default_length=length, strict=strict
        )
        options.print_estimate(expected, settings)
        return 0
    with ProgressLine("Writing", "text") as line:

        def progress(counts: "WritingProgress") -> None:
            line.show(
                counts.skipped + counts.written + counts.failed, counts.instructions, counts.usage,
                sections=counts.sections, words=counts.words, failed=counts.failed,
            )  # fmt: skip

        counts = run(
            instructions, output, settings,
            limit=limit, default_length=length, strict=strict, cluster=workers, progress=progress,
        )  # fmt: skip
    return _report(counts, output, model, ctx.obj)


def _report(counts: "WritingProgress", output: Path, model: str, resume: str) -> int:
    """Print the summary; returns the exit code."""
    earlier = f" ({counts.skipped:,} from earlier runs)" if counts.skipped else ""
    print(
        f"wrote {output / 'texts.jsonl'}: {counts.skipped + counts.finished:,} of "
        f"{counts.instructions:,} texts{earlier}, {counts.words:,} words in {counts.sections:,} "
        f"sections; {counts.usage.calls:,} calls, {tokens(model, counts.usage)}",
        file=sys.stderr,
    )
    print_counts("removed by cleaning", counts.cleaned)
    print_counts("retried", counts.rejected)
    if counts.without_length:
        print(f"{counts.without_length:,} name no length: the plan decided", file=sys.stderr)
    if counts.folded:
        print(f"{counts.folded:,} outgrew the context and used a summary", file=sys.stderr)
    if counts.bad_rows:
        print(
            f"{counts.bad_rows:,} bad rows skipped, see {output / 'bad_rows.jsonl'}",
            file=sys.stderr,
        )
    if not counts.missing:
        return int(counts.bad_rows > 0)
    if counts.stopped:
        print(f"stopped: {counts.stopped}", file=sys.stderr)
    print_counts(f"failed, see {output / 'failed.jsonl'}", counts.reasons)
    print(
        f"{counts.missing:,} of {counts.instructions:,} have no text; to resume: {resume}",
        file=sys.stderr,
    )
    return 1
