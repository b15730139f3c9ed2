"""Which judge answered. Pure."""

import re
from collections.abc import Mapping
from typing import Any

_DATE = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8})")


def answers_to(requested: str, returned: str) -> bool:
    """Whether the model that answered is the one that was asked for, or its dated version.

    OpenAI answers a call of gpt-4.1 as gpt-4.1-2025-04-14.
    """
    if returned == requested:
        return True
    return returned.startswith(requested) and bool(_DATE.fullmatch(returned[len(requested) :]))


def ranking(manifest: Mapping[str, Any]) -> tuple[str, float, str, str, str]:
    """What must be the same for two submissions' scores to compare.

    Benchmark, version of its tasks, judge that answered, name and SHA-256 of the judge's prompt.
    """
    judge = manifest["judge"]
    return (
        manifest["benchmark"],
        manifest["task_version"],
        judge["returned"],
        judge["prompt"],
        judge["prompt_sha256"],
    )
