"""The chat client against a real server, and the store of finished calls: nothing paid is lost."""

import asyncio
import errno
import json
import logging
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint, completion, refusal

from longwriter_eval import llm
from longwriter_eval.errors import InputError
from longwriter_eval.llm import (
    CallError,
    Chat,
    ContextOverflowError,
    EndpointError,
    NotAskedError,
    RefusedError,
    Reply,
    Store,
    call_key,
    for_each,
    public_url,
    run_async,
)
from longwriter_eval.standin import JUDGE, Faults

KEY = "sk-never-to-be-seen"
REPLY = Reply("Good. 好。\ud800", "m", "stop", None, 10, 2, retries=1)


def request(text: str = "Hello.", model: str = JUDGE) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


async def ask_all(
    url: str, *requests: dict[str, Any], key: str = KEY, retries: int = 3
) -> list[Reply | CallError]:
    """One call after the other through one Chat: what came of each."""
    outcomes: list[Reply | CallError] = []
    async with Chat(Store(), base_url=url, api_key=key, retries=retries) as chat:
        for each in requests:
            try:
                outcomes.append(await chat.ask(call_key(request=each), each))
            except CallError as error:
                outcomes.append(error)
    return outcomes


def ask(url: str, retries: int = 0) -> Reply | CallError:
    return run_async(ask_all(url, request(), retries=retries))[0]


def stored() -> list[Path]:
    return [path for path in Store().folder.rglob("*") if path.is_file()]


# The store


def test_what_is_put_is_got_back_and_says_that_it_was_stored() -> None:
    key = call_key(model="m", prompt="p")
    Store().put(key, REPLY)
    kept = Store().get(key)
    assert kept == Reply("Good. 好。\ud800", "m", "stop", None, 10, 2, retries=1, stored=True)
    assert Store().get(call_key(model="m", prompt="q")) is None


def test_the_key_depends_on_every_part_and_not_on_their_order() -> None:
    assert call_key(a=1, b="x") == call_key(b="x", a=1)
    assert len({call_key(a=1), call_key(a=2), call_key(b=1), call_key(a="1")}) == 4


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"text": "Go', id="cut"),
        pytest.param(b"\xff\xfe", id="not-UTF-8"),
        pytest.param(b"[1]", id="a-list"),
        pytest.param(b'{"text": "Good."}', id="fields-missing"),
        pytest.param(json.dumps({**vars(REPLY), "text": None}).encode(), id="text-is-null"),
        pytest.param(json.dumps({**vars(REPLY), "text": 5}).encode(), id="text-is-a-number"),
        pytest.param(b"[" * 100_000, id="nested-without-end"),
    ],
)
def test_a_damaged_file_counts_as_none_with_a_warning_and_can_be_replaced(
    damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store, key = Store(), call_key(prompt="p")
    store.put(key, REPLY)
    (file,) = stored()
    file.write_bytes(damage)
    assert store.get(key) is None
    assert f"cannot read {file}" in caplog.text
    store.put(key, REPLY)
    assert store.get(key)


def test_a_store_is_checked_before_it_is_needed(tmp_path: Path) -> None:
    Store(tmp_path / "new" / "calls").check()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="LONGWRITER_CACHE") as refused:
        Store(tmp_path / "file" / "calls").check()
    assert str(tmp_path / "file") in str(refused.value)


# Calls that succeed in the end


@pytest.mark.parametrize("kind", ["429", "500", "reset", "html", "hang"])
def test_a_passing_fault_is_retried(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm, "_TIMEOUT", 0.3)
    with Endpoint(faults=Faults(0.5, (kind,))) as server:  # every second call
        first, second = run_async(ask_all(server.base_url, request("1"), request("2")))
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert (first.retries, second.retries) == (0, 1)
    assert server.requests == 3
    assert first.text != second.text


def test_a_reply_is_in_the_store_with_all_that_the_endpoint_said() -> None:
    with Endpoint() as server:
        reply = ask(server.base_url)
    assert isinstance(reply, Reply)
    assert (reply.model, reply.finish_reason, reply.refusal) == (JUDGE, "stop", None)
    assert reply.prompt_tokens
    assert reply.completion_tokens
    kept = Store().get(call_key(request=request()))
    assert kept == Reply(**{**vars(reply), "stored": True})


def test_a_model_may_say_nothing_or_decline() -> None:
    answers = [(200, completion(None)), (200, completion(None, refusal="No."))]
    with Endpoint(answers=answers) as server:
        nothing, declined = run_async(ask_all(server.base_url, request("1"), request("2")))
    assert isinstance(nothing, Reply)
    assert isinstance(declined, Reply)
    assert (nothing.text, nothing.refusal, nothing.prompt_tokens) == ("", None, None)
    assert (declined.text, declined.refusal) == ("", "No.")


# Calls that fail


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
def test_an_answer_that_is_no_completion_is_one_clear_line(answer: object) -> None:
    with Endpoint(answers=[(200, answer)]) as server:
        error = ask(server.base_url)
    assert isinstance(error, CallError)
    assert "answered with application/json" in str(error)
    assert "instead of a chat completion" in str(error)
    assert stored() == []


def test_html_for_ever_is_given_up_with_a_hint_at_the_base_url() -> None:
    with Endpoint(faults=Faults(1.0, ("html",))) as server:
        error = ask(server.base_url.replace("://", "://me:hunter2@"), retries=1)
    assert isinstance(error, CallError)
    assert str(error).startswith(f"{server.base_url}/ answered with text/html")
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
def test_what_would_fail_every_call_alike_fails_at_once_and_ends_the_calls(
    key: str, model: str, says: str
) -> None:
    requests = [request(text, model) for text in ("1", "2", "3")]
    with Endpoint(api_key=KEY) as server:
        first, *others = run_async(ask_all(server.base_url, *requests, key=key))
    assert isinstance(first, EndpointError)
    assert all(isinstance(other, NotAskedError) and says in str(other) for other in others)
    assert server.requests == 1


def test_a_full_disk_loses_no_reply_and_ends_the_calls(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def write(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path), None, len(data))

    monkeypatch.setattr(llm, "write_atomically", write)
    with Endpoint() as server:
        first, *others = run_async(ask_all(server.base_url, *map(request, "123")))
    assert isinstance(first, Reply)
    assert all(isinstance(other, NotAskedError) for other in others)
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
def test_a_malformed_base_url_is_one_line_without_its_password(url: str) -> None:
    with pytest.raises(InputError, match="must be a URL like https://host/v1") as refused:
        Chat(Store(), base_url=url, api_key=KEY)
    assert "hun" not in str(refused.value)
    assert "\n" not in str(refused.value)


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


# Concurrency


def test_for_each_works_on_every_item_and_never_exceeds_its_concurrency() -> None:
    drawn, done = 0, 0

    def requests() -> Iterator[dict[str, Any]]:
        nonlocal drawn
        for number in range(40):
            drawn += 1
            assert drawn - done <= 7  # none is drawn, and held in memory, before its turn
            yield request(str(number))

    async def run(url: str) -> None:
        async with Chat(Store(), base_url=url, api_key=KEY) as chat:

            async def work(each: dict[str, Any]) -> None:
                nonlocal done
                await chat.ask(call_key(request=each), each)
                done += 1

            await for_each(requests(), work, 7)

    with Endpoint(delay=0.05) as server:
        run_async(run(server.base_url))
    assert (done, server.stats().finished, server.stats().max_in_flight) == (40, 40, 7)
    assert len(stored()) == 40


def test_run_async_works_inside_a_running_loop_as_in_a_notebook() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    async def fail() -> None:
        raise InputError("no")

    async def cell(coroutine: Coroutine[Any, Any, Any]) -> Any:
        return run_async(coroutine)

    assert run_async(answer()) == 42
    assert asyncio.run(cell(answer())) == 42
    for run in (run_async, lambda coroutine: asyncio.run(cell(coroutine))):
        with pytest.raises(InputError, match="no"):
            run(fail())
