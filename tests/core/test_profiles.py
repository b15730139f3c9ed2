"""Judge profiles and call costs, as shipped and with user files."""

import tomllib
from datetime import date
from importlib.resources import files
from pathlib import Path

import pytest

from longwriter_core.errors import InputError
from longwriter_core.llm import profiles as module
from longwriter_core.llm.profiles import (
    OPENAI,
    cost,
    find_profile,
    living_profiles,
    money,
    prices_of,
    profile_of_model,
    profiles,
)

MILLION = 1_000_000
SHIPPED = (files(module.__package__) / "profiles.toml").read_text(encoding="utf-8")
FACTS = ("prices", "context_window", "shutdown_date")


# Profiles


@pytest.mark.parametrize("name", profiles())
def test_every_known_fact_of_a_shipped_profile_has_a_source(name: str) -> None:
    profile = find_profile(name)
    known = {fact for fact in FACTS if getattr(profile, fact) is not None}
    assert {*known, "request"} == set(profile.sources)
    assert all(source.startswith("https://") for source in profile.sources.values())


def test_the_papers_judge_and_the_default_have_the_papers_constants_and_shutdown_dates() -> None:
    for name, ends in [
        ("gpt-4o-2024-05-13", date(2026, 10, 23)),
        ("gpt-4o-2024-11-20", date(2027, 1, 14)),
    ]:
        profile = find_profile(name)
        sent = (profile.temperature, profile.token_field, profile.max_tokens)
        assert sent == (0.5, "max_tokens", 1024)
        assert not any((profile.reasoning_effort, profile.structured_output, profile.extra))
        assert profile.shutdown_date == ends


def test_a_model_is_shut_down_from_its_date_on_and_only_at_its_providers_endpoint() -> None:
    profile = find_profile("gpt-4o-2024-11-20")
    assert not profile.is_shut_down(None, date(2027, 1, 13))
    assert profile.is_shut_down(None, date(2027, 1, 14))
    assert profile.is_shut_down(OPENAI + "/", date(2027, 1, 14))
    assert not profile.is_shut_down("http://mine/v1", date(2027, 1, 14))
    assert "gpt-4o-2024-11-20" in living_profiles(date(2026, 11, 21))
    assert living_profiles(date(2027, 1, 14)) == [
        name for name in profiles() if not name.startswith("gpt-4o")
    ]


def test_reasoning_models_have_enough_tokens_and_no_temperature_that_they_refuse() -> None:
    thinking = [profile for profile in profiles().values() if profile.thinks]
    assert len(thinking) >= 5
    assert all(profile.max_tokens >= 8_192 for profile in thinking)
    assert not [model for model in thinking if model.endpoint and model.temperature is not None]


def test_a_price_with_a_last_day_is_unknown_from_the_next_day_on() -> None:
    assert prices_of("gemini-3.8-flash", date(2026, 12, 31))
    assert prices_of("gemini-3.8-flash", date(2027, 1, 1)) is None
    assert cost("gemini-3.8-flash", MILLION, 0) == 0.75  # of a run that was judged before


def test_a_model_is_found_by_its_name_at_its_providers_endpoint() -> None:
    found = profile_of_model("gpt-6-luna", None)
    assert found is not None
    assert found.name == "gpt-6-luna"
    assert profile_of_model("gpt-6-luna", "http://mine/v1") is None


MINE = """
[profiles.mine]
model = "my-model"
endpoint = "http://localhost:9/v1/"
max_tokens = 99
prices = [1, 2]
[profiles."gpt-6-luna"]
model = "gpt-6-luna"
"""


@pytest.mark.parametrize("place", ["variable", "configuration"])
def test_a_user_file_adds_profiles_and_replaces_shipped_ones(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "longwriter" / "profiles.toml"
    path.parent.mkdir()
    path.write_text(MINE)
    if place == "variable":
        monkeypatch.setenv("LONGWRITER_PROFILES", str(path))
    else:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    mine = find_profile("mine")
    assert (mine.endpoint, mine.max_tokens) == ("http://localhost:9/v1", 99)
    assert cost("my-model", MILLION, MILLION) == 3
    assert find_profile("gpt-6-luna").max_tokens == 1024
    assert find_profile("gpt-oss-120b")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read LONGWRITER_PROFILES="),
        ("[profiles.mine", "is no TOML file"),
        ("[profile.mine]\nmodel='m'", "unknown table [profile]"),
        ("profiles = 3", "profiles is no table"),
        ("[profiles]\nmine = 3", "[profiles.mine] is no table"),
        ("[profiles.mine]", "[profiles.mine] model: Field required"),
        ("[profiles.mine]\nmodel=''", "[profiles.mine] model"),
        ("[profiles.mine]\nmodel='m'\nname='x'", "name: unknown key"),
        ("[profiles.mine]\nmodel='m'\nextra={temperature=1.9}", "must not set temperature"),
        ("[profiles.mine]\nmodel='m'\nextra={n=7,model='y'}", "must not set model, n"),
        ("[profiles.mine]\nmodel='m'\nextra={max_completion_tokens=7}", "must not set max_comp"),
        ("[profiles.mine]\nmodel='m'\nextra={since=2026-01-01}", "values that JSON can hold"),
        ("[profiles.mine]\nmodel='m'\nextra={top_p=nan}", "values that JSON can hold"),
        ("[profiles.mine]\nmodel='m'\nendpoint=''", "endpoint is not a plain URL"),
        ("[profiles.mine]\nmodel='m'\nmax_token=3", "unknown key (did you mean max_tokens?)"),
        ("[profiles.mine]\nmodel='m'\nmax_tokens=0", "max_tokens"),
        ("[profiles.mine]\nmodel='m'\nprices=[1]", "prices is not two or three numbers"),
        ("[profiles.mine]\nmodel='m'\nprices=[1, nan]", "prices is not two or three numbers"),
        ("[profiles.mine]\nmodel='m'\nendpoint='localhost'", "endpoint is not a plain URL"),
        ("[profiles.mine]\nmodel='m'\nshutdown_date='soon'", "shutdown_date"),
        ("[prices]\nmine = 3", "no table [mine.models]"),
    ],
)
def test_an_unusable_profiles_file_gives_a_one_line_error(
    text: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profiles.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("LONGWRITER_PROFILES", str(path))
    with pytest.raises(InputError) as refused:
        profiles()
    (line,) = str(refused.value).splitlines()
    assert says in line
    assert str(path) in line


def test_the_error_for_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="did you mean gpt-6-luna\\? known are") as refused:
        find_profile("gpt6-luna")
    assert "judge_model" in str(refused.value)


# Prices


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("gpt-4o", 12.50),
        ("gpt-4o-2024-05-13", 20.00),
        ("gpt-4o-2024-08-06", 12.50),
        ("gpt-4o-mini-2024-07-18", 0.75),
        ("claude-haiku-4-5-20251001", 6.00),
        ("gpt-4o-audio-preview", None),
        ("my-own-model", None),
        ("gpt-4", 90.00),
    ],
)
def test_a_model_and_its_dated_snapshots_have_a_price(model: str, usd: float | None) -> None:
    assert cost(model, MILLION, MILLION) == usd


def test_prompt_and_completion_have_separate_prices() -> None:
    assert cost("gpt-4o-2024-05-13", 2_000, 100) == pytest.approx(0.0115)


def test_cached_prompt_tokens_have_their_own_price_or_cost_like_others() -> None:
    assert cost("gpt-6-luna", MILLION, 0, MILLION) == pytest.approx(0.01)
    assert cost("gpt-6-luna", MILLION, 0, 400_000) == pytest.approx(0.06 + 0.004)
    assert cost("gpt-4.1", MILLION, 0, MILLION) == 2


def test_every_price_list_has_its_source_and_date() -> None:
    lists = tomllib.loads(SHIPPED)["prices"]
    assert lists
    for provider in lists.values():
        assert provider["source"].startswith("https://")
        assert provider["as_of"].year >= 2026
        assert provider["models"]


def test_a_user_price_list_overrides_only_its_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.toml"
    path.write_text('[mine.models]\n"gpt-4o" = [1, 2]\n"my-own-model" = [0, 0.5]\n')
    monkeypatch.setenv("LONGWRITER_PRICES", str(path))
    assert cost("gpt-4o", MILLION, MILLION) == 3
    assert cost("my-own-model", MILLION, MILLION) == 0.5
    assert cost("gpt-4.1", MILLION, MILLION) == 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read"),
        ("[mine", "is no TOML file: Expected"),
        ('"my-model" = [1, 2]', "no table"),
        ('[mine.models]\n"my-model" = 1', "not two or three numbers"),
        ('[mine.models]\n"my-model" = [1, -2]', "not two or three numbers"),
    ],
)
def test_an_unusable_price_list_is_an_input_error(
    text: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("LONGWRITER_PRICES", str(path))
    with pytest.raises(InputError, match=says):
        cost("gpt-4o", 1, 1)


def test_money_is_readable_from_fractions_of_a_cent_to_thousands() -> None:
    assert [money(usd) for usd in (0, 0.00421, 0.5, 1234.5, None)] == [
        "$0.00", "$0.0042", "$0.50", "$1,234.50", "",
    ]  # fmt: skip
