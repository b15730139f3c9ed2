"""What the commands share: options that name who is asked, and lines of the summary."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.batch.ray import Cluster
    from agentwrite.batch.run import Estimate
    from agentwrite.settings import Settings


def add_endpoint_options(
    command: argparse.ArgumentParser, *, dry_run: bool = True, needs_model: bool = True
) -> None:
    """Options of every command that asks a model."""
    command.add_argument(
        "--base-url", action="append", default=[], metavar="URL",
        help="OpenAI-compatible endpoint (…/v1); given more than once, they share the load",
    )  # fmt: skip
    command.add_argument("--model", required=needs_model, help="the model's name at its endpoint")
    command.add_argument(
        "--concurrency", type=positive, default=32, metavar="N",
        help="calls in flight (default: 32)",
    )  # fmt: skip
    if dry_run:
        command.add_argument(
            "--dry-run", action="store_true", help="say what it would call, and call nothing"
        )


def add_cluster_options(command: argparse.ArgumentParser) -> None:
    """Options of the commands that a cluster may work for."""
    command.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="local (this process, the default), or ray: the workers of a Ray cluster",
    )  # fmt: skip
    command.add_argument(
        "--ray-address", metavar="ADDRESS",
        help="of the cluster; default: RAY_ADDRESS, else one of this machine",
    )  # fmt: skip


def cluster(options: argparse.Namespace) -> "Cluster | None":
    """The cluster that the options name. Raises InputError."""
    from agentwrite.batch.ray import Cluster

    if options.engine == "ray":
        return Cluster(options.ray_address)
    if options.ray_address:
        raise InputError("--ray-address is for --engine ray")
    return None


def add_writing_options(command: argparse.ArgumentParser) -> None:
    """Options of the commands that plan and write."""
    command.add_argument(
        "--parallel", action="store_true",
        help="write all steps at once, without the text so far: faster, less coherent",
    )  # fmt: skip
    command.add_argument(
        "--prompts", default="longwriter", metavar="NAME",
        help="longwriter (ours, the default), official (the paper's), or a folder",
    )  # fmt: skip
    command.add_argument(
        "--context", type=positive, metavar="TOKENS",
        help="what the model takes, prompt and answer; beyond it, the oldest text is summed up",
    )  # fmt: skip


def positive(text: str) -> int:
    """A whole number from 1, as an option's type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def writing_settings(options: argparse.Namespace) -> "Settings":
    """Checked settings of a command that plans and writes. Raises InputError."""
    from agentwrite.settings import Settings

    return Settings.resolve(
        model=options.model,
        base_urls=tuple(options.base_url),
        concurrency=options.concurrency,
        parallel=options.parallel,
        prompts=options.prompts,
        context=options.context,
    )


def print_counts(what: str, counts: Mapping[str, int]) -> None:
    """One line of the summary: what, and how often each."""
    if counts:
        listed = ", ".join(f"{name} {n:,}" for name, n in Counter(counts).most_common())
        print(f"{what}: {listed}", file=sys.stderr)


class Tokens(Protocol):
    """What counts tokens."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of what was sent."""

    @property
    def completion_tokens(self) -> int:
        """Tokens of what came back."""


def tokens(model: str, spent: Tokens) -> str:
    """Tokens, and what they cost by the model's list price, where it has one."""
    from longwriter_core.llm.prices import cost, money

    price = money(cost(model, spent.prompt_tokens, spent.completion_tokens))
    return (
        f"{spent.prompt_tokens:,} prompt and {spent.completion_tokens:,} completion tokens"
        f"{price and f', {price}'}"
    )


def print_estimate(found: "Estimate", settings: "Settings") -> None:
    """What `--dry-run` says."""
    print(
        f"would ask {settings.model} at {settings.where} for {found.texts:,} texts: about "
        f"{found.calls:,} calls, {tokens(settings.model, found)}"
    )
    if found.without_length:
        print(f"{found.without_length:,} name no length and count as 5,000 words")
