"""`longwriter score`: verdicts for a finished run."""

import argparse
import sys
from pathlib import Path
from typing import Any

from longwriter_eval.cli.judge_options import add_judge_options, judge_overrides


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "score",
        help="judge the samples of a finished run, or fill the gaps of its judging",
        description="Judge what has no verdict yet in the newest lm_eval run below RUN_DIR, and "
        "write new results beside it. Other judge settings judge it anew; where judges or repeats "
        "stand beside each other, their agreement is printed.",
    )
    command.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="lm_eval's --output_path")
    add_judge_options(command)
    command.set_defaults(run=_score)


def _score(options: argparse.Namespace) -> int:
    from longwriter_eval.rescoring import score
    from longwriter_eval.runs import load_runs
    from longwriter_eval.stats.agreement import agreement

    scored = score(options.run_dir, judge_overrides(options))
    print(scored.table)
    for found in agreement(load_runs(scored.path.parent)):
        print(*found.lines(), "", sep="\n")
    print(f"scored {scored.source}")
    print(f"wrote {scored.path}, with its samples beside it")
    if scored.missing:
        reasons = ", ".join(
            f"{reason} {number}" for reason, number in sorted(scored.missing.items())
        )
        print(
            f"{scored.missing.total()} of {scored.verdicts} verdicts are missing ({reasons}); to "
            f"ask again: {options.again}",
            file=sys.stderr,
        )
        return 1
    return 0
