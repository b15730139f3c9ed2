"""What an endpoint's answer says beside the reply: its error, and how long to wait."""

import contextlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from longwriter_core.llm.errors import (
    CallError,
    ContextOverflowError,
    EndpointError,
    RefusedError,
)

# The wording of OpenAI, vLLM, llama.cpp, Anthropic and their gateways.
_OVERFLOW_SIGNS = (
    "context_length_exceeded",
    "context length",
    "context size",
    "context window",
    "prompt is too long",
    "too many tokens",
)
_FILTER_SIGNS = ("content_filter", "content_policy", "content management policy", "moderation")
_UNITS = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3_600.0,
}  # of durations in rate headers, in seconds


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait after a refused call, as the headers say; None if they do not.

    Retry-After gives seconds or a date, and retry-after-ms is OpenAI's more exact form of it.
    Without them, the reset of a limit that is used up counts.
    """
    with contextlib.suppress(ValueError):
        milliseconds = float(headers.get("retry-after-ms", ""))
        if 0 <= milliseconds < math.inf:
            return milliseconds / 1000
    value = headers.get("Retry-After", "")
    if not value:
        return limit_reset(headers)
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if 0 <= seconds < math.inf else None


def limit_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until a rate limit that is used up is reset, by x-ratelimit-reset-requests, -tokens.

    None if no limit is used up, or if the headers do not say until when.
    """
    resets = (
        _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}", "") == "0"
    )
    return max(filter(None, resets), default=None)


def _duration(text: str) -> float | None:
    """Seconds in a duration such as 1h2m3.5s or 20ms; None if it is not one."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def error_of(answer: bytes) -> tuple[object, str]:
    """The code and message of an API's error; (None, "") if it is JSON with neither.

    The message includes the name of the parameter that is to blame.
    """
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        body = json.loads(answer)
        error = body.get("error", body)
        if isinstance(error, dict):
            said, parameter = str(error.get("message") or ""), error.get("param")
            if isinstance(parameter, str) and parameter and parameter not in said:
                said = f"{said} (parameter {parameter})".strip()
            return error.get("code"), said
        return None, str(error or "")
    return None, ""


def translated(status: int, answer: bytes, scrubbed: Callable[[str], str]) -> CallError:
    """The CallError for an answer with status 400 or more."""
    error = _error_for(status, answer, scrubbed)
    error.status = status
    return error


def _error_for(status: int, answer: bytes, scrubbed: Callable[[str], str]) -> CallError:
    text = answer.decode("utf-8", "replace")
    code, said = error_of(answer)
    message = scrubbed(f"HTTP {status}: {said or text}")
    if code == "insufficient_quota":
        return EndpointError(message)
    if status in (400, 403, 413, 422):  # gateways report moderation as 403
        signs = f"{code} {text}".lower()
        if any(sign in signs for sign in _OVERFLOW_SIGNS):
            return ContextOverflowError(message)
        if any(sign in signs for sign in _FILTER_SIGNS):
            return RefusedError(message)
    # bad key, no credit, forbidden, unknown model or path, not an API
    is_fatal = status in (401, 402, 403, 404, 405)
    return EndpointError(message) if is_fatal else CallError(message)
