"""Settings from options, the environment and defaults."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from longwriter_core.errors import InputError
from longwriter_core.settings import Count, OptionalUrl, Text, resolve


class Example(BaseModel):
    """Settings of a writer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Text = Field(description="name of the model")
    concurrency: Count = Field(default=32, description="calls in flight")
    temperature: float = Field(default=0.5, ge=0, le=2, description="sampling temperature")
    base_url: OptionalUrl = Field(default=None, description="address of the endpoint")


def refusal(**options: Any) -> str:
    with pytest.raises(InputError) as refused:
        resolve(Example, options, {})
    (line,) = str(refused.value).splitlines()
    return line


def test_options_win_over_the_environment_which_wins_over_defaults() -> None:
    environment = {"X_CONCURRENCY": "5", "X_MODEL": "from-environment", "Y_MODEL": "other"}
    settings = resolve(
        Example, {"model": "m"}, environment, environment_prefix="X_", defaults={"temperature": 1}
    )
    assert (settings.model, settings.concurrency, settings.temperature) == ("m", 5, 1)


def test_without_an_environment_prefix_no_variable_is_read() -> None:
    assert resolve(Example, {"model": "m"}, {"CONCURRENCY": "5"}).concurrency == 32


def test_a_fallback_variable_is_read_last() -> None:
    environment, fallbacks = {"OPENAI_BASE_URL": "http://o/v1"}, {"base_url": "OPENAI_BASE_URL"}
    settings = resolve(Example, {"model": "m"}, environment, fallbacks=fallbacks)
    assert settings.base_url == "http://o/v1"
    given = {"model": "m", "base_url": "http://m/v1"}
    assert resolve(Example, given, environment, fallbacks=fallbacks).base_url == "http://m/v1"


def test_all_problems_are_reported_in_one_line() -> None:
    line = refusal(concurrency=0, temperature=3, base_url="me:hunter2@host", modle="m")
    assert "concurrency must be a whole number from 1 to 1024, not 0" in line
    assert "temperature must be less than or equal to 2, not 3" in line
    assert "base_url must be a URL" in line
    assert "modle is unknown (known: model)" in line
    assert "model must be given" in line
    assert "hunter2" not in line
