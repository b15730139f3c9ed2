"""What is known of a submission's model and backend: recorded by the run, or stated. Pure."""

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.text.printable import printable
from longwriter_eval.submission.public import public_endpoint, public_model, public_settings

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMBT]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_MAX_SIZE = 10**15
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,59}")

_Fact = dict[str, Any] | None


@dataclass(frozen=True)
class StatedMetadata:
    """The submitter's statements about the model, for values that the run did not record."""

    model: str | None = None
    revision: str | None = None
    dtype: str | None = None
    backend_version: str | None = None
    chat_template_sha256: str | None = None
    context_length: int | None = None  # tokens
    parameters: int | None = None
    licence: str | None = None  # SPDX or hub identifier
    cost_usd: float | None = None  # of writing the responses
    minutes: float | None = None
    example: bool = False  # whether the scores mean nothing, so that it is never ranked
    submitter: str | None = None


def parameters(text: str) -> int:
    """The number of parameters in text such as "9.4B", "350M" or "9400000000".

    Raises InputError.
    """
    match = _SIZE.fullmatch(text.strip())
    number = round(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if not 1 <= number <= _MAX_SIZE:
        raise InputError(f"--parameters {text!r}: write a number such as 9.4B, 350M or 9400000000")
    return number


def licence(text: str) -> str:
    """A licence's identifier in lower case, such as "apache-2.0". Raises InputError."""
    name = text.strip().lower()
    if not _LICENCE.fullmatch(name):
        raise InputError(
            f"--licence {text!r}: write the SPDX or hub identifier, such as apache-2.0 or llama3.1"
        )
    return name


def positive(option: str, number: float | None) -> float | None:
    """An amount that was stated by `option`. Raises InputError unless it is above 0."""
    if number is not None and not (math.isfinite(number) and 0 < number <= 1e7):
        raise InputError(f"--{option} {number:g}: write a number above 0")
    return number


def model_and_backend(
    results: Mapping[str, Any], stated: StatedMetadata, problems: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest's `model` and `backend`; contradictions are added to `problems`."""
    config = results.get("config") or {}
    arguments = model_arguments(config)
    published, withheld = public_settings(arguments)
    name = str(config.get("model") or "unknown")
    is_endpoint = "base_url" in arguments or name.endswith("completions")
    served = str(results.get("model_name") or arguments.get("model") or arguments.get("pretrained"))
    # the name of a model at an endpoint, or of a local folder, can be anything
    is_alias = is_endpoint or public_model(served) != served
    is_other = bool(stated.model) and stated.model != public_model(served)

    def fact(option: str, recorded: Any, said: Any) -> _Fact:
        if recorded in ("", "None"):
            recorded = None
        is_open = recorded in (None, "main")  # "main" is a branch and does not identify a commit
        if not is_open and said not in (None, recorded):
            problems.append(
                f"--{option} {printable(said)} contradicts the run, which recorded {recorded}"
            )
        is_stated = is_open and said is not None
        value = said if is_stated else recorded
        if value is None:
            return None
        source = "submitter" if is_stated else "run"
        return {"value": value if isinstance(value, int) else printable(value), "source": source}

    revision = config.get("model_sha") or arguments.get("revision") or config.get("model_revision")
    dtype = str(config.get("model_dtype") or arguments.get("dtype") or "").removeprefix("torch.")
    context = next(
        (
            arguments[name]
            for name in ("max_model_len", "max_length")
            if whole_number(arguments.get(name))
        ),
        # for an endpoint, lm-eval records a guess
        None if is_endpoint else results.get("max_length"),
    )
    versions = _libraries(results, is_endpoint=is_endpoint)
    environment = "" if is_endpoint else str(results.get("pretty_env_info") or "")
    model = {
        "id": fact("model", None if is_alias and is_other else public_model(served), stated.model),
        "served_as": public_model(served) if is_alias and is_other else None,
        "revision": fact("revision", public_model(revision) if revision else None, stated.revision),
        "dtype": fact("dtype", "" if dtype == "auto" else printable(dtype, 40), stated.dtype),
        "parameters": fact(
            "parameters", whole_number(config.get("model_num_parameters")), stated.parameters
        ),
        "licence": fact("licence", None, stated.licence),
        "chat_template_sha256": fact(
            "chat-template", results.get("chat_template_sha"), stated.chat_template_sha256
        ),
        "context_length": fact("context-length", whole_number(context), stated.context_length),
    }
    backend = {
        "name": fact("backend", public_model(name), None),
        "version": fact(
            "backend-version",
            versions.get("transformers") if name == "hf" else None,
            stated.backend_version,
        ),
        # null: the model ran in lm-eval's process
        "endpoint": public_endpoint(arguments.get("base_url") or "https://api.openai.com")
        if is_endpoint
        else None,
        "arguments": published,
        "withheld": withheld,
        "libraries": versions,
        "gpus": [
            printable(gpu, 60) for gpu in re.findall(r"\bGPU \d+: ([A-Za-z0-9 .-]+)", environment)
        ][:64],
    }
    return model, backend


def _libraries(results: Mapping[str, Any], *, is_endpoint: bool) -> dict[str, str]:
    torch = re.search(r"^PyTorch version: (\S+)", str(results.get("pretty_env_info")), re.MULTILINE)
    versions = {"lm_eval": results.get("lm_eval_version")}
    if not is_endpoint:  # an endpoint runs on another machine, with other versions
        versions["transformers"] = results.get("transformers_version")
        versions["torch"] = torch and torch[1]
    return {
        name: str(version)
        for name, version in versions.items()
        if re.fullmatch(r"\d[\w.+-]{0,40}", str(version))
    }


def model_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model's arguments, which lm-eval records as a mapping or as typed."""
    given = config.get("model_args") or {}
    if isinstance(given, str):
        pairs = (pair.partition("=")[::2] for pair in given.split(",") if pair)
        return {name: _typed(text) for name, text in pairs}
    return dict(given)


def _typed(text: str) -> Any:
    """The number, boolean or None that lm-eval parses an argument as; otherwise the text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def whole_number(value: Any) -> int | None:
    """`value` if it is an integer, otherwise None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
