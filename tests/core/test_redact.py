"""Secrets and local paths never reach results, reports, submissions, logs or errors."""

import json

import pytest

from longwriter_core.redact import (
    has_key,
    is_secret_name,
    local_name,
    public_url,
    redact,
    redact_argument,
    redact_arguments,
    redact_setting,
    remove_secret,
    secrets_in,
)

HF_KEY = "hf_" + "a1" * 17


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("http://[::1]:8000/v1/", "http://[::1]:8000/v1/"),
        ("http://me:hunter2@host:8000/v1", "http://host:8000/v1"),
        ("http://me:a@b@host/v1", "http://host/v1"),
        ("https://host/v1?key=hunter2&mail=me@home#x", "https://host/v1"),
        ("me:hunter2@host/v1", "(not a URL)"),
        ("http://me:hun?ter2@host/v1", "(not a URL)"),
    ],
)
def test_a_url_is_shown_without_user_password_and_query(url: str, shown: str) -> None:
    assert public_url(url) == shown


@pytest.mark.parametrize("name", ["MY_API_KEY", "my_api_key", "DB_PASS", "PROXY_AUTH"])
def test_a_secret_with_json_escapes_is_detected(name: str) -> None:
    secret = 'ab"cd\\ef/gh'
    reply = json.dumps({"Analysis": secret})
    for text in (secret, json.dumps({"response": secret}), json.dumps({"raw": reply})):
        assert secrets_in(text, {name: secret}) == [name]
    assert secrets_in(json.dumps({"response": "ab cd"}), {name: secret}) == []


@pytest.mark.parametrize(
    "name",
    ["api_key", "hf_token", "HF_TOKENS", "token", "TOKEN_2", "headers", "Authorization", "pwd",
     "DB_PASS", "password", "cookies", "secret", "aws_credentials", "proxy_auth"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "max_gen_toks", "tokenizer", "think_end_token", "add_bos_token", "eos_token_id",
     "GIT_AUTHOR_NAME", "authors", "num_passes", "revision"],
)  # fmt: skip
def test_names_that_look_like_those_of_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_keys_and_folders_are_removed_from_a_text() -> None:
    assert redact(f"Use {HF_KEY} at /srv/me/x or C:\\me\\y, and/or /think") == (
        "Use (hidden) at x or y, and/or /think"
    )
    assert redact("see https://host/a/b") == "see https://host/a/b"
    assert has_key(HF_KEY)
    assert not has_key("hf_hub")


def test_short_values_are_not_replaced_as_secrets() -> None:
    assert remove_secret("key 12345678.", "12345678") == "key ***."
    assert remove_secret("none of it", "none") == "none of it"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("api_key", "abc", "(hidden)"),
        ("use_auth_token", True, "True"),
        ("extra", {"key": "a", "adapters": ["/home/me/x"]}, "{key: (hidden), adapters: [x]}"),
        ("base_url", "https://me:pw@host/v1?key=1", "https://host/v1"),
        ("base_url", "https://me:p/w@host", "(hidden)"),
        ("pretrained", "zai-org/glm-4-9b", "zai-org/glm-4-9b"),
        ("until", ["</s>", "\n\n"], "[</s>, \n\n]"),
        ("temperature", 0.5, "0.5"),
    ],
)  # fmt: skip
def test_a_setting_is_shown_without_secrets(name: str, value: object, shown: str) -> None:
    assert redact_setting(name, value) == shown


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (
            {"base_url": "https://me:pw@host/v1?key=1", "api_key": 12345678, "max_length": 9},
            {"base_url": "https://host/v1", "api_key": "(hidden)", "max_length": 9},
        ),
        (
            "model=owner/name,base_url=http://host:80/v1?sig=abc,hf_token=x,trust=True",
            "model=owner/name,base_url=http://host:80/v1,hf_token=(hidden),trust=True",
        ),
        ({"headers": {"x": "y"}, "urls": ["http://h/?k=v"]}, {"headers": {"x": "y"}, "urls": ["http://h/"]}),
        ({"until": ["</s>"], "temperature": 0.5}, {"until": ["</s>"], "temperature": 0.5}),
        (None, None),
    ],
)  # fmt: skip
def test_arguments_are_kept_in_their_shape_without_secrets(arguments: object, kept: object) -> None:
    assert redact_arguments(arguments) == kept


def test_the_name_of_a_local_model_is_the_last_part_of_its_path() -> None:
    assert local_name("/home/me/models/mine/") == "mine"
    assert local_name("s3://bucket/mine") == "mine"
    assert local_name("zai-org/glm-4-9b") == "zai-org/glm-4-9b"


def test_an_argument_is_printed_without_the_password_and_query_of_its_url() -> None:
    assert (
        redact_argument("--base-url=http://me:pw@host/v1?k=1")
        == "--base-url=http://***@host/v1?***"
    )
    assert redact_argument("me@home?") == "me@home?"
