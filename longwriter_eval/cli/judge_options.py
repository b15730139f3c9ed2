"""The judge's settings as command-line options, with the help texts of JudgeSettings' fields."""

from typing import Annotated, Any

import typer

from longwriter_eval.judge.settings import JudgeSettings


def _option(field: str, metavar: str, name: str = "") -> Any:
    name = name or f"--judge-{field}".replace("_", "-")
    return typer.Option(name, metavar=metavar, help=JudgeSettings.model_fields[field].description)


# Values are checked by JudgeSettings.resolve, which reports every problem at once.
Profile = Annotated[str | None, _option("profile", "PROFILE", "--judge")]
Temperature = Annotated[str | None, _option("temperature", "T")]
MaxTokens = Annotated[str | None, _option("max_tokens", "N")]
Extra = Annotated[str | None, _option("extra", "JSON")]
MaxCost = Annotated[str | None, _option("max_cost", "USD", "--max-cost")]
Model = Annotated[str | None, _option("model", "NAME")]
BaseUrl = Annotated[str | None, _option("base_url", "URL")]
Prompt = Annotated[str | None, _option("prompt", "PROMPT")]
Segments = Annotated[str | None, _option("segments", "N")]
Repeats = Annotated[str | None, _option("repeats", "N")]
Batch = Annotated[
    bool, typer.Option("--batch", help=JudgeSettings.model_fields["batch"].description)
]
Concurrency = Annotated[str | None, _option("concurrency", "N")]


def overrides(**settings: str | bool | None) -> dict[str, Any]:
    """The settings that were given, by their metadata names (judge_model, …)."""
    return {
        "judge" if name == "profile" else f"judge_{name}": value
        for name, value in settings.items()
        if value is not None and value is not False
    }
