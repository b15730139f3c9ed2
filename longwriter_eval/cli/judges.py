"""`longwriter judges`: the profiles of judges."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from longwriter_eval.cli import judge_options

if TYPE_CHECKING:
    from longwriter_eval.judge.settings import JudgeSettings


def command(
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="ask the judge's endpoint which models it has, and until when; needs its key",
        ),
    ] = False,
    judge: judge_options.Profile = None,
    judge_base_url: judge_options.BaseUrl = None,
) -> int:
    """List the profiles of judges: what each needs and sends, what it costs, how long it lives.

    The cost is that of 120 responses of LongBench-Write, roughly. With --check, the endpoint of the
    judge that is set, or of --judge, is asked about all profiles that it serves.
    """
    import os

    from longwriter_core.errors import InputError
    from longwriter_core.llm.profiles import find_profile, living_profiles, profiles, today
    from longwriter_core.redact import NOT_A_URL, public_url
    from longwriter_eval.judge.panel import judge_names
    from longwriter_eval.judge.settings import DEFAULT_PROFILE, JudgeSettings

    if check:
        overrides = judge_options.overrides(profile=judge, base_url=judge_base_url)
        return _check(JudgeSettings.resolve(overrides, os.environ))
    if judge_base_url and public_url(judge_base_url) == NOT_A_URL:
        raise InputError("--judge-base-url: it must be a URL like https://host/v1")
    living = living_profiles(today())
    named = judge_names(judge)
    if judge and not named:
        raise InputError(f"--judge: {judge!r} names no profile")
    for profile in map(find_profile, named) if named else profiles().values():
        is_default = profile.name == DEFAULT_PROFILE and profile.name in living
        default = ", the default" if is_default else ""
        print(f"{profile.name}{default}")
        for name, value in _facts(profile.name):
            print(*_wrapped(name, value), sep="\n")
    if DEFAULT_PROFILE not in living:
        print(f"\nThere is no default any more: choose one of {', '.join(living)}")
    print("\nChoose one by LONGWRITER_JUDGE=NAME, --judge NAME, or judge in --metadata.")
    return 0


def _wrapped(name: str, value: str) -> list[str]:
    """A row of the list, in lines that fit the terminal; addresses and names are not broken."""
    import shutil
    import textwrap

    width = max(40, shutil.get_terminal_size((80, 24)).columns)
    return textwrap.wrap(
        value or "–",
        width,
        initial_indent=f"  {name:9} ",
        subsequent_indent=" " * 12,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _facts(name: str) -> list[tuple[str, str]]:
    """The properties of a profile: name and value."""
    from longwriter_core.llm.profiles import OPENAI, RESPONSES, find_profile, money, today

    profile, day = find_profile(name), today()
    sent = [
        "no temperature" if profile.temperature is None else f"temperature {profile.temperature:g}",
        f"{profile.token_field} {profile.max_tokens:,}",
        *([f"reasoning_effort {profile.reasoning_effort}"] if profile.reasoning_effort else []),
        *(["a JSON schema"] if profile.structured_output else []),
        *(f"{key} {value}" for key, value in profile.extra.items()),
    ]
    prices, ends = profile.prices_on(day), profile.shutdown_date
    price = (
        f"about {money(profile.run_cost(day))} for {RESPONSES} responses "
        f"(${prices.prompt:g} prompt, ${prices.cached:g} cached, ${prices.completion:g} "
        "completion, per million tokens)"
        if prices
        else "unknown, no source: --max-cost refuses it"
    )
    if not profile.endpoint:
        needs = "a server of your own: judge_base_url"
    elif not profile.key and profile.endpoint != OPENAI:
        needs = "a key in LONGWRITER_JUDGE_API_KEY if its server asks for one"
    else:
        needs = f"a key in LONGWRITER_JUDGE_API_KEY or {profile.key or 'OPENAI_API_KEY'}"
    if ends is None:
        lives = "no shutdown announced" if profile.endpoint else "as long as you serve it"
    elif profile.is_shut_down(profile.endpoint, day):
        lives = f"shut down on {ends}"
    else:
        lives = f"until {ends} ({(ends - day).days} days)"
    context = f"{profile.context_window:,} tokens" if profile.context_window else ""
    context = context or "unknown, no source: long responses are not checked against it"
    rows = [
        ("model", profile.model + (f" at {profile.endpoint}" if profile.endpoint else "")),
        ("needs", needs),
        ("sends", ", ".join(sent)),
        ("cost", price),
        ("context", context),
        ("lives", lives),
    ]
    return [*rows, ("note", profile.note)] if profile.note else rows


def _check(settings: "JudgeSettings") -> int:
    """List the endpoint's models; returns 1 if the selected judge is not among them."""
    import os

    from longwriter_core.errors import InputError
    from longwriter_core.llm.client import list_models
    from longwriter_core.llm.concurrency import run_async
    from longwriter_core.llm.errors import CallError
    from longwriter_core.llm.profiles import profiles, today
    from longwriter_eval.judge.settings import api_key

    try:
        offered = run_async(list_models(settings.base_url, api_key(settings, os.environ)))
    except CallError as error:
        raise InputError(f"cannot list the judge's models: {error}") from error
    wanted = {
        profile.model: profile.name
        for profile in profiles().values()
        if profile.is_own_endpoint(settings.base_url)
    }
    wanted = {settings.model: settings.label, **wanted}
    states = {model: _state(model, offered, today()) for model in wanted}
    for model, name in wanted.items():
        print(f"{name}: {states[model][1]}")
    return 0 if states[settings.model][0] else 1


def _state(model: str, offered: Mapping[str, object], day: date) -> tuple[bool, str]:
    """Whether an endpoint offers a model on `day`, and until when, in words.

    `offered` has its models with the shutdown dates that it gives. Gemini's list has them as
    models/NAME.
    """
    listed = model if model in offered else f"models/{model}"
    if listed not in offered:
        return False, "not offered"
    given = offered[listed]
    if given is None or given == "":
        return True, "offered, no shutdown announced"
    ends = _date_of(given)
    if ends is None:
        return True, "offered, with a shutdown date that cannot be read"
    return ends > day, f"shut down on {ends}" if ends <= day else f"until {ends}"


def _date_of(given: object) -> date | None:
    """The day of an ISO date or time, or of Unix seconds; None for anything else."""
    try:
        if isinstance(given, str):
            return date.fromisoformat(given.strip()[:10])
        if isinstance(given, int | float) and not isinstance(given, bool):
            return datetime.fromtimestamp(given, UTC).date()
    except (ValueError, OverflowError, OSError):
        pass
    return None
