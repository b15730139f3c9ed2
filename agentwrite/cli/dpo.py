"""`agentwrite dpo`: DPO rows from a model's own answers."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentwrite.cli import mixing, options
from agentwrite.cli.options import print_counts, tokens
from agentwrite.cli.progress import ProgressLine
from agentwrite.settings import Settings
from agentwrite.thresholds import (
    SAMPLES,
    SAMPLING_MAX_TOKENS,
    SAMPLING_TEMPERATURE,
    SEED,
    SEQUENCE_LEN,
    PairOptions,
)
from longwriter_eval.cli import judge_options

if TYPE_CHECKING:
    from agentwrite.data.dpo import DpoSummary, SamplingProgress
    from agentwrite.data.dpo_estimate import DpoEstimate
    from longwriter_eval.judge.settings import JudgeSettings


def command(
    ctx: typer.Context,
    prompts: Annotated[Path, typer.Argument(metavar="PROMPTS", help="JSONL file, as for `run`")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="JSONL file; answers and verdicts are kept beside it, in a folder named FILE.run",
        ),
    ],
    model: options.ModelName,
    base_url: options.BaseUrls = None,
    concurrency: options.Concurrency = options.DEFAULTS["concurrency"],
    samples: Annotated[int, typer.Option(min=2, metavar="N", help="answers per prompt")] = SAMPLES,
    temperature: Annotated[
        float,
        typer.Option(
            min=0, max=2, metavar="T", help="sampling temperature, high so that answers differ"
        ),
    ] = SAMPLING_TEMPERATURE,
    max_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="token limit of an answer")
    ] = SAMPLING_MAX_TOKENS,
    rejected: Annotated[
        Literal["random", "worst"], typer.Option(help="which of the worse answers is rejected")
    ] = PairOptions.rejected,
    min_margin: Annotated[
        float,
        typer.Option(
            min=0, max=100, metavar="POINTS", help="how much higher the chosen answer must score"
        ),
    ] = PairOptions.min_margin,
    context: options.KnownContext = None,
    extra: options.Extra = "{}",
    timeout: options.Timeout = None,
    max_cost: options.MaxCost = None,
    limit: options.Limit = None,
    length: options.Length = None,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = None,
    steps: Annotated[
        bool,
        typer.Option("--steps", help="sample each section of a planned text, not whole answers"),
    ] = False,
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
    sequence_len: mixing.SequenceLen = SEQUENCE_LEN,
    general: mixing.GeneralSource = None,
    general_split: mixing.GeneralSplit = "train",
    ratio: mixing.Ratio = None,
    no_benchmark_check: mixing.NoBenchmarkCheck = False,
    seed: mixing.Seed = SEED,
    dry_run: options.DryRun = False,
) -> int:
    """Make DPO rows from a model's judged answers.

    Samples several answers to every prompt of a JSONL file, scores each by the mean of S_l and
    S_q, and writes pairs for axolotl's chat_template.default strategy. Rerun the same command after
    any interruption to resume.
    """
    import os

    from agentwrite.data.dpo import dpo
    from agentwrite.data.dpo_estimate import estimate
    from longwriter_core.llm.profiles import money
    from longwriter_eval.judge.settings import JudgeSettings

    settings = Settings.resolve(
        model=model,
        base_urls=base_url,
        concurrency=concurrency,
        context=context,
        extra=extra,
        timeout=timeout,
        max_cost=max_cost,
    )
    judging = JudgeSettings.resolve(
        judge_options.overrides(
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
        ),
        os.environ,
    )
    workers = options.cluster(engine, ray_address)
    common: dict[str, Any] = {
        "samples": samples,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "limit": limit,
        "default_length": length,
        "steps": steps,
        "general": mixing.general_set(general, ratio, general_split),
        "check_benchmarks": not no_benchmark_check,
    }
    if dry_run:
        _print_estimate(estimate(prompts, output, settings, judging, **common), settings, judging)
        return 0
    with ExitStack() as stack:
        bars = stack.enter_context(mixing.Bars())
        sampling = stack.enter_context(ExitStack())
        line = sampling.enter_context(ProgressLine("Sampling", "prompt"))

        def progress(tally: "SamplingProgress") -> None:
            line.show(
                tally.skipped + tally.finished + tally.failed, tally.instructions, tally.usage,
                answers=tally.answers, words=tally.words, failed=tally.failed,
                judge=f"judge {money(tally.judging.usd)}" if tally.judging.usd else "",
                state=tally.state,
            )  # fmt: skip

        def row_progress(kind: str) -> None:
            sampling.close()
            bars(kind)

        summary = dpo(
            prompts,
            output,
            settings,
            judging,
            pairs=PairOptions(rejected, min_margin, sequence_len, seed),
            progress=progress,
            row_progress=row_progress,
            cluster=workers,
            **common,
        )
    return _report(summary, model, judging.model, ctx.obj)


def _report(summary: "DpoSummary", model: str, judge: str, resume: str) -> int:
    """Print the summary; returns the exit code."""
    tally = summary.sampling
    if tally.answers:
        print(
            f"sampled {tally.answers:,} answers, {tally.words:,} words; {tally.usage.calls:,} "
            f"calls, {tokens(model, tally.usage)}",
            file=sys.stderr,
        )
        print(
            f"judged by {judge}: {tally.judging.calls:,} calls, {tokens(judge, tally.judging)}",
            file=sys.stderr,
        )
    mixing.print_mix(summary.mix, "pairs")
    if not tally.missing:
        return 0 if summary.pairs else 1
    if tally.stopped:
        print(f"stopped: {tally.stopped}", file=sys.stderr)
    print_counts(f"failed, see {summary.folder / 'failed.jsonl'}", tally.reasons)
    print(
        f"{tally.missing:,} of {tally.instructions:,} prompts have no judged answers; to resume: "
        f"{resume}",
        file=sys.stderr,
    )
    return 1


def _print_estimate(estimated: "DpoEstimate", settings: Settings, judge: "JudgeSettings") -> None:
    from longwriter_core.llm.profiles import cost, money
    from longwriter_core.redact import public_url

    where = public_url(judge.base_url) if judge.base_url else "the default OpenAI endpoint"
    for who, calls, prompt_tokens, completion_tokens, usd in (
        (
            f"{settings.model} at {settings.where}",
            estimated.calls,
            estimated.prompt_tokens,
            estimated.completion_tokens,
            cost(settings.model, estimated.prompt_tokens, estimated.completion_tokens),
        ),
        (
            f"the judge {judge.model} at {where}",
            estimated.judge_calls,
            estimated.judge_prompt_tokens,
            estimated.judge_completion_tokens,
            judge.cost(estimated.judge_prompt_tokens, estimated.judge_completion_tokens),
        ),
    ):
        price = money(usd)
        print(
            f"would ask {who} for {estimated.prompts:,} prompts: about {calls:,} calls, "
            f"{prompt_tokens:,} prompt and {completion_tokens:,} completion tokens"
            f"{price and f', {price}'}"
        )
