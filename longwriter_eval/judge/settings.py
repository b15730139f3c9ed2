"""The judge's settings: who judges, and how."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from longwriter_core.errors import InputError
from longwriter_core.redact import public_url
from longwriter_core.settings import Count, OptionalUrl, Text, resolve

# The published protocol: evaluation/eval_quality.py of THUDM/LongWriter.
TEMPERATURE = 0.5
MAX_TOKENS = 1024

_ENVIRONMENT = "LONGWRITER_JUDGE_"


class JudgeSettings(BaseModel):
    """Who judges, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Text = Field(
        default="gpt-4o-2024-11-20", description="name of the judge at its endpoint"
    )
    base_url: OptionalUrl = Field(
        default=None, description="OpenAI-compatible endpoint of the judge (…/v1)"
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
        """The settings given as `judge_*` metadata, else as LONGWRITER_JUDGE_*, else `defaults`.

        lm-eval merges the model's own arguments into the metadata, so other names are ignored.
        Raises InputError that lists every unknown name and invalid value.
        """
        return resolve(
            cls,
            metadata,
            environment,
            what="judge settings",
            option_prefix="judge_",
            environment_prefix=_ENVIRONMENT,
            defaults=defaults,
            # The openai library would use this variable silently; here it is on record.
            fallbacks={"base_url": "OPENAI_BASE_URL"},
            secrets={
                "api_key": "would be written to the results: set LONGWRITER_JUDGE_API_KEY instead"
            },
        )

    def record(self) -> dict[str, Any]:
        """What a result must say about its judge; never a key, a password or a local path."""
        return {
            "model": self.model,
            "base_url": public_url(self.base_url) if self.base_url else None,
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
            "repeats": self.repeats,
            "prompt": Path(self.prompt).name,
        }


def api_key(settings: JudgeSettings, environment: Mapping[str, str]) -> str:
    """The judge's key: LONGWRITER_JUDGE_API_KEY, else OPENAI_API_KEY.

    A server of one's own often needs none. Raises InputError if OpenAI itself would judge.
    """
    key = environment.get(_ENVIRONMENT + "API_KEY") or environment.get("OPENAI_API_KEY")
    if key and key.strip():
        return key.strip()  # a line break from a file would make an illegal header
    if settings.base_url or environment.get("OPENAI_BASE_URL"):
        return "no-key-needed"
    raise InputError(
        f"no key for the judge {settings.model}: set LONGWRITER_JUDGE_API_KEY or OPENAI_API_KEY, "
        "or judge_base_url to a server of your own, or use longbench_write_length or "
        "--predict_only, which need no judge"
    )
