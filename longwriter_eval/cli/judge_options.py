"""The judge's settings as options, shared by the commands that ask one."""

import argparse
from collections.abc import Iterable
from typing import Annotated

import typer

_OPTIONS = {
    "model": "the judge's name at its endpoint",
    "base_url": "OpenAI-compatible endpoint of the judge (…/v1)",
    "prompt": "official, longwriter, or a file with $INST$ and $RESPONSE$",
    "repeats": "verdicts per response, averaged",
    "concurrency": "calls in flight",
}


def add_judge_options(
    command: argparse.ArgumentParser, names: Iterable[str] = tuple(_OPTIONS)
) -> None:
    """Add --judge-NAME for each of `names`."""
    for name in names:
        option = f"--judge-{name}".replace("_", "-")
        command.add_argument(option, metavar=name.upper(), help=_OPTIONS[name])


def judge_overrides(options: argparse.Namespace) -> dict[str, str]:
    """The judge settings that were given, by their metadata names (judge_model, …)."""
    given = {f"judge_{name}": getattr(options, f"judge_{name}", None) for name in _OPTIONS}
    return {name: value for name, value in given.items() if value}


# The same options for typed commands.
Model = Annotated[str | None, typer.Option("--judge-model", help=_OPTIONS["model"])]
BaseUrl = Annotated[
    str | None, typer.Option("--judge-base-url", metavar="URL", help=_OPTIONS["base_url"])
]
Prompt = Annotated[str | None, typer.Option("--judge-prompt", help=_OPTIONS["prompt"])]
Repeats = Annotated[
    str | None, typer.Option("--judge-repeats", metavar="N", help=_OPTIONS["repeats"])
]
Concurrency = Annotated[
    str | None, typer.Option("--judge-concurrency", metavar="N", help=_OPTIONS["concurrency"])
]
