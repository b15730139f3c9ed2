"""What a submission says of its model: as the run recorded it, or as its submitter states it."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longwriter_core.text.printable import printable
from longwriter_eval.submission.public import public_endpoint, public_model, public_settings

_Fact = dict[str, Any] | None


@dataclass(frozen=True)
class Stated:
    """What a run cannot know of its model, in its submitter's words."""

    model: str | None = None
    revision: str | None = None
    dtype: str | None = None
    backend_version: str | None = None
    chat_template_sha256: str | None = None
    context_length: int | None = None  # tokens
    submitter: str | None = None


def describe(
    results: Mapping[str, Any], stated: Stated, problems: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest's `model` and `backend`."""
    config = results.get("config") or {}
    arguments = model_arguments(config)
    published, withheld = public_settings(arguments)
    name = str(config.get("model") or "unknown")
    is_endpoint = "base_url" in arguments or name.endswith("completions")
    served = str(results.get("model_name") or arguments.get("model") or arguments.get("pretrained"))
    # an endpoint's name for its model, and a folder's, can be anything
    is_alias = is_endpoint or public_model(served) != served
    is_other = bool(stated.model) and stated.model != public_model(served)

    def fact(option: str, recorded: Any, said: Any) -> _Fact:
        if recorded in ("", "None"):
            recorded = None
        is_open = recorded in (None, "main")  # main is a branch: it does not say which state
        if not is_open and said not in (None, recorded):
            problems.append(
                f"--{option} {printable(said)} contradicts the run, which has {recorded}"
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
        (arguments[name] for name in ("max_model_len", "max_length") if whole(arguments.get(name))),
        # what lm-eval notes of an endpoint is a guess of its own
        None if is_endpoint else results.get("max_length"),
    )
    versions = _libraries(results, is_endpoint=is_endpoint)
    environment = "" if is_endpoint else str(results.get("pretty_env_info") or "")
    model = {
        "id": fact("model", None if is_alias and is_other else public_model(served), stated.model),
        "served_as": public_model(served) if is_alias and is_other else None,
        "revision": fact("revision", public_model(revision) if revision else None, stated.revision),
        "dtype": fact("dtype", "" if dtype == "auto" else printable(dtype, 40), stated.dtype),
        "parameters": fact("parameters", whole(config.get("model_num_parameters")), None),
        "chat_template_sha256": fact(
            "chat-template", results.get("chat_template_sha"), stated.chat_template_sha256
        ),
        "context_length": fact("context-length", whole(context), stated.context_length),
    }
    backend = {
        "name": fact("backend", public_model(name), None),
        "version": fact(
            "backend-version",
            versions.get("transformers") if name == "hf" else None,
            stated.backend_version,
        ),
        # null: the model ran in lm-eval's own process
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
    found = {"lm_eval": results.get("lm_eval_version")}
    if not is_endpoint:  # else they are those of a machine that wrote nothing
        found["transformers"] = results.get("transformers_version")
        found["torch"] = torch and torch[1]
    return {
        name: str(version)
        for name, version in found.items()
        if re.fullmatch(r"\d[\w.+-]{0,40}", str(version))
    }


def model_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model's arguments, which lm-eval records as a mapping, or as they were typed."""
    given = config.get("model_args") or {}
    if isinstance(given, str):
        pairs = (pair.partition("=")[::2] for pair in given.split(",") if pair)
        return {name: _typed(text) for name, text in pairs}
    return dict(given)


def _typed(text: str) -> Any:
    """The number, truth value or None that lm-eval takes a typed argument for; else the text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def whole(value: Any) -> int | None:
    """A whole number; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
