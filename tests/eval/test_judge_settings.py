"""Judge settings: metadata overrides the environment, and misspelled names are refused."""

from typing import Any

import pytest

from longwriter_core.errors import InputError
from longwriter_eval.judge.settings import JudgeSettings, api_key

KEY = "sk-a-secret"


def refusal(metadata: dict[str, Any], environment: dict[str, str] | None = None) -> str:
    """The one-line error for these settings."""
    with pytest.raises(InputError) as refused:
        JudgeSettings.resolve(metadata, environment or {})
    (line,) = str(refused.value).splitlines()
    return line


def test_the_defaults_are_the_published_protocol() -> None:
    settings = JudgeSettings.resolve({}, {})
    assert settings.model_dump() == {
        "profile": "gpt-4o-2024-11-20",
        "model": "gpt-4o-2024-11-20",
        "base_url": None,
        "temperature": 0.5,
        "max_tokens": 1024,
        "extra": "{}",
        "batch": False,
        "max_cost": None,
        "concurrency": 32,
        "prompt": "official",
        "repeats": 1,
        "segments": None,
    }
    assert (settings.record()["temperature"], settings.record()["max_tokens"]) == (0.5, 1024)


@pytest.mark.parametrize(
    ("name", "by_default", "in_environment", "in_metadata"),
    [
        ("model", "gpt-4o-2024-11-20", "judge-e", "judge-m"),
        ("base_url", None, "http://e/v1", "http://m/v1"),
        ("concurrency", 32, 5, 7),
        ("prompt", "official", "longwriter", "mine.txt"),
        ("repeats", 1, 2, 3),
    ],
)
def test_metadata_wins_over_the_environment_which_wins_over_the_default(
    name: str, by_default: object, in_environment: object, in_metadata: object
) -> None:
    environment = {f"LONGWRITER_JUDGE_{name.upper()}": str(in_environment)}
    metadata = {f"judge_{name}": in_metadata}
    assert getattr(JudgeSettings.resolve({}, {}), name) == by_default
    assert getattr(JudgeSettings.resolve({}, environment), name) == in_environment
    assert getattr(JudgeSettings.resolve(metadata, environment), name) == in_metadata


def test_a_task_may_have_its_own_default() -> None:
    environment = {"LONGWRITER_JUDGE_PROMPT": "official"}
    assert JudgeSettings.resolve({}, {}, prompt="longwriter").prompt == "longwriter"
    assert JudgeSettings.resolve({}, environment, prompt="longwriter").prompt == "official"


def test_an_empty_variable_counts_as_unset() -> None:
    assert JudgeSettings.resolve({}, {"LONGWRITER_JUDGE_MODEL": ""}) == JudgeSettings()


def test_the_endpoint_from_openais_variable_is_recorded() -> None:
    environment = {"OPENAI_BASE_URL": "http://proxy/v1"}
    assert JudgeSettings.resolve({}, environment).record()["base_url"] == "http://proxy/v1"
    ours = {**environment, "LONGWRITER_JUDGE_BASE_URL": "http://judge/v1"}
    assert JudgeSettings.resolve({}, ours).base_url == "http://judge/v1"


def test_numbers_may_be_strings_and_urls_may_end_in_a_slash() -> None:
    given = {"judge_repeats": "3", "judge_base_url": " http://host:8000/v1/ "}
    settings = JudgeSettings.resolve(given, {})
    assert (settings.repeats, settings.base_url) == (3, "http://host:8000/v1")


def test_arguments_of_the_evaluated_model_are_ignored() -> None:
    arguments = {"model": "m", "base_url": "http://writer/v1", "num_concurrent": 4, "prompt": 1}
    assert JudgeSettings.resolve(arguments, {}) == JudgeSettings()


@pytest.mark.parametrize(
    "key",
    [
        "jugde_model",
        "judge_modell",
        "judge_url",
        "judges",
        "judge_profile",
        "judgemodel",
        "Judge_Model",
        "judge_",
    ],
)
def test_an_unknown_or_misspelled_name_is_refused(key: str) -> None:
    assert f"{key} is unknown (known: " in refusal({key: "gpt-5"})


def test_the_error_for_a_misspelled_name_suggests_the_nearest_known_name() -> None:
    assert "jugde_model is unknown (known: judge_model)" in refusal({"jugde_model": "x"})
    assert "LONGWRITER_JUDGE_MODLE is unknown" in refusal({}, {"LONGWRITER_JUDGE_MODLE": "x"})


@pytest.mark.parametrize("key", ["judge_api_key", "jugde_api_key", "judge_apikey"])
def test_a_key_in_metadata_is_refused_and_not_printed(key: str) -> None:
    line = refusal({key: KEY})
    assert key in line
    assert KEY not in line


def test_the_error_for_a_key_in_metadata_names_the_variable_to_use() -> None:
    assert "set LONGWRITER_JUDGE_API_KEY instead" in refusal({"judge_api_key": KEY})


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("concurrency", "repeats") for value in (0, -1, 1.5, "many", True)]
    + [("model", ""), ("model", None), ("prompt", 3)]
    + [("base_url", "host/v1"), ("base_url", "ftp://host"), ("base_url", "http://h:99999")],
)
def test_an_invalid_value_is_refused(name: str, value: object) -> None:
    assert f"judge_{name} must be " in refusal({f"judge_{name}": value})


def test_a_refused_url_is_not_printed_because_it_may_hold_a_password() -> None:
    assert "hunter2" not in refusal({"judge_base_url": "user:hunter2@host/v1"})


@pytest.mark.parametrize("url", ["http://me:hunter2@host/v1", "http://host/v1?key=hunter2"])
def test_a_url_with_a_secret_must_come_from_the_environment(url: str) -> None:
    line = refusal({"judge_base_url": url})  # lm-eval writes all metadata to the results
    assert "set LONGWRITER_JUDGE_BASE_URL instead" in line
    assert "hunter2" not in line
    assert JudgeSettings.resolve({}, {"LONGWRITER_JUDGE_BASE_URL": url}).base_url == url


def test_all_problems_are_reported_at_once() -> None:
    line = refusal(
        {"judge_repeats": 0, "jugde_model": "x", "judge_api_key": KEY},
        {"LONGWRITER_JUDGE_CONCURRENCY": "many", "LONGWRITER_JUDGE_MOOD": "good"},
    )
    for problem in ("judge_repeats", "jugde_model", "judge_api_key", "_CONCURRENCY", "_MOOD"):
        assert problem in line


def test_the_record_holds_no_password_and_no_local_path() -> None:
    settings = JudgeSettings(base_url="http://user:hunter2@host/v1?k=abc", prompt="/home/me/p.txt")
    record = settings.record()
    assert (record["base_url"], record["prompt"]) == ("http://host/v1", "p.txt")


@pytest.mark.parametrize(
    ("environment", "key"),
    [
        pytest.param({"LONGWRITER_JUDGE_API_KEY": "a", "OPENAI_API_KEY": "b"}, "a", id="ours"),
        pytest.param({"OPENAI_API_KEY": "b"}, "b", id="openai"),
        pytest.param({"OPENAI_API_KEY": " b\n"}, "b", id="line-break-from-a-file"),
    ],
)
def test_our_variable_for_the_key_wins_over_openais(environment: dict[str, str], key: str) -> None:
    assert api_key(JudgeSettings(), environment) == key


def test_only_openai_itself_needs_a_key() -> None:
    assert api_key(JudgeSettings(base_url="http://mine/v1"), {})
    with pytest.raises(InputError, match="no key for the judge gpt-4o-2024-11-20") as refused:
        api_key(JudgeSettings(), {})
    for way_out in ("LONGWRITER_JUDGE_API_KEY", "judge_base_url", "longbench_write_length"):
        assert way_out in str(refused.value)
