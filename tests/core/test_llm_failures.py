"""Failing calls: typed one-line errors, no useless retries, and no keys in messages."""

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
from support.endpoint import KEY, Endpoint, ask, ask_all, completion, refusal, request

from longwriter_core.errors import InputError
from longwriter_core.llm import (
    CallError,
    ChatPool,
    ContextOverflowError,
    EndpointError,
    RefusedError,
    Reply,
    SkippedError,
    Store,
    run_async,
)
from longwriter_core.llm import store as store_module
from longwriter_core.mock_server.server import JUDGE, Faults


def stored() -> list[Path]:
    return [path for path in Store().folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"error": {"message": "overloaded"}}, id="error-with-status-200"),
        pytest.param({**completion("x"), "choices": []}, id="no-choice"),
        pytest.param({**completion("x"), "choices": "abc"}, id="choices-are-text"),
        pytest.param({**completion("x"), "choices": [None]}, id="choice-is-null"),
        pytest.param({**completion("x"), "choices": [{"message": None}]}, id="message-is-null"),
        pytest.param(completion([{"type": "text"}]), id="content-is-a-list"),  # type: ignore[arg-type]
        pytest.param(completion("x", refusal=5), id="refusal-is-a-number"),
        pytest.param({**completion("x"), "usage": "many"}, id="usage-is-text"),
        pytest.param([], id="a-list"),
        pytest.param(None, id="null"),
    ],
)
def test_an_answer_that_is_not_a_completion_gives_a_one_line_error(answer: object) -> None:
    with Endpoint(answers=[(200, answer)]) as server:
        error = ask(server.base_url)
    assert isinstance(error, CallError)
    assert "answered with application/json" in str(error)
    assert "instead of a chat completion" in str(error)
    assert stored() == []


def test_repeated_html_ends_the_call_with_a_hint_about_the_base_url() -> None:
    with Endpoint(faults=Faults(1.0, ("html",))) as server:
        error = ask(server.base_url.replace("://", "://me:hunter2@"), retries=1)
    assert isinstance(error, CallError)
    assert str(error).startswith(f"{server.base_url} answered with text/html")
    assert "/v1" in str(error)
    assert server.requests == 2


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (refusal(401, "invalid_api_key", "bad key"), EndpointError, "transport_error"),
        (refusal(402, None, "no credit"), EndpointError, "transport_error"),
        (refusal(403, None, "forbidden"), EndpointError, "transport_error"),
        (refusal(404, "model_not_found", "no model"), EndpointError, "transport_error"),
        (refusal(405, None, "not allowed"), EndpointError, "transport_error"),
        (refusal(429, "insufficient_quota", "no quota"), EndpointError, "transport_error"),
        (refusal(429, "rate_limit", "slow down"), CallError, "transport_error"),
        (refusal(500, None, "a crash"), CallError, "transport_error"),
        (refusal(400, None, "no such field"), CallError, "transport_error"),
        (refusal(400, "context_length_exceeded", "."), ContextOverflowError, "context_overflow"),
        (refusal(400, None, "maximum context length"), ContextOverflowError, "context_overflow"),
        (refusal(400, None, "exceeds context size"), ContextOverflowError, "context_overflow"),
        (refusal(413, None, "prompt is too long"), ContextOverflowError, "context_overflow"),
        (refusal(400, "content_filter", "."), RefusedError, "refused"),
        (refusal(403, None, "flagged by moderation"), RefusedError, "refused"),
    ],
    ids=lambda value: f"{value[0]}-{value[1]['error']['message']}" if type(value) is tuple else "",
)
def test_a_failure_has_a_type_and_a_reason(
    answer: tuple[int, Any], error: type[CallError], reason: str
) -> None:
    with Endpoint(answers=[answer]) as server:
        outcome = ask(server.base_url)
    assert type(outcome) is error
    assert outcome.reason == reason
    assert answer[1]["error"]["message"] in str(outcome)


def test_a_dead_port_is_a_call_error() -> None:
    outcome = ask("http://127.0.0.1:1/v1")
    assert type(outcome) is CallError


@pytest.mark.parametrize(
    ("key", "model", "says"),
    [("sk-wrong", JUDGE, "Incorrect API key"), (KEY, "gpt-unheard-of", "does not exist")],
    ids=["bad-key", "unknown-model"],
)
def test_an_error_that_would_fail_every_call_is_not_retried_and_ends_the_calls(
    key: str, model: str, says: str
) -> None:
    requests = [request(text, model) for text in ("1", "2", "3")]
    with Endpoint(api_key=KEY) as server:
        first, *others = run_async(ask_all(server.base_url, *requests, key=key))
    assert isinstance(first, EndpointError)
    assert all(isinstance(other, SkippedError) and says in str(other) for other in others)
    assert server.requests == 1


def test_a_full_disk_loses_no_reply_and_ends_the_calls(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write(path: Path, data: bytes, *, sync: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path), None, len(data) + sync)

    monkeypatch.setattr(store_module, "write_atomically", write)
    with Endpoint() as server:
        first, *others = run_async(ask_all(server.base_url, *map(request, "123")))
    assert isinstance(first, Reply)
    assert all(isinstance(other, SkippedError) for other in others)
    assert server.requests == 1
    assert f"cannot write to {Store().folder} (No space left on device)" in caplog.text


# Secrets


def test_a_key_that_the_server_echoes_is_in_no_message_log_or_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [refusal(400, None, f"Bad\nkey {KEY}."), (200, completion("Fine."))]
    with Endpoint(answers=answers) as server:
        error, reply = run_async(ask_all(server.base_url, request("1"), request("2")))
    assert isinstance(reply, Reply)
    assert "Bad key ***." in str(error)
    assert KEY not in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(KEY.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    "url",
    ["http://me:hunter2@host:99999/v1", "http://me:hunter2@[::1/v1", "http://me:hun/ter2@host/v1"],
    ids=["port", "host", "slash-in-password"],
)
def test_a_malformed_base_url_gives_a_one_line_error_without_its_password(url: str) -> None:
    with pytest.raises(InputError, match="must be a URL like https://host/v1") as refused:
        ChatPool(Store(), base_url=url, api_key=KEY)
    assert "hun" not in str(refused.value)
    assert "\n" not in str(refused.value)
