"""`longwriter demo`: the real lm_eval on 12 prompts."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "demo",
        help="run the real lm_eval on 12 prompts and write a report",
        description="Run lm_eval on longwrite_demo. Without --base-url a local stand-in plays "
        "writer and judge, and the scores mean nothing.",
    )
    command.add_argument("--base-url", help="OpenAI-compatible endpoint of the writer (…/v1)")
    command.add_argument("--model", help="the writer's name at that endpoint")
    command.add_argument(
        "--output", type=Path, default=Path("runs/demo"), help="default: runs/demo"
    )
    command.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from longwriter_eval import demo

    return demo.run(options.base_url, options.model, options.output)
