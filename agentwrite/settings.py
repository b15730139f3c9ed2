"""Settings of AgentWrite: which model writes, and how."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from longwriter_core.errors import InputError
from longwriter_core.redact import public_url
from longwriter_core.settings import Count, Text, Url, resolve

if TYPE_CHECKING:
    from longwriter_core.llm import Budget, ChatPool, Store

_KEYS = ("AGENTWRITE_API_KEY", "OPENAI_API_KEY")

# What `extra` must leave to the fields and options of their own.
_RESERVED = (
    "model", "messages", "temperature", "max_tokens", "max_completion_tokens", "stream", "n",
    "response_format", "seed",
)  # fmt: skip


def _json_object(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"must be a JSON object, not {value!r}") from error
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object, not {value!r}")
    if taken := sorted(set(value) & set(_RESERVED)):
        raise ValueError(f"cannot set {', '.join(taken)}")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


JsonObject = Annotated[dict[str, Any], BeforeValidator(_json_object)]
Urls = Annotated[
    tuple[Url, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else tuple(value or ())),
]


class Settings(BaseModel):
    """Which model writes, and how. The defaults of the last two are the paper's protocol
    (arXiv 2408.07055, section 3.1).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Text = Field(description="model name at its endpoint")
    base_urls: Urls = Field(
        (),
        description="OpenAI-compatible endpoint (…/v1) of the model; several share the load; "
        "default: OPENAI_BASE_URL, else OpenAI",
    )
    concurrency: Count = Field(32, description="maximum number of calls in flight")
    parallel: bool = Field(
        False,
        description="write all steps at once, without the text so far: faster, less coherent",
    )
    prompts: Text = Field(
        "longwriter",
        description="longwriter (this project's), official (the paper's), or a folder of prompts",
    )
    temperature: float = Field(
        1.0, ge=0, le=2, allow_inf_nan=False, description="sampling temperature"
    )
    max_tokens: int = Field(4096, ge=1, description="token limit of one reply")
    context: int | None = Field(
        None,
        description="context length of the model in tokens, prompt and reply; the oldest text is "
        "summarised to fit; default: summarise once the endpoint rejects a prompt as too long",
    )

    extra: JsonObject = Field(
        default_factory=dict,
        description="further fields of every request, as a JSON object such as '{\"top_p\": 0.9}'",
    )
    plan_model: Text | None = Field(None, description="model that plans; default: --model")
    summary_model: Text | None = Field(
        None, description="model that summarises the text so far; default: --model"
    )
    story: bool = Field(
        False,
        description="keep a state of the story (people, places, facts, open threads), updated "
        "after each section with one call and shown to those that follow",
    )
    critic: bool = Field(
        False,
        description="have each section criticised, with verbatim quotes, and the quoted places "
        "rewritten: one call for each section, two where something is found",
    )
    timeout: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="seconds that a reply of up to 4,096 tokens may take, more for longer ones; "
        "default: 600",
    )
    max_cost: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="stop before the calls of this run could cost more than this, in USD by list "
        "prices",
    )

    batch: bool = Field(
        False,
        description="ask through the endpoint's batch API: half the price, and up to a day until "
        "the replies arrive; a rerun collects them",
    )

    @field_validator("context")
    @classmethod
    def _check_context(cls, context: int | None, info: ValidationInfo) -> int | None:
        least = 2 * info.data.get("max_tokens", 0)
        if context is not None and context < least:
            raise ValueError(f"must be at least twice max_tokens, {least} tokens, not {context}")
        return context

    @field_validator("story", "critic")
    @classmethod
    def _check_order(cls, is_on: bool, info: ValidationInfo) -> bool:
        if is_on and info.data.get("parallel"):
            raise ValueError("reads a text in order: parallel must be off")
        return is_on

    @classmethod
    def resolve(cls, **values: Any) -> "Settings":
        """The settings given as `values`; `base_urls` falls back to OPENAI_BASE_URL.

        Raises InputError that lists every unknown name and invalid value.
        """
        if not values.get("base_urls"):
            values.pop("base_urls", None)
        # The openai library would use this variable silently; here it is on record.
        return resolve(cls, values, os.environ, fallbacks={"base_urls": "OPENAI_BASE_URL"})

    @property
    def where(self) -> str:
        """The endpoints for a message, without passwords."""
        return ", ".join(self.public_urls) or "the default OpenAI endpoint"

    @property
    def scope(self) -> str:
        """The endpoints as they stand in the keys of stored calls."""
        return " ".join(sorted(self.public_urls))

    @property
    def public_urls(self) -> list[str]:
        """The endpoints without passwords and queries."""
        return [public_url(url) for url in self.base_urls]

    @property
    def known_context(self) -> int | None:
        """The context of the model in tokens: as given, else that of its profile, if any."""
        from longwriter_core.llm.profiles import profile_of_model

        if self.context:
            return self.context
        profile = profile_of_model(self.model, self.base_urls[0] if self.base_urls else None)
        return profile.context_window if profile else None

    def check_context(self, tokens: int, what: str) -> None:
        """Raise InputError if `what`, a prompt of so many tokens, does not fit with its reply."""
        context = self.known_context
        if context and tokens + self.max_tokens > context:
            raise InputError(
                f"{what} has about {tokens:,} tokens. With {self.max_tokens:,} tokens for the "
                f"reply (--max-tokens) it does not fit the context of {self.model}, {context:,} "
                "tokens: nothing was asked; lower --max-tokens, or leave the prompt out"
            )

    def chat(
        self, store: "Store", key: str | None = None, budget: "Budget | None" = None
    ) -> "ChatPool":
        """The client; without `key`, with the one of `api_key`. Raises InputError.

        `budget` is shared with other clients; by default it is max_cost.
        """
        from longwriter_core.llm import Budget, ChatPool
        from longwriter_core.llm.profiles import prices_of

        for model in sorted({self.model, self.plan_model or "", self.summary_model or ""} - {""}):
            if self.max_cost and not prices_of(model):
                raise InputError(
                    f"--max-cost needs the price of {model}: name it in a file, and the file in "
                    'LONGWRITER_PRICES, like this:\n[mine.models]\n"MODEL" = [0.10, 0.40]'
                )
        return ChatPool(
            store,
            base_url=self.base_urls,
            api_key=self._keys(key or self.api_key()),
            timeout=self.timeout,
            budget=budget or (Budget(self.max_cost) if self.max_cost else None),
            batch=self.batch,
        )

    def _keys(self, given: str) -> str | list[str]:
        """The key of each base URL, where several are given with commas between them."""
        keys = [key.strip() for key in given.split(",")]
        if len(keys) == 1:
            return given
        if len(keys) != len(self.base_urls):
            raise InputError(
                f"{_KEYS[0]} holds {len(keys)} keys for {len(self.base_urls)} base URLs: give one "
                "key for all, or one for each, with commas between them"
            )
        return keys

    def api_key(self) -> str:
        """The key from the environment. Raises InputError if OpenAI is asked without one."""
        for name in _KEYS:
            if key := os.environ.get(name, "").strip():
                return key
        if self.base_urls:
            return "no-key-needed"  # a local server often needs none
        raise InputError(
            f"no key for {self.model}: set {' or '.join(_KEYS)}, or pass --base-url to use your "
            "own server"
        )
