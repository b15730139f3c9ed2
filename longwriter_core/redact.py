"""Detects and hides secrets and details of the user's machine. The only redactor.

Every result, report, submission, log line and error message goes through this module. Pure.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

HIDDEN = "(hidden)"
NOT_A_URL = "(not a URL)"

# Shorter values are placeholders such as "none" or "EMPTY", and occur in texts by chance.
MIN_SECRET_CHARACTERS = 8

# Keys of well-known services, recognised by their form.
_KEY = re.compile(
    r"\bsk-[A-Za-z0-9_-]{20,}|\bhf_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{30,}"
    r"|\bAIza[A-Za-z0-9_-]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
# Names of arguments, settings and environment variables that hold secrets. max_tokens, tokenizer,
# think_end_token, add_bos_token and author are not secret.
_SECRET_NAME = re.compile(
    r"key|secret|passw|pass(?![a-z])|pwd|credential|cookie|header|auth(?!ors?(?![a-z]))"
    r"|(?:access|api|hf)_?token|(?<!end_)(?<!start_)(?<![be]os_)(?<!pad_)token(?!iz|s|_id)",
    re.IGNORECASE,
)
# The folders of an absolute path anywhere in a text. A URL's path does not count.
_FOLDERS = re.compile(r"(?<![\w/:.])(~|[A-Za-z]:)?[/\\]([\w.@ +-]+[/\\])+")
# A local path or URL, as opposed to a hub's owner/name or a service's accounts/x/models/name.
_LOCAL_PATH = re.compile(
    r"['\"]?[/~.\\]|[$%]\w|.*\\|.*:/|(?!accounts/).*/.*/|.*(^|/)(home|Users|root|mnt|tmp)/"
)


def redact(text: str) -> str:
    """`text` without keys that have a well-known form and without the folders of local paths."""
    return _FOLDERS.sub("", _KEY.sub(HIDDEN, text))


def remove_secret(text: str, secret: str) -> str:
    """`text` with `secret` replaced by ***, unless `secret` is too short to be one."""
    return text.replace(secret, "***") if len(secret) >= MIN_SECRET_CHARACTERS else text


def has_key(text: str) -> bool:
    """Whether `text` contains something that looks like a key, as a tutorial may."""
    return bool(_KEY.search(text))


def is_secret_name(name: str) -> bool:
    """Whether an argument, a setting or an environment variable of this name holds a secret."""
    return bool(_SECRET_NAME.search(name))


def is_local_path(text: str) -> bool:
    """Whether `text` is a path or URL, and not the name of a model on a hub."""
    return bool(_LOCAL_PATH.match(text))


def local_name(text: str) -> str:
    """The last part of a local path or URL; other text, such as a model's hub name, unchanged."""
    if not is_local_path(text.strip()):
        return text
    return re.split(r"[/\\]", text.split("?")[0].strip("/\\'\" "))[-1].rpartition("@")[2]


def redact_setting(name: str, value: Any) -> str:
    """The value of a setting as text, without secrets, passwords in URLs and local folders."""
    if is_secret_name(name) and value not in (None, True, False, "None", "True", "False"):
        return HIDDEN
    if isinstance(value, Mapping):
        inner = (f"{key}: {redact_setting(str(key), value[key])}" for key in value)
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(redact_setting(name, item) for item in value)}]"
    text = str(value)
    if "://" in text:
        url = public_url(text)
        return HIDDEN if url == NOT_A_URL else url
    return redact(text if " " in text else local_name(text))


def redact_arguments(arguments: Any) -> Any:
    """Arguments in the same shape, with secrets hidden and URLs without password and query.

    `arguments` is a mapping or, as typed for lm-eval, text such as "model=x,base_url=https://…".
    """
    if isinstance(arguments, Mapping):
        return {name: _redact_value(str(name), value) for name, value in arguments.items()}
    if not isinstance(arguments, str):
        return arguments
    pairs = (pair.partition("=") for pair in arguments.split(","))
    return ",".join(
        f"{name}={_redact_value(name.strip(), value)}" if equals else redact_url(name)
        for name, equals, value in pairs
    )


def _redact_value(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return redact_arguments(value)
    if isinstance(value, list | tuple):
        return [_redact_value(name, item) for item in value]
    if value is None or isinstance(value, bool) or str(value).lower() in ("none", "true", "false"):
        return value
    if is_secret_name(name):
        return HIDDEN
    return redact_url(value) if isinstance(value, str) else value


def redact_url(text: str) -> str:
    """`text` without the password and query of a URL, and without keys of a well-known form."""
    if "://" in text:
        url = public_url(text)
        return HIDDEN if url == NOT_A_URL else url
    return _KEY.sub(HIDDEN, text)


def public_url(url: str) -> str:
    """`url` without user, password and query, which may be secret; NOT_A_URL for other text."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:  # for example, a "/" in the password makes part of it parse as a port
        pass
    return NOT_A_URL


def redact_argument(argument: str) -> str:
    """A command-line argument, safe to print: the password and query of a URL are removed."""
    if not re.match(r"(--[\w-]+=)?https?://\S+$", argument):
        return argument
    return re.sub(r"\?.*", "?***", re.sub("//[^/?]*@", "//***@", argument))


def secrets_in(text: str, environment: Mapping[str, str]) -> list[str]:
    """Names of the environment variables whose secret values occur in `text`, which may be JSON."""
    return [
        name
        for name, value in sorted(environment.items())
        if is_secret_name(name)
        and len(value.strip()) >= MIN_SECRET_CHARACTERS
        and any(form in text for form in _json_forms(value.strip()))
    ]


def _json_forms(secret: str) -> list[str]:
    """`secret` as it is, in JSON, and in JSON within JSON, as in a logged judge reply."""
    once = json.dumps(secret, ensure_ascii=False)[1:-1]
    return [secret, once, json.dumps(once, ensure_ascii=False)[1:-1]]
