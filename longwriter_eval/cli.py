"""The `longwriter` command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from longwriter_eval.command import run_command

# Settings of the judge, as options of `longwriter score`.
_JUDGE_OPTIONS = {
    "model": "the judge's name at its endpoint",
    "base_url": "OpenAI-compatible endpoint of the judge (…/v1)",
    "prompt": "official, longwriter, or a file with $INST$ and $RESPONSE$",
    "repeats": "verdicts per response, averaged",
    "concurrency": "calls in flight",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 something is missing, 2 bad input."""
    return run_command(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="longwriter", description="Measure very long writing with language models."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    assets = commands.add_parser(
        "assets", help="show, fetch and verify upstream's benchmark files and prompts"
    )
    assets.add_argument("--fetch", action="store_true", help="download what is missing or wrong")
    assets.set_defaults(run=_assets)

    demo = commands.add_parser(
        "demo",
        help="run the real lm_eval on 12 prompts and write a report",
        description="Run lm_eval on longwrite_demo. Without --base-url a local stand-in plays "
        "writer and judge, and the scores mean nothing.",
    )
    demo.add_argument("--base-url", help="OpenAI-compatible endpoint of the writer (…/v1)")
    demo.add_argument("--model", help="the writer's name at that endpoint")
    demo.add_argument("--output", type=Path, default=Path("runs/demo"), help="default: runs/demo")
    demo.set_defaults(run=_demo)

    score = commands.add_parser(
        "score",
        help="judge the samples of a finished run, or fill the gaps of its judging",
        description="Judge what has no verdict yet in the newest lm_eval run below RUN_DIR, and "
        "write new results beside it. Other judge settings judge it anew.",
    )
    score.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="lm_eval's --output_path")
    for name, help_text in _JUDGE_OPTIONS.items():
        option = f"--judge-{name}".replace("_", "-")
        score.add_argument(option, metavar=name.upper(), help=help_text)
    score.set_defaults(run=_score)
    return parser


def _assets(options: argparse.Namespace) -> int:
    from longwriter_eval import assets

    wrong = 0
    for name in assets.ASSETS:
        if options.fetch and assets.state(name) != "ok":
            assets.fetch(name)
        state = assets.state(name)
        wrong += state != "ok"
        print(f"{state:<10}  {name:<24}  {assets.location(name)}")
    if wrong:
        print(f"{wrong} of {len(assets.ASSETS)} are not here: longwriter assets --fetch")
    return 1 if wrong else 0


def _demo(options: argparse.Namespace) -> int:
    from longwriter_eval import demo

    return demo.run(options.base_url, options.model, options.output)


def _score(options: argparse.Namespace) -> int:
    from longwriter_eval.score import score

    given = {name: getattr(options, name) for name in (f"judge_{name}" for name in _JUDGE_OPTIONS)}
    scored = score(options.run_dir, {name: value for name, value in given.items() if value})
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
