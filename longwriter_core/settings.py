"""Settings in pydantic models, resolved from options, the environment and defaults.

A model's fields are the one place for a setting's type, default and description:

    class Settings(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        concurrency: Count = Field(default=32, description="calls in flight")

`resolve` fills such a model; the help of a command-line option is the field's description.
"""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError

from longwriter_core.errors import InputError
from longwriter_core.redact import NOT_A_URL, public_url

MAX_COUNT = 1024  # for example calls in flight, or verdicts per response

_Model = TypeVar("_Model", bound=BaseModel)


def resolve(
    model: type[_Model],
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    what: str = "settings",
    option_prefix: str = "",
    environment_prefix: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    fallbacks: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> _Model:
    """Build `model` from `options`, else the environment, else `defaults`, else its own defaults.

    An option is named `option_prefix` + field. With a prefix, `options` may include options of
    other programs: a name is ignored if it neither starts with the prefix's word nor looks like a
    misspelling of a known name. Without a prefix, every name must be known.

    A variable is named `environment_prefix` + FIELD; an empty one counts as unset. Without a
    prefix no variables are read. `fallbacks` maps fields to variables with names of their own,
    which are read when nothing else sets the field. `names` maps fields to options with names of
    their own.

    `secrets` maps each name that must not be given as an option to the reason. The environment may
    contain these settings; the caller reads them from there.

    The validation context holds "options", the fields that came from `options`. Validators use it
    to refuse a value that may come from the environment only.

    Raises InputError, which lists every unknown name and every invalid value. It never shows the
    values of secrets.
    """
    secrets = secrets or {}
    option_of = {field: option_prefix + field for field in model.model_fields} | dict(names or {})
    field_of = {option: field for field, option in option_of.items()}
    sources = dict(option_of)
    known = list(field_of)
    values: dict[str, Any] = dict(defaults or {})
    problems: list[str] = []
    ours = [*known, *(option_prefix + name for name in secrets)]

    def take(key: str, source: str, value: Any) -> None:
        field = field_of.get(key, "")
        if field:
            values[field], sources[field] = value, source
        else:
            close = difflib.get_close_matches(key, known, 1, 0.8)
            problems.append(f"{source} is unknown (known: {', '.join(close or known)})")

    for field, variable in (fallbacks or {}).items():
        if value := environment.get(variable):
            take(option_of[field], variable, value)
    if environment_prefix:
        for variable, value in environment.items():
            field = variable.removeprefix(environment_prefix).lower()
            if variable.startswith(environment_prefix) and value and field not in secrets:
                take(option_prefix + field, variable, value)
    from_options = set()
    for key, value in options.items():
        if option_prefix and not _is_own_option(key, option_prefix, ours):
            continue
        if (field := key.removeprefix(option_prefix)) in secrets:
            problems.append(f"{key} {secrets[field]}")
        else:
            take(key, key, value)
            from_options.add(field_of.get(key, field))
    try:
        settings = model.model_validate(values, context={"options": from_options})
    except ValidationError as error:
        problems += [
            f"{sources[str(problem['loc'][0])]} {_sentence(problem)}" for problem in error.errors()
        ]
    if problems:
        raise InputError(f"{what}: {'; '.join(problems)}")
    return settings


def _is_own_option(key: str, prefix: str, known: list[str]) -> bool:
    # a misspelling such as jugde_model must not be ignored, which would silently use the default
    return key.lower().startswith(prefix.rstrip("_")) or bool(
        difflib.get_close_matches(key.lower(), known, 1, 0.8)
    )


def _sentence(error: Any) -> str:
    """The rest of a sentence that starts with the setting's name."""
    if error["type"] == "value_error":  # raised by a validator of this project
        return str(error["ctx"]["error"])
    if error["type"] == "missing":
        return "must be given"
    message: str = error["msg"]
    for start in ("Input should ", "String should ", "Value should "):
        message = message.replace(start, "must ")
    return f"{message}, not {error['input']!r}"


def _count(value: Any) -> int:
    if not str(value).isdecimal() or not 1 <= int(value) <= MAX_COUNT:
        raise ValueError(f"must be a whole number from 1 to {MAX_COUNT}, not {value!r}")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be text, not {value!r}")
    return value.strip()


def _url(value: Any) -> str:
    url = _text(value)
    if public_url(url) == NOT_A_URL:  # the error omits the URL, which may contain a password
        raise ValueError("must be a URL like https://host/v1")
    return url.rstrip("/")


Count = Annotated[int, BeforeValidator(_count)]
Text = Annotated[str, BeforeValidator(_text)]
Url = Annotated[str, BeforeValidator(_url)]
OptionalUrl = Annotated[
    str | None, BeforeValidator(lambda value: None if value is None else _url(value))
]
