"""Submissions of older schemas, in the form of the newest. Pure."""

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def newest_manifest(manifest: Json) -> dict[str, Any]:
    """A manifest of schema 1, which knew one judge, asked by the paper's protocol.

    Its `schema` stays, so that verification can require that protocol.
    """
    judge, model = manifest["judge"], manifest["model"]
    one = {name: judge[name] for name in ("requested", "returned", "temperature", "max_tokens")}
    size = model["parameters"]
    return {
        **manifest,
        "example": False,
        "model": {
            **model,
            "parameters": size if size and isinstance(size["value"], int) else None,
            "licence": None,
        },
        "judge": {
            "judges": [{**one, "endpoint": None, "request": {}}],
            **{name: judge[name] for name in ("repeats", "prompt", "prompt_sha256")},
        },
        "stated": {"cost_usd": None, "minutes": None},
    }


def newest_sample(sample: Json) -> dict[str, Any]:
    """A sample of schema 1, with the number of the judge in each verdict."""
    return {**sample, "verdicts": [{**verdict, "judge": 0} for verdict in sample["verdicts"]]}
