"""Which settings of a run may be published: an allowlist. Pure.

A results file contains whatever was on the user's command line and machine: keys, passwords in
URLs, home directories, private hosts. So a value is published only if its name is known to be
harmless, or if it is a number, which contains no path and no host.
"""

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from longwriter_core.redact import has_key, is_local_path, is_secret_name, local_name
from longwriter_core.text.printable import printable

# Hosted services that anyone can call: those that serve only their owner's models, and those that
# serve models of others. All other endpoints are published as "private".
_OWN_HOSTS = frozenset(
    (
        "api.openai.com",
        "api.anthropic.com",
        "api.cohere.ai",
        "api.deepseek.com",
        "api.mistral.ai",
        "api.moonshot.cn",
        "api.x.ai",
        "generativelanguage.googleapis.com",
        "open.bigmodel.cn",
    )
)
_OTHER_HOSTS = frozenset(
    (
        "api.deepinfra.com",
        "api.fireworks.ai",
        "api.groq.com",
        "api.together.xyz",
        "dashscope.aliyuncs.com",
        "openrouter.ai",
    )
)
OWN, PUBLIC, PRIVATE = "own", "public", "private"  # classes of endpoints
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_MODELS = ("pretrained", "model", "tokenizer", "peft", "delta", "engine", "gguf_file")
_TEXTS = frozenset(
    (
        "dtype",
        "revision",
        "quantization",
        "load_format",
        "kv_cache_dtype",
        "attn_implementation",
        "think_end_token",
        "tokenizer_backend",
        "tokenizer_mode",
        "reasoning_effort",
        "until",
        "stop",
    )
)


def public_model(name: object) -> str:
    """A model's hub name unchanged; only the last part of a local path or URL."""
    return printable(local_name(str(name))) or "unnamed"


def public_endpoint(url: object) -> str:
    """The host of a hosted service; "private" for any other."""
    try:
        host = urlsplit(str(url)).hostname
    except ValueError:
        host = None
    return host if host in _OWN_HOSTS | _OTHER_HOSTS else PRIVATE


def endpoint_class(endpoint: str | None) -> str | None:
    """OWN, PUBLIC or PRIVATE for an endpoint as `public_endpoint` gives it; None if unknown."""
    if endpoint is None:
        return None
    return OWN if endpoint in _OWN_HOSTS else PUBLIC if endpoint in _OTHER_HOSTS else PRIVATE


def public_request(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The fields of a request that may be published, and the names of the others."""
    withheld = [
        name
        for name, value in given.items()
        if not (_NAME.fullmatch(name) and _is_public(name, value))
    ]
    return {name: given[name] for name in sorted(given) if name not in withheld}, sorted(withheld)


def _is_public(name: str, value: Any) -> bool:
    """Whether a field of a request, however nested, holds no secret, address or path."""
    if is_secret_name(name) or printable(name, 60) != name or not name:
        return False
    if isinstance(value, Mapping):
        return len(value) <= 20 and all(_is_public(str(key), value[key]) for key in value)
    if isinstance(value, list):
        return len(value) <= 20 and all(_is_public(name, item) for item in value)
    if isinstance(value, str):
        is_address = "://" in value or "@" in value or is_local_path(value)
        return not is_address and not has_key(value) and printable(value) == value != ""
    return not isinstance(value, float) or math.isfinite(value)


def public_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The publishable model arguments or generation settings, and the names of the others."""
    published: dict[str, Any] = {}
    withheld = []
    for name, value in sorted(given.items()):
        if not _NAME.fullmatch(name):
            continue
        if name in _MODELS and isinstance(value, str):
            published[name] = public_model(value)
        elif not is_secret_name(name) and _is_harmless(name, value):
            published[name] = value
        elif name != "base_url":  # published by its host, as the endpoint
            withheld.append(name)
    return published, withheld


def _is_harmless(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool | int | float):
        return not isinstance(value, float) or math.isfinite(value)
    texts = value if isinstance(value, list) else [value]
    return name in _TEXTS and all(
        isinstance(text, str) and len(text) <= 40 and not is_local_path(text) for text in texts
    )
