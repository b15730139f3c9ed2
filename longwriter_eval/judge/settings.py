"""The judge's settings, and how they differ from the paper's protocol."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from longwriter_core.errors import InputError
from longwriter_core.llm.batch import DISCOUNT
from longwriter_core.llm.budget import Budget
from longwriter_core.llm.profiles import (
    OPENAI,
    Prices,
    Profile,
    find_profile,
    living_profiles,
    own_prices_of,
    prices_of,
    profile_of_model,
    today,
)
from longwriter_core.redact import public_url
from longwriter_core.settings import Count, OptionalUrl, Text, resolve
from longwriter_eval.judge.verdict import verdict_schema

# The published protocol: evaluation/eval_quality.py of THUDM/LongWriter.
PAPERS_JUDGE = "gpt-4o-2024-05-13"
TEMPERATURE = 0.5
MAX_TOKENS = 1024

DEFAULT_PROFILE = "gpt-4o-2024-11-20"

MAX_SEGMENTS = 20

_ENVIRONMENT = "LONGWRITER_JUDGE_"
_VARIABLE = "LONGWRITER_JUDGE"  # names the profile
_OWN_SETTINGS = {  # request fields with their own setting
    "model": "judge_model",
    "temperature": "judge_temperature",
    "max_tokens": "judge_max_tokens",
    "max_completion_tokens": "judge_max_tokens",
    "messages": "judge_prompt",
    "stream": "no other setting",
    "n": "judge_repeats",
    "repeats": "judge_repeats",
    "prompt": "judge_prompt",
}


def _temperature(value: Any) -> float | None:
    if value is None or str(value).strip().lower() == "none":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1
    if isinstance(value, bool) or not 0 <= number <= 2:
        raise ValueError(f"must be a number from 0 to 2, or none to send none, not {value!r}")
    return number


def _tokens(value: Any) -> int:
    if not str(value).isdecimal() or not 1 <= int(value) <= 1_000_000:
        raise ValueError(f"must be a whole number of tokens from 1, not {value!r}")
    return int(value)


def _extra(value: Any) -> str:
    """As JSON with sorted keys, so that settings can be compared and hashed."""
    try:
        fields = json.loads(value) if isinstance(value, str) else value
        if not isinstance(fields, dict):
            raise ValueError
        text = json.dumps(fields, sort_keys=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        raise ValueError(
            'must be a JSON object such as {"reasoning_effort": "low"}, where null removes what '
            "the profile sends"
        ) from None
    for name in fields:
        if name in _OWN_SETTINGS:
            raise ValueError(f"must not set {name}: use {_OWN_SETTINGS[name]}")
    return text


def _segments(value: Any) -> int | None:
    if value is None or str(value).strip().lower() == "none":
        return None
    if not str(value).isdecimal() or not 2 <= int(value) <= MAX_SEGMENTS:
        raise ValueError(f"must be a whole number of parts from 2 to {MAX_SEGMENTS}, not {value!r}")
    return int(value)


def _dollars(value: Any) -> float | None:
    if value is None:
        return None
    try:
        number = float(str(value).removeprefix("$"))
    except ValueError:
        number = -1
    if isinstance(value, bool) or not 0 < number < float("inf"):
        raise ValueError(f"must be an amount of USD above 0, not {value!r}")
    return number


class JudgeSettings(BaseModel):
    """The judge model and how it is called.

    Without a model or a profile, DEFAULT_PROFILE applies. A model without a profile uses the
    paper's constants. A profile's values are defaults, which explicit settings override.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Text | None = Field(
        default=None,
        description="profile of the judge: its model, endpoint, request, prices "
        "(`longwriter judges` lists them); score and lm_eval take several, separated by commas "
        f"[default: {DEFAULT_PROFILE}]",
    )
    model: Text = Field(
        default=DEFAULT_PROFILE,
        description="name of the judge at its endpoint; without a profile it is asked with the "
        "paper's constants",
    )
    base_url: OptionalUrl = Field(
        default=None, description="OpenAI-compatible endpoint of the judge (…/v1)"
    )
    temperature: Annotated[float | None, BeforeValidator(_temperature)] = Field(
        default=TEMPERATURE,
        description=f"sampling temperature, or none to send none [default: {TEMPERATURE}, or the "
        "profile's]",
    )
    max_tokens: Annotated[int, BeforeValidator(_tokens)] = Field(
        default=MAX_TOKENS,
        description="limit on the tokens of a reply, thinking included "
        f"[default: {MAX_TOKENS}, or the profile's]",
    )
    extra: Annotated[str, BeforeValidator(_extra)] = Field(
        default="{}",
        description="other fields of the request as a JSON object; null removes one that the "
        "profile sends",
    )
    concurrency: Count = Field(default=32, description="maximum number of judge calls in flight")
    prompt: Text = Field(
        default="official",
        description="official (the paper's), longwriter (this project's, needs no download), or a "
        "file that contains $INST$ and $RESPONSE$",
    )
    repeats: Count = Field(
        default=1, description="verdicts per response; their scores are averaged"
    )
    batch: bool = Field(
        default=False,
        description="judge through the endpoint's batch API: half the price, and up to a day until "
        "the verdicts arrive; a rerun collects them",
    )
    segments: Annotated[int | None, BeforeValidator(_segments)] = Field(
        default=None,
        description="number of parts in which long responses are judged too, beside the whole "
        "text; gives quality by position and its slope",
    )
    max_cost: Annotated[float | None, BeforeValidator(_dollars)] = Field(
        default=None,
        description="USD that judging may cost at list prices; it stops in time, and keeps "
        "everything",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_profile(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        name = given.get("profile")
        if name is None and not given.get("model"):
            name = DEFAULT_PROFILE
        if not isinstance(name, str) or not name.strip():
            return given
        if re.search("[,+]", name):
            raise InputError(
                f"judge names several judges ({name.strip()}), and this command takes one"
            )
        profile = find_profile(name.strip())
        values: dict[str, Any] = {
            "model": profile.model,
            "temperature": profile.temperature,
            "max_tokens": profile.max_tokens,
        }
        if not profile.is_own_endpoint(None):  # None means OpenAI, unless OPENAI_BASE_URL is set
            values["base_url"] = profile.endpoint
        return {**values, **given, "profile": profile.name}

    @field_validator("base_url")
    @classmethod
    def _check_secrets(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url and "base_url" in (info.context or {}).get("options", ()) and public_url(url) != url:
            # lm-eval writes all metadata to the results file
            raise ValueError(
                "has a password or a query, which would be written to the results: set "
                "LONGWRITER_JUDGE_BASE_URL instead"
            )
        return url

    @classmethod
    def resolve(
        cls, metadata: Mapping[str, Any], environment: Mapping[str, str], **defaults: str
    ) -> "JudgeSettings":
        """Settings from `judge_*` metadata, then LONGWRITER_JUDGE_*, then `defaults`.

        The profile is `judge` or LONGWRITER_JUDGE. A `judge_model` in the metadata overrides
        LONGWRITER_JUDGE. lm-eval merges the model's arguments into the metadata, so other names are
        ignored. Raises InputError with every unknown name and invalid value.
        """
        fallbacks = {"profile": _VARIABLE}
        if metadata.get("judge_model"):
            fallbacks = {}
        if metadata.get("judge"):  # ignores the environment's model, which belongs to another judge
            environment = {k: v for k, v in environment.items() if k != _ENVIRONMENT + "MODEL"}

        def resolved() -> JudgeSettings:
            return resolve(
                cls,
                metadata,
                environment,
                what="judge settings",
                option_prefix="judge_",
                environment_prefix=_ENVIRONMENT,
                defaults=defaults,
                fallbacks=fallbacks,
                names={"profile": "judge"},
                secrets={
                    "api_key": "would be written to the results: set LONGWRITER_JUDGE_API_KEY "
                    "instead"
                },
            )

        settings = resolved()
        if settings.base_url is None and environment.get("OPENAI_BASE_URL"):
            # The openai library would use this variable silently; reading it here records it.
            fallbacks = {**fallbacks, "base_url": "OPENAI_BASE_URL"}
            settings = resolved()
        if settings.profile and not settings.base_url and not settings._profile.endpoint:
            raise InputError(
                f"the judge {settings.profile} needs a server of your own "
                f"({settings._profile.note}): set judge_base_url to its address (…/v1)"
            )
        return settings

    @property
    def _profile(self) -> Profile:
        if self.profile:
            return find_profile(self.profile)
        return Profile(name="", model=self.model, temperature=TEMPERATURE, max_tokens=MAX_TOKENS)

    @property
    def known_profile(self) -> Profile | None:
        """The model's profile, even if only the model was given; None if it has no profile.

        judge_model may name another model than the profile's: then what is known about the
        profile's model does not apply.
        """
        if self._is_profiles_model:
            return self._profile
        return profile_of_model(self.model, self.base_url)

    @property
    def _is_profiles_model(self) -> bool:
        return bool(self.profile) and self.model == self._profile.model

    @property
    def label(self) -> str:
        """The judge's display name."""
        return str(self.profile) if self._is_profiles_model else self.model

    def request_fields(self) -> dict[str, Any]:
        """The fields of a request to this judge besides model and messages."""
        limits: dict[str, Any] = (
            {} if self.temperature is None else {"temperature": self.temperature}
        )
        limits[self._profile.token_field] = self.max_tokens
        return {**limits, **self._other_fields()}

    def _other_fields(self) -> dict[str, Any]:
        profile = self._profile
        fields: dict[str, Any] = {}
        if profile.reasoning_effort:
            fields["reasoning_effort"] = profile.reasoning_effort
        if profile.structured_output:
            fields["response_format"] = verdict_schema()
        fields |= {**profile.extra, **json.loads(self.extra)}
        return {name: value for name, value in sorted(fields.items()) if value is not None}

    def without_schema(self) -> "JudgeSettings":
        """These settings without `response_format`, for an endpoint that refuses it."""
        extra = {**json.loads(self.extra), "response_format": None}
        return self.model_copy(update={"extra": json.dumps(extra, sort_keys=True)})

    @property
    def protocol(self) -> dict[str, Any]:
        """The request settings that are part of the judge's identity and of its call keys."""
        fields = self._other_fields()
        if fields.get("response_format") == verdict_schema():
            fields = {**fields, "response_format": "verdict"}
        return {"temperature": self.temperature, "max_tokens": self.max_tokens} | (
            {"request": fields} if fields else {}
        )

    @property
    def departures(self) -> dict[str, Any]:
        """Deviations from the paper's protocol: setting -> value; None if the field is not sent.

        Judges that differ here are ranked separately.
        """
        papers: dict[str, Any] = {
            "model": PAPERS_JUDGE,
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
            "prompt": "official",
            "repeats": 1,
        }
        protocol = dict(self.protocol)
        own = {
            **protocol.pop("request", {}),
            **protocol,
            "model": self.model,
            "prompt": Path(self.prompt).name,
            "repeats": self.repeats,
        }
        return {k: v for k, v in sorted(own.items()) if k not in papers or papers[k] != v}

    def record(self) -> dict[str, Any]:
        """The judge's record in results, without keys, passwords or local paths."""
        return {
            "profile": self.profile,
            "model": self.model,
            "base_url": public_url(self.base_url) if self.base_url else None,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "extra": json.loads(self.extra),
            "repeats": self.repeats,
            "prompt": Path(self.prompt).name,
            "departures": self.departures,
            **({"segments": self.segments} if self.segments else {}),
        }

    def prices(self) -> Prices | None:
        """The judge's current prices, with the discount of a batch; None if unknown."""
        prices = self.list_prices()
        return prices.scaled(DISCOUNT) if prices and self.batch else prices

    def list_prices(self) -> Prices | None:
        """The judge's current prices of direct calls; None if unknown."""
        if own := own_prices_of(self.model):
            return own
        profile = self._profile
        if profile.endpoint and not profile.is_own_endpoint(self.base_url):
            return None  # another server may charge other prices
        of_profile = profile.prices_on(today()) if self._is_profiles_model else None
        return of_profile or prices_of(self.model, today())

    def budget(self, processes: int = 1) -> Budget | None:
        """A limit of max_cost, or of the share of one of several processes; None without one."""
        return None if self.max_cost is None else Budget(self.max_cost / processes, "max_cost")

    def cost(self, prompt_tokens: int, completion_tokens: int, cached: int = 0) -> float | None:
        """The cost in USD of these tokens; None if the judge's prices are unknown."""
        prices = self.prices()
        return prices.cost(prompt_tokens, completion_tokens, cached) if prices else None

    def check_usable(self) -> None:
        """Raise InputError if the model is shut down, or if its spending cannot be limited."""
        day, profile = today(), self.known_profile
        if profile and profile.is_shut_down(self.base_url, day):
            living = [name for name in living_profiles(day) if name != profile.name]
            raise InputError(
                f"the judge {profile.model} was shut down on {profile.shutdown_date}, and no other "
                "takes its place by itself, because scores of different judges are not comparable: "
                f"choose one by judge or LONGWRITER_JUDGE ({', '.join(living)})"
            )
        if self.max_cost is not None and not self.prices():
            raise InputError(
                f"max_cost: the price of {self.model} is not known, so spending cannot be "
                "limited: give its prices in a profile of your own (LONGWRITER_PROFILES) or in "
                "LONGWRITER_PRICES"
            )


def request_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that names a recorded judge and how it was asked; values may be None."""
    temperature = record["temperature"]
    return {
        "judge": record.get("profile"),
        "judge_model": record["model"],
        "judge_temperature": "none" if temperature is None else temperature,
        "judge_max_tokens": record["max_tokens"],
        "judge_extra": record.get("extra"),
    }


def protocol_text(record: Mapping[str, Any]) -> str:
    """A recorded judge's request settings, such as "temperature 0.5, max_tokens 1024".

    For a panel, those of each judge.
    """
    if judges := record.get("judges"):
        return " and ".join(f"{judge['model']}: {protocol_text(judge)}" for judge in judges)
    named = {
        name: value
        for name, value in record.get("departures", {}).items()
        if name not in ("model", "prompt", "repeats")
    }
    said = {name: record.get(name) for name in ("temperature", "max_tokens")} | named
    return ", ".join(f"{name} {'none' if v is None else v}" for name, v in said.items())


PAPERS_PROTOCOL = protocol_text({"temperature": TEMPERATURE, "max_tokens": MAX_TOKENS})


def judge_label(record: Mapping[str, Any]) -> str:
    """A recorded judge's model, with its request settings if they differ from the paper's.

    The label of a panel is that of its judges.
    """
    if judges := record.get("judges"):
        return f"the panel of {' and '.join(map(judge_label, judges))}"
    protocol = protocol_text(record)
    return str(record["model"]) + ("" if protocol == PAPERS_PROTOCOL else f" ({protocol})")


def api_key(settings: JudgeSettings, environment: Mapping[str, str]) -> str:
    """The judge's API key from LONGWRITER_JUDGE_API_KEY, else from the provider's variable.

    That variable is OPENAI_API_KEY, or the profile's own, so that an OpenAI key is never sent to
    another provider of a profile. A self-hosted server often needs no key. Raises
    InputError if a provider's key is missing.
    """
    profile = settings.known_profile
    is_providers = profile is not None and profile.is_own_endpoint(settings.base_url)
    variable = "OPENAI_API_KEY"
    if profile and is_providers and profile.endpoint != OPENAI:
        variable = profile.key or ""  # without one, its server needs no key
    key = environment.get(_ENVIRONMENT + "API_KEY") or environment.get(variable)
    if key and key.strip():
        return key.strip()  # a line break from a file would make an illegal header
    is_other = not is_providers and (settings.base_url or environment.get("OPENAI_BASE_URL"))
    if is_other or not variable:
        return "no-key-needed"
    raise InputError(
        f"no key for the judge {settings.model}: set LONGWRITER_JUDGE_API_KEY or {variable}, "
        "or judge_base_url to a server of your own, or use longbench_write_length or "
        "--predict_only, which need no judge"
    )
