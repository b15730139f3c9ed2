"""Who judges, and how: from metadata and environment to checked values."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.llm import NOT_A_URL, public_url

# The published protocol: evaluation/eval_quality.py of THUDM/LongWriter.
TEMPERATURE = 0.5
MAX_TOKENS = 1024

_MOST = 1024  # calls in flight, or verdicts per response
_ENVIRONMENT = "LONGWRITER_JUDGE_"


@dataclass(frozen=True)
class JudgeSettings:
    """Who judges, and how.

    `prompt` is "official" (upstream's), "longwriter" (this project's own, which needs no
    download), or the path of a file.
    """

    model: str = "gpt-4o-2024-11-20"
    base_url: str | None = None
    concurrency: int = 32
    prompt: str = "official"
    repeats: int = 1

    @classmethod
    def resolve(
        cls, metadata: Mapping[str, Any], environment: Mapping[str, str], **defaults: str
    ) -> "JudgeSettings":
        """The settings given as `judge_*` metadata, else as LONGWRITER_JUDGE_*, else `defaults`.

        lm-eval merges the model's own arguments into the metadata, so other names are left alone.
        Raises InputError that lists every unknown name and unusable value at once.
        """
        given = {
            "judge_" + name.removeprefix(_ENVIRONMENT).lower(): (name, value)
            for name, value in environment.items()
            if name.startswith(_ENVIRONMENT) and name != _ENVIRONMENT + "API_KEY" and value
        }
        known = {f"judge_{name}": name for name in cls.__dataclass_fields__}
        for key, value in metadata.items():
            # a slip such as jugde_model must not silently mean the default judge
            near = difflib.get_close_matches(key.lower(), (*known, "judge_api_key"), 1, 0.85)
            if near or key.lower().startswith("judge"):
                given[key] = (key, value)
        problems: list[str] = []
        values: dict[str, Any] = dict(defaults)
        if url := environment.get("OPENAI_BASE_URL"):  # as the openai library would, but on record
            given.setdefault("judge_base_url", ("OPENAI_BASE_URL", url))
        for key, (name, value) in given.items():
            try:
                if key == "judge_api_key":
                    raise ValueError(
                        "would be written to the results: set LONGWRITER_JUDGE_API_KEY instead"
                    )
                if key not in known:
                    close = difflib.get_close_matches(key, known, 1, 0.8)
                    raise ValueError(f"is unknown (known: {', '.join(close or known)})")
                checked = values[known[key]] = _checked(known[key], value)
                if key == name == "judge_base_url" and public_url(checked) != checked:
                    raise ValueError(
                        "has a password or a query, which would be written to the results: set "
                        "LONGWRITER_JUDGE_BASE_URL instead"
                    )
            except ValueError as error:
                problems.append(f"{name} {error}")
        if problems:
            raise InputError(f"judge settings: {'; '.join(problems)}")
        return cls(**values)

    def record(self) -> dict[str, Any]:
        """What a result must say of its judge; never a key, a password or a local path."""
        return {
            "model": self.model,
            "base_url": public_url(self.base_url) if self.base_url else None,
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
            "repeats": self.repeats,
            "prompt": Path(self.prompt).name,
        }


def _checked(setting: str, value: Any) -> Any:
    """The value of a setting, or ValueError with the rest of a sentence that says why not."""
    if setting in ("concurrency", "repeats"):
        if not str(value).isdecimal() or not 1 <= int(value) <= _MOST:
            raise ValueError(f"must be a whole number from 1 to {_MOST}, not {value!r}")
        return int(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be text, not {value!r}")
    value = value.strip()
    if setting == "base_url":
        if public_url(value) == NOT_A_URL:
            raise ValueError("must be a URL like https://host/v1")  # it may hold a password
        return value.rstrip("/")
    return value


def api_key(settings: JudgeSettings, environment: Mapping[str, str]) -> str:
    """The judge's key: LONGWRITER_JUDGE_API_KEY, else OPENAI_API_KEY.

    A server of one's own often needs none. Raises InputError where OpenAI itself would judge.
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
