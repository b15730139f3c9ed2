"""Options and summary lines that several commands share."""

import random
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from agentwrite.settings import Settings
from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.batch.ray import Cluster
    from agentwrite.estimate import Estimate

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
KnownContext = Annotated[
    int | None,
    typer.Option(
        "--context",
        min=1,
        metavar="TOKENS",
        help="context length of the model in tokens, prompt and reply, checked before any call; "
        "default: that of the model's profile, if any",
    ),
]
MaxTokens = Annotated[int, typer.Option(min=1, metavar="TOKENS", help=_help("max_tokens"))]
Temperature = Annotated[float, typer.Option(metavar="T", help=_help("temperature"))]
Extra = Annotated[str, typer.Option(metavar="JSON", help=_help("extra"))]
PlanModel = Annotated[str | None, typer.Option(metavar="MODEL", help=_help("plan_model"))]
SummaryModel = Annotated[str | None, typer.Option(metavar="MODEL", help=_help("summary_model"))]
Story = Annotated[bool, typer.Option("--story", help=_help("story"))]
Critic = Annotated[bool, typer.Option("--critic", help=_help("critic"))]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help=_help("timeout"))]
MaxCost = Annotated[float | None, typer.Option(metavar="USD", help=_help("max_cost"))]

# For a text that is written: without them, as it was written.
KeptMaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", min=1, metavar="TOKENS",
        help=f"{_help('max_tokens')}; default: as the text was written",
    ),
]  # fmt: skip
KeptTemperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", metavar="T",
        help=f"{_help('temperature')}; default: as the text was written",
    ),
]  # fmt: skip
KeptExtra = Annotated[
    str | None,
    typer.Option(
        "--extra", metavar="JSON", help=f"{_help('extra')}; default: as the text was written"
    ),
]  # fmt: skip

Batch = Annotated[bool, typer.Option("--batch", help=_help("batch"))]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print what would be called; call nothing")]

# Another text for the same command.
Seed = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="write another text than without, or with another seed"),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="take nothing from the store: a seed of its own is drawn")
]

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


def check_output(output: Path | None, what: str) -> None:
    """Raise InputError unless `output` can be a file."""
    if output and output.is_dir():
        raise InputError(f"{output} is a folder: name a file for {what}")
    if output and not output.absolute().parent.is_dir():
        raise InputError(f"there is no folder {output.absolute().parent}")


def chosen_seed(seed: int | None, fresh: bool) -> int | None:
    """The seed that --seed or --fresh names; a drawn one is printed, so that a run can resume."""
    if not fresh:
        return seed
    if seed is not None:
        raise InputError("--fresh draws a seed itself: give --fresh or --seed")
    drawn = random.SystemRandom().randrange(1, 1_000_000)
    print(
        f"--fresh draws seed {drawn}; to resume, replace --fresh by --seed {drawn}", file=sys.stderr
    )
    return drawn


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
    """Tokens, and their cost where the model has a list price: that of the calls, if any."""
    from longwriter_core.llm import Usage
    from longwriter_core.llm.profiles import cost, money

    usd = spent.usd if isinstance(spent, Usage) else 0.0
    price = money(usd or cost(model, spent.prompt_tokens, spent.completion_tokens))
    return (
        f"{spent.prompt_tokens:,} prompt and {spent.completion_tokens:,} completion tokens"
        f"{price and f', {price}'}"
    )


def print_estimate(estimate: "Estimate", settings: Settings) -> None:
    """Print what `--dry-run` found."""
    from longwriter_core.llm.profiles import money

    price = f", {money(estimate.usd)}" if estimate.usd else ""
    print(
        f"would ask {settings.model} at {settings.where} for {estimate.texts:,} texts: about "
        f"{estimate.calls:,} calls, {estimate.prompt_tokens:,} prompt and "
        f"{estimate.completion_tokens:,} completion tokens{price}"
    )
    if estimate.cached_tokens:
        price = f": {money(estimate.cached_usd)} in all" if estimate.cached_usd else ""
        print(
            f"{estimate.cached_tokens:,} of the prompt tokens repeat the beginning of an earlier "
            f"prompt, which a prefix cache saves{price}"
        )
    if estimate.without_length:
        print(f"{estimate.without_length:,} name no length and count as 5,000 words")
