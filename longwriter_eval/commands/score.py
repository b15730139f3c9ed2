"""`longwriter score`: verdicts for a finished run."""

import argparse
import sys
from pathlib import Path
from typing import Any

# Settings of the judge, as options.
_JUDGE_OPTIONS = {
    "model": "the judge's name at its endpoint",
    "base_url": "OpenAI-compatible endpoint of the judge (…/v1)",
    "prompt": "official, longwriter, or a file with $INST$ and $RESPONSE$",
    "repeats": "verdicts per response, averaged",
    "concurrency": "calls in flight",
}


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "score",
        help="judge the samples of a finished run, or fill the gaps of its judging",
        description="Judge what has no verdict yet in the newest lm_eval run below RUN_DIR, and "
        "write new results beside it. Other judge settings judge it anew.",
    )
    command.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="lm_eval's --output_path")
    add_judge_options(command)
    command.set_defaults(run=_score)


def add_judge_options(command: argparse.ArgumentParser) -> None:
    """Options of every command that judges."""
    for name, help_text in _JUDGE_OPTIONS.items():
        option = f"--judge-{name}".replace("_", "-")
        command.add_argument(option, metavar=name.upper(), help=help_text)


def judge_options(options: argparse.Namespace) -> dict[str, str]:
    """The judge's settings that were given as options, by their name in metadata."""
    given = {name: getattr(options, name) for name in (f"judge_{name}" for name in _JUDGE_OPTIONS)}
    return {name: value for name, value in given.items() if value}


def _score(options: argparse.Namespace) -> int:
    from longwriter_eval.score import score

    scored = score(options.run_dir, judge_options(options))
    print(scored.table)
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
