"""Who writes, and how: checked values."""

import os
from dataclasses import dataclass
from typing import Any

from agentwrite.writing.asking import MAX_TOKENS, TEMPERATURE
from longwriter_core.errors import InputError
from longwriter_core.llm import ChatPool, Store
from longwriter_core.redact import NOT_A_URL, public_url

_MOST = 1024  # calls in flight
_KEYS = ("AGENTWRITE_API_KEY", "OPENAI_API_KEY")


@dataclass(frozen=True)
class Settings:
    """Who writes, and how. The protocol's values are the paper's.

    `base_urls` serve the same model and share the load; none means OpenAI's own.
    `prompts` is "longwriter" (ours), "official" (the paper's) or a folder. `context` is what the
    model takes, prompt and answer, in tokens; None trusts the endpoint to say when it is too much.
    """

    model: str
    base_urls: tuple[str, ...] = ()
    concurrency: int = 32
    parallel: bool = False
    prompts: str = "longwriter"
    context: int | None = None
    temperature: float = TEMPERATURE
    max_tokens: int = MAX_TOKENS

    @classmethod
    def resolve(cls, **values: Any) -> "Settings":
        """Checked settings. Raises InputError that lists every unusable value at once."""
        problems = [f"{name} is unknown" for name in values if name not in cls.__dataclass_fields__]
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        known.setdefault("model", "")
        if not known.get("base_urls") and (url := os.environ.get("OPENAI_BASE_URL")):
            known["base_urls"] = (url,)  # as the openai library would, but on record
        known["base_urls"] = tuple(url.strip().rstrip("/") for url in known.get("base_urls", ()))
        settings = cls(**known)
        if not isinstance(settings.model, str) or not settings.model.strip():
            problems.append("model must be named")
        if any(public_url(url) == NOT_A_URL for url in settings.base_urls):
            problems.append("base-url must be a URL like https://host/v1")  # it may hold a password
        if not 1 <= settings.concurrency <= _MOST:
            problems.append(f"concurrency must be from 1 to {_MOST}, not {settings.concurrency}")
        if not 0 <= settings.temperature <= 2:
            problems.append(f"temperature must be from 0 to 2, not {settings.temperature}")
        if settings.max_tokens < 1:
            problems.append(f"max_tokens must be 1 or more, not {settings.max_tokens}")
        if settings.context is not None and settings.context < 2 * settings.max_tokens:
            problems.append(
                f"context must be at least twice max_tokens, {2 * settings.max_tokens} tokens, "
                f"not {settings.context}"
            )
        if problems:
            raise InputError(f"settings: {'; '.join(problems)}")
        return settings

    @property
    def where(self) -> str:
        """The endpoints, without passwords, for people to read."""
        return ", ".join(map(public_url, self.base_urls)) or "the default OpenAI endpoint"

    @property
    def scope(self) -> str:
        """What sets the calls to these endpoints apart in a store that others share."""
        return " ".join(sorted(map(public_url, self.base_urls)))

    def chat(self, store: Store, key: str | None = None) -> ChatPool:
        """The client; without `key`, as `api_key`."""
        return ChatPool(store, base_url=self.base_urls, api_key=key or self.api_key())

    def api_key(self) -> str:
        """The key. Raises InputError without one, where OpenAI itself would write."""
        for name in _KEYS:
            if key := os.environ.get(name, "").strip():
                return key
        if self.base_urls:
            return "no-key-needed"  # a server of one's own often needs none
        raise InputError(
            f"no key for {self.model}: set {' or '.join(_KEYS)}, or --base-url to a server of "
            "your own"
        )
