"""Ask until a reply can be read: attempts, reasons, stored replies, structured output."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict
from support.endpoint import KEY, Endpoint, completion, refusal, request

from longwriter_core.llm import (
    CallError,
    CallId,
    ChatPool,
    ContextOverflowError,
    Outcome,
    Rejected,
    Reply,
    Store,
    Structured,
    ask_until_valid,
    read_reply,
    run_async,
)
from longwriter_core.mock_server import MockServer

CALL = CallId({"protocol": "test"}, legacy={"address": "http://host/v1"})


def read_number(text: str) -> int | Rejected:
    return int(text) if text.strip().isdecimal() else Rejected("no_number", text[:10])


def ask(url: str, **options: Any) -> Outcome[int]:
    async def run() -> Outcome[int]:
        async with ChatPool(Store(), base_url=url, api_key=KEY, retries=0) as pool:
            asked = options.pop("request", request())
            return await ask_until_valid(
                pool, asked, options.pop("read", read_number), CALL, **options
            )

    return run_async(run())


def answers(*texts: str, reason: str = "stop") -> list[tuple[int, Any]]:
    return [(200, completion(text, reason)) for text in texts]


def test_it_asks_until_a_reply_can_be_read() -> None:
    with Endpoint(answers=answers("one", "two", "3")) as server:
        outcome = ask(server.base_url)
    assert (outcome.value, outcome.reason, outcome.attempts) == (3, None, 3)
    assert outcome.rejected == ("no_number", "no_number")
    assert (outcome.raw, outcome.reply and outcome.reply.model) == ("3", "m")


def test_it_gives_up_after_max_tries_with_the_last_reason() -> None:
    with Endpoint(answers=answers("one")) as server:
        outcome = ask(server.base_url, max_tries=2)
    assert server.requests == 2
    assert (outcome.value, outcome.reason, outcome.detail) == (None, "no_number", "one")


def test_a_rerun_counts_stored_replies_first_and_pays_only_for_new_attempts() -> None:
    with Endpoint(answers=answers("one")) as server:
        ask(server.base_url, max_tries=2)
    with Endpoint(answers=answers("7")) as server:
        outcome = ask(server.base_url, max_tries=2)
        again = ask(server.base_url, max_tries=2)
    assert server.requests == 1
    assert (outcome.value, outcome.attempts) == (again.value, again.attempts) == (7, 3)


def test_a_reply_stored_by_release_0_1_0_is_not_paid_for_again() -> None:
    with Endpoint(answers=answers("7")) as server:
        ask(server.base_url)
        reply = Store().get(CALL.keys(1)[0])
        assert reply
        for path in Store().folder.rglob("*.json"):
            path.unlink()
        Store().put(CALL.keys(1)[1], reply)
        outcome = ask(server.base_url)
    assert outcome.value == 7
    assert server.requests == 1


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ("", "length", "cut"),
        ("12", "length", "cut"),
        ("", "stop", "empty"),
        ("12", "content_filter", "refused"),
        ("I'm sorry, but I cannot help with that.", "stop", "refused"),
        ("Error: rate limit exceeded", "stop", "error_text"),
        ("a dozen", "stop", "no_number"),
    ],
)
def test_every_unusable_reply_has_its_own_reason(
    text: str, finish_reason: str, reason: str
) -> None:
    with Endpoint(answers=answers(text, reason=finish_reason)) as server:
        outcome = ask(server.base_url, max_tries=1)
    assert (outcome.value, outcome.reason) == (None, reason)


def test_the_detail_of_a_cut_reply_names_the_token_limit() -> None:
    cut = {**completion("", "length"), "usage": {"prompt_tokens": 1, "completion_tokens": 900}}
    with Endpoint(answers=[(200, cut)]) as server:
        assert ask(server.base_url, max_tries=1).detail == "at 900 tokens"


def test_a_reply_that_may_be_cut_is_read_unless_it_is_empty() -> None:
    with Endpoint(answers=answers("", "12", reason="length")) as server:
        outcome = ask(server.base_url, may_be_cut=True)
    assert (outcome.value, outcome.rejected, outcome.is_cut) == (12, ("cut",), True)


def test_a_reply_with_a_format_is_read_before_checking_for_a_refusal() -> None:
    said = json.dumps({"analysis": "I'm sorry, but I cannot help but praise it.", "score": 4})

    def read(text: str) -> int | Rejected:
        return int(json.loads(text)["score"]) if text.startswith("{") else Rejected("parse_error")

    with Endpoint(answers=answers(said)) as server:
        assert ask(server.base_url, read=read, has_format=True).value == 4
    with Endpoint(answers=answers("I'm sorry, but I cannot help.")) as server:
        outcome = ask(server.base_url, read=read, has_format=True, request=request("2"))
    assert outcome.value == 4  # the store has the reply to this call


@pytest.mark.parametrize(
    ("text", "reason"), [("I'm sorry, but I cannot help.", "refused"), ("", "parse_error")]
)
def test_without_the_format_only_a_refusal_has_its_own_reason(text: str, reason: str) -> None:
    with Endpoint(answers=answers(text)) as server:
        outcome = ask(
            server.base_url, read=lambda _: Rejected("parse_error"), has_format=True, max_tries=1
        )
    assert outcome.reason == reason


def test_an_error_of_the_call_is_in_the_outcome() -> None:
    too_long = refusal(400, "context_length_exceeded", "Too long.")
    with Endpoint(answers=[*answers("one"), too_long]) as server:
        outcome = ask(server.base_url)
    assert (outcome.value, outcome.reason, outcome.attempts) == (None, "context_overflow", 2)
    assert outcome.error
    assert outcome.raw == "one"


def test_every_attempt_has_its_own_seed() -> None:
    with Endpoint(answers=answers("one", "2")) as server:
        ask(server.base_url, request={**request(), "seed": 7})
    assert [asked.seed for asked in server.history] == [7, 8]


# Structured output


class Number(BaseModel):
    """A reply."""

    model_config = ConfigDict(extra="forbid")

    number: int


STRUCTURED = Structured[int](Number, lambda reply: reply.number)


@pytest.mark.parametrize("text", ['{"number": 5}', '```json\n{"number": 5}\n```', "5"])
def test_structured_output_is_read_as_json_or_as_text(text: str) -> None:
    with Endpoint(answers=answers(text)) as server:
        assert ask(server.base_url, structured=STRUCTURED).value == 5
    wanted = server.history[0].body["response_format"]
    assert wanted["json_schema"]["name"] == "Number"
    assert wanted["json_schema"]["schema"]["additionalProperties"] is False


def test_an_endpoint_that_refuses_a_schema_is_asked_for_text_from_then_on() -> None:
    refused = refusal(400, None, "Unknown field response_format.")

    async def run(url: str) -> list[int | None]:
        async with ChatPool(Store(), base_url=url, api_key=KEY) as pool:
            return [
                (
                    await ask_until_valid(
                        pool, request(name), read_number, CallId({"n": name}), structured=STRUCTURED
                    )
                ).value
                for name in "ab"
            ]

    with Endpoint(answers=[refused, *answers("5")]) as server:
        assert run_async(run(server.base_url)) == [5, 5]
    assert ["response_format" in asked.body for asked in server.history] == [True, False, False]


OVERFLOW = refusal(
    400, "context_length_exceeded",
    "This model's maximum context length is 100 tokens: 10 in the response_format, at most 8 in "
    "max_completion_tokens.",
)  # fmt: skip


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        pytest.param([OVERFLOW, *answers("5")], ContextOverflowError, id="too-long"),
        pytest.param(
            [*answers("5"), refusal(400, None, "Bad response_format."), *answers("5")],
            CallError, id="after-a-reply-with-a-schema",
        ),
        pytest.param(
            [(400, {"error": {"message": "No."}, "id": "a grammar"}), *answers("5")],
            CallError, id="outside-the-message",
        ),
    ],
)  # fmt: skip
def test_an_error_about_something_else_does_not_change_what_is_sent(
    replies: list[tuple[int, Any]], error: type[CallError]
) -> None:
    wanted = {"response_format": {"type": "json_object"}, "max_tokens": 50}

    async def run(url: str) -> list[Any]:
        async with ChatPool(Store(), base_url=url, api_key=KEY) as pool:
            calls = [pool.ask(name * 64, {**request(name), **wanted}) for name in "abc"]
            return [(await asyncio.gather(call, return_exceptions=True))[0] for call in calls]

    with Endpoint(answers=replies, judge_reasoning_tokens=0) as server:
        outcomes = run_async(run(server.base_url))
    (refused,) = (outcome for outcome in outcomes if isinstance(outcome, CallError))
    assert type(refused) is error
    assert all(wanted.items() <= asked.body.items() for asked in server.history)


def test_a_server_that_supports_schemas_returns_json() -> None:
    with MockServer() as server:
        outcome = ask(server.base_url, structured=STRUCTURED, read=lambda _: Rejected("text"))
    assert isinstance(outcome.value, int)


THOUGHT = "<think>I'm sorry, I can't help with that? Yes, I can. Error: none.</think>"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{THOUGHT}\nThe harbour silts up.", None),
        ("<think>Fine.</think>\nI'm sorry, but I can't help with that.", "refused"),
        ("<think>Fine.</think>\nInternal server error", "error_text"),
        (THOUGHT, "empty"),
    ],
    ids=["doubts-while-thinking", "refusal", "error", "thinking-alone"],
)
def test_refusals_errors_and_emptiness_are_judged_after_thinking(
    text: str, reason: str | None
) -> None:
    value = read_reply(Reply(text, "mock", "stop", None, 1, 1), str.strip)
    assert (value.reason if isinstance(value, Rejected) else None) == reason


def test_a_reply_that_was_cut_while_thinking_is_cut_and_not_empty() -> None:
    value = read_reply(Reply("<think>Let me", "mock", "length", None, 1, 9), str.strip)
    assert value == Rejected("cut", "at 9 tokens")
