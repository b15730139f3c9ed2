"""Options and summary lines that several commands share."""

import sys
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from agentwrite.settings import Settings
from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.batch.ray import Cluster
    from agentwrite.batch.run import Estimate

# The defaults and the help of these options stand in Settings.
DEFAULTS: dict[str, Any] = {name: field.default for name, field in Settings.model_fields.items()}


def _help(name: str) -> str | None:
    return Settings.model_fields[name].description


ModelName = Annotated[str, typer.Option("--model", help=_help("model"))]
BaseUrls = Annotated[
    list[str] | None, typer.Option("--base-url", metavar="URL", help=_help("base_urls"))
]
Concurrency = Annotated[int, typer.Option(metavar="N", help=_help("concurrency"))]
Parallel = Annotated[bool, typer.Option("--parallel", help=_help("parallel"))]
PromptSet = Annotated[str, typer.Option("--prompts", metavar="NAME", help=_help("prompts"))]
Context = Annotated[
    int | None, typer.Option("--context", min=1, metavar="TOKENS", help=_help("context"))
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print what would be called; call nothing")]

# Which instructions of a file.
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="only the first N rows")]
Length = Annotated[
    int | None,
    typer.Option(min=1, metavar="WORDS", help="required length where the row names none"),
]

Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="local: this process; ray: the workers of a Ray cluster"),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="address of the Ray cluster; default: RAY_ADDRESS, else a cluster on this machine",
    ),
]


def cluster(engine: Literal["local", "ray"], address: str | None) -> "Cluster | None":
    """The Ray cluster that the options name, if any. Raises InputError."""
    from agentwrite.batch.ray import Cluster

    if engine == "ray":
        return Cluster(address)
    if address:
        raise InputError("--ray-address is for --engine ray")
    return None


def print_counts(what: str, counts: Mapping[str, int]) -> None:
    """Print one line of a summary: how often each name was counted."""
    if counts:
        listed = ", ".join(f"{name} {n:,}" for name, n in Counter(counts).most_common())
        print(f"{what}: {listed}", file=sys.stderr)


class TokenCounts(Protocol):
    """Anything that counts tokens."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens that were sent."""

    @property
    def completion_tokens(self) -> int:
        """Tokens that were received."""


def tokens(model: str, spent: TokenCounts) -> str:
    """Tokens, and their cost where the model has a list price."""
    from longwriter_core.llm.prices import cost, money

    price = money(cost(model, spent.prompt_tokens, spent.completion_tokens))
    return (
        f"{spent.prompt_tokens:,} prompt and {spent.completion_tokens:,} completion tokens"
        f"{price and f', {price}'}"
    )


def print_estimate(estimate: "Estimate", settings: Settings) -> None:
    """Print what `--dry-run` found."""
    print(
        f"would ask {settings.model} at {settings.where} for {estimate.texts:,} texts: about "
        f"{estimate.calls:,} calls, {tokens(settings.model, estimate)}"
    )
    if estimate.without_length:
        print(f"{estimate.without_length:,} name no length and count as 5,000 words")
