"""`agentwrite dpo`: DPO rows from a model's own answers."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentwrite.cli.mixing import Bars, add_mixing_options, general_option, number, print_mixed
from agentwrite.cli.options import (
    add_cluster_options,
    add_endpoint_options,
    cluster,
    positive,
    print_counts,
    tokens,
)
from agentwrite.cli.progress import ProgressLine
from longwriter_eval.cli.judge_options import add_judge_options, judge_overrides

if TYPE_CHECKING:
    from agentwrite.data.dpo import Dpo, Estimate, Tally
    from agentwrite.settings import Settings
    from longwriter_eval.judge.settings import JudgeSettings


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "dpo",
        help="make DPO rows of a model's judged answers",
        description="Sample several answers to every prompt of a JSONL file, score each by the "
        "mean of S_l and S_q, and write pairs for axolotl's chat_template.default strategy. Run "
        "again, it goes on where it was.",
    )
    command.add_argument("prompts", metavar="PROMPTS", type=Path, help="a JSONL file, as for run")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE",
        help="a JSONL file; answers and verdicts are kept in FILE's folder, under its name + .run",
    )  # fmt: skip
    command.add_argument(
        "--samples", type=positive, default=4, metavar="N", help="answers per prompt (default: 4)"
    )
    command.add_argument(
        "--temperature", type=number(0, 2), default=0.8, metavar="T",
        help="of the answers (default: 0.8, so that they differ)",
    )  # fmt: skip
    command.add_argument(
        "--max-tokens", type=positive, default=32_768, metavar="N",
        help="of an answer (default: 32,768)",
    )  # fmt: skip
    command.add_argument(
        "--rejected", choices=("random", "worst"), default="random",
        help="which of the worse answers is rejected (default: random)",
    )  # fmt: skip
    command.add_argument(
        "--min-margin", type=number(0, 100), default=5.0, metavar="POINTS",
        help="by how much the chosen answer must score higher (default: 5)",
    )  # fmt: skip
    command.add_argument("--limit", type=positive, metavar="N", help="only the first N prompts")
    command.add_argument(
        "--length", type=positive, metavar="WORDS", help="length where none is named"
    )
    add_cluster_options(command)
    add_endpoint_options(command)
    add_judge_options(command)
    add_mixing_options(command, "a preference set")
    command.set_defaults(run=_dpo)


def _dpo(options: argparse.Namespace) -> int:
    import os

    from agentwrite.data.dpo import dpo, estimate
    from agentwrite.data.preference import Choice
    from agentwrite.settings import Settings
    from longwriter_core.errors import InputError
    from longwriter_core.llm.prices import cost, money
    from longwriter_eval.judge.settings import JudgeSettings

    if options.samples < 2:
        raise InputError("--samples must be 2 or more: a pair takes two answers")
    settings = Settings.resolve(
        model=options.model,
        base_urls=tuple(options.base_url),
        concurrency=options.concurrency,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
    )
    judge = JudgeSettings.resolve(judge_overrides(options), os.environ)
    workers = cluster(options)
    choice = Choice(options.rejected, options.min_margin, options.sequence_len, options.seed)
    general = general_option(options)
    common: dict[str, Any] = {
        "samples": options.samples,
        "limit": options.limit,
        "default_length": options.length,
        "general": general,
        "check": not options.no_benchmark_check,
    }
    if options.dry_run:
        _print_estimate(
            estimate(options.prompts, options.output, settings, judge, **common), settings, judge
        )
        return 0
    with ExitStack() as stack:
        bars = stack.enter_context(Bars())
        sampling = stack.enter_context(ExitStack())
        line = sampling.enter_context(ProgressLine("Sampling", "prompt", settings.model))

        def progress(tally: "Tally") -> None:
            judging = money(
                cost(judge.model, tally.judging.prompt_tokens, tally.judging.completion_tokens)
            )
            line.show(
                tally.skipped + tally.finished + tally.failed, tally.instructions, tally.usage,
                answers=tally.answers, words=tally.words, failed=tally.failed,
                judge=judging and f"judge {judging}",
            )  # fmt: skip

        def mixing(what: str) -> None:
            sampling.close()
            bars(what)

        made = dpo(
            options.prompts,
            options.output,
            settings,
            judge,
            choice=choice,
            progress=progress,
            mixing=mixing,
            cluster=workers,
            **common,
        )
    return _report(made, judge.model, options)


def _report(made: "Dpo", judge: str, options: argparse.Namespace) -> int:
    """Print the summary; returns the exit code."""
    tally = made.tally
    if tally.answers:
        print(
            f"sampled {tally.answers:,} answers, {tally.words:,} words; {tally.usage.calls:,} "
            f"calls, {tokens(options.model, tally.usage)}",
            file=sys.stderr,
        )
        print(
            f"judged by {judge}: {tally.judging.calls:,} calls, {tokens(judge, tally.judging)}",
            file=sys.stderr,
        )
    print_mixed(made.mixed, "pairs")
    if not tally.missing:
        return 0 if made.pairs else 1
    if tally.stopped:
        print(f"stopped: {tally.stopped}", file=sys.stderr)
    print_counts(f"failed, see {made.folder / 'failed.jsonl'}", tally.reasons)
    print(
        f"{tally.missing:,} of {tally.instructions:,} prompts have no judged answers; to go on: "
        f"{options.again}",
        file=sys.stderr,
    )
    return 1


def _print_estimate(found: "Estimate", settings: "Settings", judge: "JudgeSettings") -> None:
    from longwriter_core.llm import public_url
    from longwriter_core.llm.prices import cost, money

    where = public_url(judge.base_url) if judge.base_url else "the default OpenAI endpoint"
    for model, who, calls, prompt_tokens, completion_tokens in (
        (
            settings.model,
            f"{settings.model} at {settings.where}",
            found.calls,
            found.prompt_tokens,
            found.completion_tokens,
        ),
        (
            judge.model,
            f"the judge {judge.model} at {where}",
            found.judge_calls,
            found.judge_prompt_tokens,
            found.judge_completion_tokens,
        ),
    ):
        price = money(cost(model, prompt_tokens, completion_tokens))
        print(
            f"would ask {who} for {found.prompts:,} prompts: about {calls:,} calls, "
            f"{prompt_tokens:,} prompt and {completion_tokens:,} completion tokens"
            f"{price and f', {price}'}"
        )
