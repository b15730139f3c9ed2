"""`agentwrite run`: a text for every instruction of a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentwrite.cli import options
from agentwrite.cli.options import print_counts, tokens
from agentwrite.cli.progress import ProgressLine
from agentwrite.settings import Settings

if TYPE_CHECKING:
    from agentwrite.batch.run import Tally


def command(
    ctx: typer.Context,
    instructions: Annotated[Path, typer.Argument(metavar="INSTRUCTIONS", help="JSONL file")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="run folder")],
    model: options.ModelName,
    base_url: options.BaseUrls = None,
    concurrency: options.Concurrency = options.DEFAULTS["concurrency"],
    limit: options.Limit = None,
    length: options.Length = None,
    parallel: options.Parallel = options.DEFAULTS["parallel"],
    prompts: options.PromptSet = options.DEFAULTS["prompts"],
    context: options.Context = options.DEFAULTS["context"],
    engine: options.Engine = "local",
    ray_address: options.RayAddress = None,
    dry_run: options.DryRun = False,
) -> int:
    """Write a text for every instruction of a JSONL file.

    Each row holds `instruction` (or `prompt`) and optionally `id` and `length` in words. Rerun the
    same command after any interruption to resume.
    """
    from agentwrite.batch.run import estimate, run

    settings = Settings.resolve(
        model=model,
        base_urls=base_url,
        concurrency=concurrency,
        parallel=parallel,
        prompts=prompts,
        context=context,
    )
    workers = options.cluster(engine, ray_address)
    if dry_run:
        expected = estimate(instructions, output, settings, limit=limit, default_length=length)
        options.print_estimate(expected, settings)
        return 0
    with ProgressLine("Writing", "text", model) as line:

        def progress(tally: "Tally") -> None:
            line.show(
                tally.skipped + tally.written + tally.failed, tally.instructions, tally.usage,
                sections=tally.sections, words=tally.words, failed=tally.failed,
            )  # fmt: skip

        tally = run(
            instructions, output, settings,
            limit=limit, default_length=length, cluster=workers, progress=progress,
        )  # fmt: skip
    return _report(tally, output, model, ctx.obj)


def _report(tally: "Tally", output: Path, model: str, resume: str) -> int:
    """Print the summary; returns the exit code."""
    earlier = f" ({tally.skipped:,} from earlier runs)" if tally.skipped else ""
    print(
        f"wrote {output / 'texts.jsonl'}: {tally.skipped + tally.finished:,} of "
        f"{tally.instructions:,} texts{earlier}, {tally.words:,} words in {tally.sections:,} "
        f"sections; {tally.usage.calls:,} calls, {tokens(model, tally.usage)}",
        file=sys.stderr,
    )
    print_counts("removed by cleaning", tally.cleaned)
    print_counts("retried", tally.rejected)
    if tally.planned:
        print(f"{tally.planned:,} name no length: the plan decided", file=sys.stderr)
    if tally.folded:
        print(f"{tally.folded:,} outgrew the context and used a summary", file=sys.stderr)
    if not tally.missing:
        return 0
    if tally.stopped:
        print(f"stopped: {tally.stopped}", file=sys.stderr)
    print_counts(f"failed, see {output / 'failed.jsonl'}", tally.reasons)
    print(
        f"{tally.missing:,} of {tally.instructions:,} have no text; to resume: {resume}",
        file=sys.stderr,
    )
    return 1
