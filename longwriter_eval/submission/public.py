"""What of a run may be published: chosen by name, never "all but". Pure.

A results file holds whatever the user's command line and machine held: keys, passwords in URLs,
home directories, private hosts. So a value is published only where its name is known to be
harmless, or where it is a number, which holds no path and no host.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from longwriter_core.redact import KEYS

# Hosts that anybody can call; of any other endpoint only that it is private is said.
_PUBLIC_HOSTS = frozenset(
    (
        "api.openai.com",
        "api.anthropic.com",
        "api.cohere.ai",
        "api.deepinfra.com",
        "api.deepseek.com",
        "api.fireworks.ai",
        "api.groq.com",
        "api.mistral.ai",
        "api.moonshot.cn",
        "api.together.xyz",
        "api.x.ai",
        "dashscope.aliyuncs.com",
        "generativelanguage.googleapis.com",
        "open.bigmodel.cn",
        "openrouter.ai",
    )
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
# Secret by name, even as a number; max_gen_toks and think_end_token are not.
_SECRET = re.compile(
    r"key|secret|passw|pwd|auth|credential|header|cookie|^token$|(access|api|hf)_?token",
    re.IGNORECASE,
)
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
# Other paths than a hub's owner/name; accounts/fireworks/models/name is a service's.
_LOCAL = re.compile(
    r"['\"]?[/~.\\]|[$%]\w|.*\\|.*:/|(?!accounts/).*/.*/|.*(^|/)(home|Users|root|mnt|tmp)/"
)
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
    r"\u00ad\u115f\u1160\u2800\u3164\uffa0]"
)

_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH(?!OR)", re.IGNORECASE)
_SHORTEST_SECRET = 8  # characters; a shorter value stands in a text by chance


def plain(text: object, longest: int = 200) -> str:
    """`text` on one line of at most `longest` characters that a terminal and a page can show."""
    shown = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text)).strip()
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def escaped(name: str) -> str:
    """`name`, with an escape for what cannot be shown or encoded; two names never become one."""
    doubled = name.replace("\\", "\\\\")
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], doubled)


def public_model(name: object) -> str:
    """A model's name: a hub's as it is; of a local path or a URL, the last part alone."""
    text = str(name).strip()
    if _LOCAL.match(text):
        text = re.split(r"[/\\]", text.split("?")[0].strip("/\\'\" "))[-1].rpartition("@")[2]
    return plain(text) or "unnamed"


def public_endpoint(url: object) -> str:
    """The host of a hosted service; "private" for any other."""
    try:
        host = urlsplit(str(url)).hostname
    except ValueError:
        host = None
    return host if host in _PUBLIC_HOSTS else "private"


def public_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Of model arguments or generation settings: those to publish, and the others' names."""
    published: dict[str, Any] = {}
    withheld = []
    for name, value in sorted(given.items()):
        if not _NAME.fullmatch(name):
            continue
        if name in _MODELS and isinstance(value, str):
            published[name] = public_model(value)
        elif not _SECRET.search(name) and _is_harmless(name, value):
            published[name] = value
        elif name != "base_url":  # said elsewhere
            withheld.append(name)
    return published, withheld


def _is_harmless(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool | int | float):
        return not isinstance(value, float) or math.isfinite(value)
    texts = value if isinstance(value, list) else [value]
    return name in _TEXTS and all(
        isinstance(text, str) and len(text) <= 40 and not _LOCAL.match(text) for text in texts
    )


def secrets_in(text: str, environment: Mapping[str, str]) -> list[str]:
    """Names of the environment's secrets whose values stand in `text`, which may be JSON."""
    return [
        name
        for name, value in sorted(environment.items())
        if _SECRET_VARIABLE.search(name)
        and len(value.strip()) >= _SHORTEST_SECRET
        and any(form in text for form in _forms(value.strip()))
    ]


def _forms(secret: str) -> list[str]:
    """`secret` as it is, within JSON, and within JSON within JSON, as a judge's reply is."""
    once = json.dumps(secret, ensure_ascii=False)[1:-1]
    return [secret, once, json.dumps(once, ensure_ascii=False)[1:-1]]


def has_key(text: str) -> bool:
    """Whether `text` holds what looks like a key. A response may, in a tutorial."""
    return bool(KEYS.search(text))
