"""`longwriter score`: verdicts for a finished run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from longwriter_eval.cli import judge_options


def command(
    ctx: typer.Context,
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="lm_eval's --output_path")],
    judge: judge_options.Profile = None,
    judge_model: judge_options.Model = None,
    judge_base_url: judge_options.BaseUrl = None,
    judge_prompt: judge_options.Prompt = None,
    judge_repeats: judge_options.Repeats = None,
    judge_segments: judge_options.Segments = None,
    judge_concurrency: judge_options.Concurrency = None,
    judge_temperature: judge_options.Temperature = None,
    judge_max_tokens: judge_options.MaxTokens = None,
    judge_extra: judge_options.Extra = None,
    max_cost: judge_options.MaxCost = None,
    batch: judge_options.Batch = False,
) -> int:
    """Judge those responses of a run that have no verdict.

    Reads the newest lm_eval run below RUN_DIR and writes new results beside it. Judge settings
    that are not given are those of the run; with other settings the responses are judged again. If
    there are verdicts of several judges or repeats, their agreement is printed.
    """
    from longwriter_eval.rescoring import score
    from longwriter_eval.runs import load_runs
    from longwriter_eval.stats.agreement import agreement

    scored = score(
        run_dir,
        judge_options.overrides(
            profile=judge,
            model=judge_model,
            base_url=judge_base_url,
            prompt=judge_prompt,
            repeats=judge_repeats,
            segments=judge_segments,
            concurrency=judge_concurrency,
            temperature=judge_temperature,
            max_tokens=judge_max_tokens,
            extra=judge_extra,
            max_cost=max_cost,
            batch=batch,
        ),
    )
    print(scored.table)
    for found in agreement(load_runs(scored.path.parent)):
        print(*found.lines(), "", sep="\n")
    print(f"scored {scored.source}")
    print(f"wrote {scored.path} and its samples beside it")
    if scored.gap:
        print(scored.gap, file=sys.stderr)
    if scored.missing:
        reasons = ", ".join(
            f"{reason} {number}" for reason, number in sorted(scored.missing.items())
        )
        print(
            f"{scored.missing.total()} of {scored.verdicts} verdicts are missing ({reasons}); to "
            f"retry: {ctx.obj}",
            file=sys.stderr,
        )
    return 1 if scored.missing or scored.gap else 0
