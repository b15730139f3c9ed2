"""Models' parameters, prices and shutdown dates, from profiles.toml and an optional user file.

LONGWRITER_PROFILES=FILE, or ~/.config/longwriter/profiles.toml, adds to the shipped profiles and
overrides them. LONGWRITER_PRICES=FILE sets only prices:

    [mine.models]
    "my-model" = [0.10, 0.40]    # USD per million tokens: prompt, completion
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from longwriter_core.errors import InputError
from longwriter_core.redact import NOT_A_URL, public_url

OPENAI = "https://api.openai.com/v1"

# Dated snapshots such as gpt-4.1-2025-04-14 cost the same as their model, unless listed.
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$|-\d{8}$")
_CONFIG = "longwriter/profiles.toml"
# Rough token counts per judge call in LongBench-Write: prompt, reply, and thinking.
RESPONSES = 120
_PROMPT_TOKENS, _REPLY_TOKENS, _THINKING_TOKENS = 4_000, 400, 2_000


class Prices(BaseModel):
    """USD per million tokens. Cached prompt tokens have the same price unless one is given."""

    model_config = ConfigDict(frozen=True)

    prompt: float
    completion: float
    cached: float

    @classmethod
    def of(cls, numbers: Any) -> "Prices":
        """From [prompt, completion] or [prompt, cached, completion]; raises ValueError."""
        is_list = isinstance(numbers, list) and all(
            isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < float("inf")
            for n in numbers
        )
        if not is_list or len(numbers) not in (2, 3):
            raise ValueError("is not two or three numbers from 0 (prompt, cached, completion)")
        return cls(prompt=numbers[0], cached=numbers[-2], completion=numbers[-1])

    def scaled(self, factor: float) -> "Prices":
        """The same prices with a discount or a surcharge."""
        return Prices(
            prompt=self.prompt * factor,
            completion=self.completion * factor,
            cached=self.cached * factor,
        )

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """The cost in USD of these tokens. `cached_tokens` is part of `prompt_tokens`."""
        cached = min(max(cached_tokens, 0), prompt_tokens)
        usd = (prompt_tokens - cached) * self.prompt + cached * self.cached
        return (usd + completion_tokens * self.completion) / 1e6


# Fields of a request that a profile's `extra` may not set.
_RESERVED = {
    "model", "messages", "prompt", "stream", "n", "repeats", "temperature", "max_tokens",
    "max_completion_tokens",
}  # fmt: skip


class Profile(BaseModel):
    """One model's settings as a judge, and known facts about it. None means unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: str = Field(min_length=1)
    endpoint: str | None = None
    key: str | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    max_tokens: int = Field(default=1024, ge=1)
    reasoning_effort: str | None = None
    structured_output: bool = False
    extra: dict[str, Any] = {}
    thinks: bool = False
    prices: Prices | None = None
    prices_until: date | None = None
    context_window: int | None = Field(default=None, ge=1)
    shutdown_date: date | None = None
    note: str = ""
    sources: dict[str, str] = {}

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name != name.strip() or re.search(r"[,+\n]", name):
            raise ValueError("is no name for a profile: commas and plus signs separate judges")
        return name

    @field_validator("extra")
    @classmethod
    def _check_extra(cls, fields: dict[str, Any]) -> dict[str, Any]:
        # What has a key of its own, or belongs to the caller, would be sent but not be recorded.
        if own := sorted(_RESERVED & fields.keys()):
            raise ValueError(
                f"must not set {', '.join(own)}: the model, its temperature and its token limit "
                "have keys of their own, and the rest is up to the caller"
            )
        try:
            json.dumps(fields, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise ValueError("must hold values that JSON can hold") from None
        return fields

    @field_validator("prices", mode="before")
    @classmethod
    def _read_prices(cls, numbers: Any) -> Any:
        return None if numbers is None else Prices.of(numbers)

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, url: str | None) -> str | None:
        if url is not None and (
            not url or public_url(url) in (NOT_A_URL, "") or public_url(url) != url
        ):
            raise ValueError("is not a plain URL like https://host/v1")
        return url and url.rstrip("/")

    def is_own_endpoint(self, base_url: str | None) -> bool:
        """Whether `base_url` (None: OpenAI's) is the provider's own, to which the facts apply."""
        return self.endpoint == (base_url or OPENAI).rstrip("/")

    def is_shut_down(self, base_url: str | None, day: date) -> bool:
        """Whether the provider has shut it down by `day`; other servers may still offer it."""
        ends = self.shutdown_date
        return ends is not None and ends <= day and self.is_own_endpoint(base_url)

    def run_cost(self, day: date) -> float | None:
        """Estimated USD for judging 120 LongBench-Write responses; None if unknown."""
        prices = self.prices_on(day)
        reply = _REPLY_TOKENS + (_THINKING_TOKENS if self.thinks else 0)
        return RESPONSES * prices.cost(_PROMPT_TOKENS, reply) if prices else None

    def prices_on(self, day: date) -> Prices | None:
        """The list prices valid on `day`."""
        return None if self.prices_until and day > self.prices_until else self.prices


def today() -> date:
    """The current date, with which shutdown dates are compared. Tests replace this function."""
    return date.today()


def profiles() -> dict[str, Profile]:
    """All profiles by name: the package's and the user's.

    Raises InputError with a one-line message for an unusable file.
    """
    return {**_load("")[0], **_load(_own_file())[0]}


def find_profile(name: str) -> Profile:
    """The profile of that name. Raises InputError, which lists the known profiles."""
    known = profiles()
    if name not in known:
        close = difflib.get_close_matches(name, known, 1, 0.6)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(
            f"there is no profile {name!r}: {hint}known are {', '.join(known)}; any other model "
            "is named by judge_model"
        )
    return known[name]


def profile_of_model(model: str, base_url: str | None) -> Profile | None:
    """The profile of a model at its provider's own endpoint, or None."""
    matching = (profile for profile in profiles().values() if profile.model == model)
    return next((profile for profile in matching if profile.is_own_endpoint(base_url)), None)


def living_profiles(day: date) -> list[str]:
    """The names of the profiles that are not shut down on `day`."""
    return [
        name
        for name, profile in profiles().items()
        if not profile.is_shut_down(profile.endpoint, day)
    ]


def own_prices_of(model: str) -> Prices | None:
    """The prices of a model in the user's file LONGWRITER_PRICES; None without an entry.

    Raises InputError if the file cannot be used.
    """
    listed = _load_prices(_prices_file())
    return listed.get(model) or listed.get(_SNAPSHOT.sub("", model))


def prices_of(model: str, day: date | None = None) -> Prices | None:
    """The list prices of a model, by its name at the endpoint; None if unknown.

    Raises InputError if a file of prices or profiles cannot be used.
    """
    for name in dict.fromkeys((model, _SNAPSHOT.sub("", model))):
        for known, listed in (({}, _load_prices(_prices_file())), _load(_own_file()), _load("")):
            if name in listed:
                return listed[name]
            matching = [
                profile for profile in known.values() if profile.model == name and profile.prices
            ]
            if matching:
                return matching[0].prices_on(day or date.min)
    return None


def cost(
    model: str, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
) -> float | None:
    """The cost in USD of these tokens at the list prices of `model`; None if unknown."""
    prices = prices_of(model)
    return prices.cost(prompt_tokens, completion_tokens, cached_tokens) if prices else None


def money(usd: float | None) -> str:
    """An amount for people to read, such as $1,234.50 or $0.0042; "" if unknown."""
    if usd is None:
        return ""
    return f"${usd:,.2f}" if usd == 0 or usd >= 0.1 else f"${usd:.2g}"


def _own_file() -> str:
    if path := os.environ.get("LONGWRITER_PROFILES"):
        return path
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    default = Path(config).expanduser() / _CONFIG
    return str(default) if default.is_file() else ""


def _prices_file() -> str:
    return os.environ.get("LONGWRITER_PRICES", "")


@cache
def _load(path: str) -> tuple[dict[str, Profile], dict[str, Prices]]:
    """The profiles and prices in a file; "" means the package's own file."""
    where = path or "profiles.toml"
    tables = _tables(path, "profiles")
    problems = [f"unknown table [{name}]" for name in tables if name not in ("profiles", "prices")]
    known: dict[str, Profile] = {}
    entries = tables.get("profiles", {})
    if not isinstance(entries, dict):
        entries, problems = {}, [*problems, "profiles is no table"]
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            problems.append(f"[profiles.{name}] is no table")
            continue
        try:
            known[name] = Profile(name=name, **entry)
        except ValidationError as error:
            problems += [_problem(name, problem) for problem in error.errors()]
        except TypeError:  # the table has a key "name", which conflicts with the table's name
            problems.append(f"[profiles.{name}] name: unknown key")
    if problems:
        raise InputError(f"{where}: {'; '.join(problems)}")
    try:
        return known, _read_prices(tables.get("prices", {}))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _problem(profile: str, error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, Profile.model_fields, 1, 0.6)
        return f"[profiles.{profile}] {key}: unknown key" + (
            f" (did you mean {close[0]}?)" if close else ""
        )
    if error["type"] == "value_error":
        return f"[profiles.{profile}] {key} {error['ctx']['error']}"
    return f"[profiles.{profile}] {key}: {error['msg']}"


@cache
def _load_prices(path: str) -> dict[str, Prices]:
    """The prices in the file that LONGWRITER_PRICES names; empty for ""."""
    if not path:
        return {}
    try:
        return _read_prices(_tables(path, "prices"))
    except ValueError as error:
        raise InputError(
            f"LONGWRITER_PRICES={path}: {error}; it must look like\n"
            '[mine.models]\n"my-model" = [0.10, 0.40]'
        ) from error


def _tables(path: str, kind: str) -> dict[str, Any]:
    if not path:
        text = (files("longwriter_core.llm") / "profiles.toml").read_text(encoding="utf-8")
        return tomllib.loads(text)
    where = f"LONGWRITER_{kind.upper()}={path}" if path == _named(kind) else path
    try:
        return tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {where}: {error.strerror}") from error
    except ValueError as error:  # the base class of TOML and UTF-8 errors
        what = " ".join(str(error).split())
        raise InputError(f"{where} is no TOML file: {what}") from error


def _named(kind: str) -> str:
    return os.environ.get(f"LONGWRITER_{kind.upper()}", "")


def _read_prices(tables: Any) -> dict[str, Prices]:
    """Prices by model. Raises ValueError if `tables` is not a price list."""
    listed: dict[str, Prices] = {}
    if not isinstance(tables, Mapping):
        raise ValueError("prices is no table")
    for provider, table in tables.items():
        models: Any = table.get("models") if isinstance(table, dict) else None
        if not isinstance(models, dict):
            raise ValueError(f"there is no table [{provider}.models]")
        for model, numbers in models.items():
            try:
                listed[model] = Prices.of(numbers)
            except ValueError as error:
                raise ValueError(f"the price of {model!r} {error}") from error
    return listed
