"""The mock server, on which the demo, the other tests and the benchmarks rely."""

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import jsonschema
import openai
import pytest
from aiohttp import ClientSession, TCPConnector

import longwriter_core
from agentwrite.selecting.screening import Decision, question, read_decision
from longwriter_core.mock_server import (
    FAULT_CYCLE,
    FAULT_KINDS,
    JUDGE,
    WRITER,
    Faults,
    MockReply,
    MockServer,
)
from longwriter_core.mock_server.__main__ import main
from longwriter_core.mock_server.answers import required_length
from longwriter_core.mock_server.prose import prose, random_words
from longwriter_core.text.diagnostics import diagnose
from longwriter_core.text.length import count_words

SCORES = [
    "Relevance",
    "Accuracy",
    "Coherence",
    "Clarity",
    "Breadth and Depth",
    "Reading Experience",
]
DEMO_PROMPTS = Path(longwriter_core.__file__).with_name("demo_prompts.jsonl")


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer() as server:
        yield server


def http(url: str, body: object = None, key: str = "") -> tuple[int, Any]:
    """Status and JSON, or text, of a plain request: a POST if there is a body."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, {"Authorization": f"Bearer {key}"}), timeout=10) as reply:
            is_json = reply.headers.get_content_type() == "application/json"
            return reply.status, json.load(reply) if is_json else reply.read().decode()
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def complete(server: MockServer, prompt: str, model: str = WRITER, **settings: object) -> Any:
    """The chat completion, by plain HTTP: building an OpenAI client takes a tenth of a second."""
    status, completion = post(server, prompt, model, **settings)
    assert status == 200, completion
    return completion


def post(
    server: MockServer, prompt: str, model: str = WRITER, **settings: object
) -> tuple[int, Any]:
    """Status and body of a chat call, which may fail."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], **settings}
    return http(f"{server.base_url}/chat/completions", body)


def text(server: MockServer, prompt: str, model: str = WRITER, **settings: object) -> str:
    return str(complete(server, prompt, model, **settings)["choices"][0]["message"]["content"])


def ask(server: MockServer, model: str = JUDGE, timeout: float = 10) -> Any:
    """One call through the OpenAI client, without retries."""
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:
        return client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Hello."}], timeout=timeout
        )


# The writer


@pytest.mark.parametrize(
    ("prompt", "length"),
    [
        ("Write a 500-word story.", 500),
        ("Write about 1,500 words on tea.", 1500),
        ("First 200 words on tea, no: 3000 Words.", 3000),
        ("请写一篇3000字的文章", 3000),
        ("写 800 个字左右", 800),
        ("Chapter 12 of 40, in 1999", 300),
    ],
)
def test_the_required_length_is_the_last_one_named_else_300(prompt: str, length: int) -> None:
    assert required_length(prompt) == length


def test_every_demo_prompt_names_its_required_length() -> None:
    rows = [json.loads(line) for line in DEMO_PROMPTS.read_text("utf-8").splitlines()]
    assert rows
    for row in rows:
        assert required_length(row["prompt"]) == row["length"]


@pytest.mark.parametrize(
    ("prompt", "full_stop"),
    [("Write {} words about trains.", "."), ("请写一篇关于火车的{}字文章。", "。")],
    ids=["English", "Chinese"],
)
def test_prose_is_half_to_one_and_a_third_as_long_as_required(
    server: MockServer, prompt: str, full_stop: str
) -> None:
    shares = []
    for length in range(1000, 3000, 25):
        prose = text(server, prompt.format(length))
        assert prose.endswith(full_stop)
        assert "\n\n" in prose
        shares.append(count_words(prose) / length)
    assert 0.5 <= min(shares) < 0.7
    assert 1.1 < max(shares) <= 1.35


def test_the_same_prompt_gets_the_same_text_on_every_server(server: MockServer) -> None:
    with MockServer() as other:
        assert text(server, "Write 400 words.") == text(other, "Write 400 words.")


def test_another_prompt_or_seed_gets_another_text(server: MockServer) -> None:
    prompts = [("Write 400 words.", 1), ("Write 400 words!", 1), ("Write 400 words.", 2)]
    assert len({text(server, prompt, seed=seed) for prompt, seed in prompts}) == 3


@pytest.mark.parametrize("setting", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_cuts_the_text(server: MockServer, setting: str) -> None:
    whole = complete(server, "Write 900 words.")["choices"][0]
    completion = complete(server, "Write 900 words.", WRITER, **{setting: 50})
    cut = completion["choices"][0]
    assert (whole["finish_reason"], cut["finish_reason"]) == ("stop", "length")
    assert whole["message"]["content"].startswith(cut["message"]["content"])
    assert completion["usage"]["completion_tokens"] == 50


def test_the_openai_client_reads_a_completion(server: MockServer) -> None:
    first, second = ask(server, WRITER), ask(server, WRITER)
    assert first.id != second.id
    assert (first.object, first.model) == ("chat.completion", WRITER)
    assert abs(first.created - time.time()) < 10
    assert first.choices[0].message.role == "assistant"
    assert count_words(first.choices[0].message.content) > 100
    usage = first.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 100


# The writer's answers to AgentWrite's prompts


PLAN_FORM = "Paragraph 1 - Main Point: [detail] - Word Count: [e.g. 400 words]"


@pytest.mark.parametrize(
    ("prompt", "label", "required"),
    [
        (f"Write 5,000 words on tea.\n\n{PLAN_FORM}\n\nOver 200 words each.", "Paragraph", 5000),
        (f"Write 9000 words.\n{PLAN_FORM}\nTotal length: 3210 words", "Paragraph", 3210),
        (PLAN_FORM.replace("Para", "Chap").replace("graph", "ter")
         + "\nTotal length: 30000 words", "Chapter", 30_000),
    ],
    ids=["named-in-the-instruction", "named-as-the-total", "chapters"],
)  # fmt: skip
def test_a_plan_has_steps_that_add_up(
    server: MockServer, prompt: str, label: str, required: int
) -> None:
    lines = text(server, prompt).split("\n\n")
    targets = []
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"{label} {number} - Main Point: ")
        targets.append(int(line.rpartition("Word Count: ")[2].removesuffix(" words")))
    assert sum(targets) == required
    assert len(targets) > 1


def test_a_step_is_written_at_its_length_and_in_its_language(server: MockServer) -> None:
    for point, full_stop in (("Tides", "."), ("潮汐", "。")):
        step = f"Paragraph 2 - Main Point: {point} - Word Count: 500 words"
        prose = text(server, f"Write 9000 words of English.\n\nNow write {step}")
        assert 400 <= count_words(prose) <= 650
        assert prose.endswith(full_stop)


def test_a_yes_or_no_question_gets_both_answers(server: MockServer) -> None:
    found = [read_decision(text(server, question(f"Write on tea {n}."))) for n in range(12)]
    decisions = [decision for decision in found if isinstance(decision, Decision)]
    assert len(decisions) == 12
    assert {decision.is_long for decision in decisions} == {True, False}


# The judge


@pytest.mark.parametrize("model", [JUDGE, "my-judge-7b"])
def test_a_judge_gives_six_whole_scores_from_1_to_5(server: MockServer, model: str) -> None:
    for number in range(20):
        reply = text(server, f"Judge response {number}.", model)
        verdict = json.loads(reply[reply.index("{") :])
        assert list(verdict) == ["Analysis", *SCORES]
        assert all(type(verdict[name]) is int and 1 <= verdict[name] <= 5 for name in SCORES)


def test_a_verdict_contains_no_text_of_the_prompt(server: MockServer) -> None:
    assert "zebra" not in text(server, 'Say {"Relevance": 5, "note": "zebra"}', JUDGE)


def test_a_verdict_depends_on_the_prompt_and_on_the_judge(server: MockServer) -> None:
    calls = [("a", JUDGE), ("b", JUDGE), ("a", "other-judge")]
    verdicts = [text(server, *call) for call in calls]
    assert len(set(verdicts)) == 3
    assert verdicts == [text(server, *call) for call in calls]


# Requests that are refused


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"stream": True}, 400, "invalid_request"),
        ({"n": 2}, 400, "invalid_request"),
        ({"max_tokens": "many"}, 400, "invalid_request"),
        ({"messages": "hello"}, 400, "invalid_request"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "invalid_request"),
        ({"model": "gpt-unheard-of"}, 404, "model_not_found"),
    ],
    ids=["stream", "n", "max_tokens", "messages", "content", "model"],
)
def test_a_malformed_request_gets_an_openai_error(
    server: MockServer, change: dict[str, object], status: int, code: str
) -> None:
    body = {"model": WRITER, "messages": [{"role": "user", "content": "Hi"}], **change}
    before = server.stats()
    answered, reply = http(f"{server.base_url}/chat/completions", body)
    assert (answered, reply["error"]["code"]) == (status, code)
    assert reply["error"]["message"]
    assert server.stats() == before


def test_models_are_listed_and_any_other_url_is_404(server: MockServer) -> None:
    status, models = http(f"{server.base_url}/models")
    assert (status, [model["id"] for model in models["data"]]) == (200, [WRITER, JUDGE])
    for url in (f"{server.base_url}/embeddings", f"{server.base_url}/chat/completions"):
        status, reply = http(url)
        assert (status, reply["error"]["code"]) == (404, "unknown_url")


def test_with_a_key_every_request_needs_it() -> None:
    with MockServer(api_key="secret") as server:
        assert http(f"{server.base_url}/models", key="secret")[0] == 200
        status, reply = http(f"{server.base_url}/models", key="wrong")
        assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
        with pytest.raises(openai.AuthenticationError):
            ask(server)
        assert "secret" not in repr(server)


# Load and counting


def test_hundreds_of_calls_are_in_flight_at_the_same_time() -> None:
    async def call_all(url: str, count: int) -> None:
        body = {"model": JUDGE, "messages": [{"role": "user", "content": "Hello."}]}

        async def call(client: ClientSession) -> None:
            async with client.post(url, json=body) as response:
                await response.json()

        async with ClientSession(connector=TCPConnector(limit=0), raise_for_status=True) as client:
            await asyncio.gather(*[call(client) for _ in range(count)])

    with MockServer(delay=0.5) as server:
        start = time.monotonic()
        asyncio.run(call_all(f"{server.base_url}/chat/completions", 200))
        assert 0.5 <= time.monotonic() - start < 10  # sequential calls would take 100 s
    stats = server.stats()
    assert (stats.max_in_flight, stats.finished, stats.in_flight) == (200, 200, 0)


def test_stats_count_calls_by_model_and_are_served() -> None:
    with MockServer() as server:
        for model in (WRITER, JUDGE, JUDGE):
            text(server, "Hi", model)
        served = http(server.base_url.replace("/v1", "/stats"))
    stats = server.stats()
    assert stats.calls == {WRITER: 1, JUDGE: 2}
    assert served == (200, vars(stats))


def test_a_port_in_use_is_an_error_on_entering_the_server(server: MockServer) -> None:
    with pytest.raises(OSError, match="address already in use"), MockServer(port=server.port):
        pass


# Faults


@pytest.mark.parametrize("share", [0.0, 0.07, 0.25, 0.5, 1.0])
def test_the_share_of_failing_calls_is_exact_and_kinds_take_turns(share: float) -> None:
    faults = Faults(share)
    kinds = [kind for call in range(1, 1401) if (kind := faults.kind_of(call))]
    assert abs(len(kinds) - 1400 * share) <= 1
    assert kinds[: len(FAULT_CYCLE)] == list(FAULT_CYCLE)[: len(kinds)]
    assert "hang" not in kinds


@pytest.mark.parametrize("settings", [(1.5,), (-0.1,), (0.5, ()), (0.5, ("flood",))])
def test_impossible_faults_are_refused(settings: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="fault"):
        Faults(*settings)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("reset", openai.APIConnectionError),
        ("hang", openai.APITimeoutError),
    ],
)
def test_a_fault_raises_the_error_that_the_client_has_for_it(
    kind: str, error: type[openai.APIError]
) -> None:
    with MockServer(faults=Faults(1.0, (kind,))) as server:
        with pytest.raises(error) as caught:
            ask(server, timeout=0.3)
        assert type(caught.value) is error
        assert server.stats().faults == {kind: 1}


@pytest.mark.parametrize("kind", ["empty", "refusal", "broken_json"])
def test_an_answer_without_a_verdict(kind: str) -> None:
    with MockServer(faults=Faults(1.0, (kind,))) as server:
        reply = text(server, "Judge.", JUDGE)
    assert "}" not in reply
    assert {"empty": reply == "", "refusal": "can't help" in reply, "broken_json": "{" in reply}[
        kind
    ]


def test_a_web_page_in_place_of_a_completion() -> None:
    with MockServer(faults=Faults(1.0, ("html",))) as server:
        assert ask(server).startswith("<html>")  # the client returns the page


def test_every_kind_of_fault_is_tested() -> None:
    assert {"429", "500", "reset", "hang", "empty", "refusal", "broken_json", "html"} == set(
        FAULT_KINDS
    )


def test_only_judge_calls_fail_and_a_retry_gets_through() -> None:
    with MockServer(faults=Faults(0.5, ("500",))) as server:
        assert text(server, "Write 100 words.")
        assert text(server, "Judge.", JUDGE)
        with pytest.raises(openai.InternalServerError):
            ask(server)
        assert text(server, "Judge.", JUDGE)
    stats = server.stats()
    assert (stats.calls, stats.faults) == ({WRITER: 1, JUDGE: 3}, {"500": 1})


def test_a_call_whose_client_disconnects_is_no_longer_in_flight() -> None:
    with MockServer(faults=Faults(1.0, ("hang",))) as server:
        with pytest.raises(openai.APITimeoutError):
            ask(server, timeout=0.2)
        deadline = time.monotonic() + 5
        while server.stats().in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
    stats = server.stats()
    assert (stats.in_flight, stats.finished) == (0, 0)


# Answers chosen by the hook


def test_the_hook_chooses_texts_errors_bodies_and_faults() -> None:
    replies: dict[str, MockReply | str | int | None] = {
        "text": "Chosen.",
        "reply": MockReply("Chosen.", "content_filter", {"refusal": "No."}),
        "status": 503,
        "body": MockReply(body={"object": "nothing"}, headers={"Retry-After": "7"}),
        "null": MockReply(body=None),
        "fault": MockReply(fault="html"),
        "model": None,
    }
    with MockServer(on_request=lambda request: replies[request.prompt]) as server:
        assert text(server, "text") == "Chosen."
        choice = complete(server, "reply")["choices"][0]
        assert choice["finish_reason"] == "content_filter"
        assert choice["message"] == {"role": "assistant", "content": "Chosen.", "refusal": "No."}
        assert post(server, "status")[0] == 503
        assert complete(server, "body") == {"object": "nothing"}
        assert complete(server, "null") is None
        assert post(server, "fault") == (200, "<html>Please sign in.</html>")
        assert count_words(text(server, "model")) > 100
    assert server.prompts == list(replies)
    assert server.stats().calls == {WRITER: 7}


def test_the_hook_sees_non_chat_requests_but_no_refused_ones() -> None:
    seen: list[str] = []
    with MockServer(on_request=lambda request: seen.append(request.path), api_key="k") as server:
        assert http(f"{server.base_url}/models?x=1", key="k")[0] == 200
        assert http(f"{server.base_url}/models", key="wrong")[0] == 401
        assert http(f"{server.base_url}/chat/completions", {"model": WRITER}, key="k")[0] == 400
    assert seen == ["/v1/models?x=1"]
    assert [request.path for request in server.history] == [
        "/v1/models?x=1", "/v1/models", "/v1/chat/completions"
    ]  # fmt: skip
    assert server.prompts == []


def test_a_text_of_the_hook_is_cut_by_the_limit_on_tokens() -> None:
    with MockServer(on_request=lambda _: "One two three.") as server:
        choice = complete(server, "Hi", max_tokens=2)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("One two", "length")


def test_usage_can_be_left_out() -> None:
    with MockServer(usage=False) as server:
        assert "usage" not in complete(server, "Hi")


def test_jitter_changes_the_order_of_answers() -> None:
    def finish(number: int) -> int:
        text(server, f"Write 10 words, {number}.")
        finished.append(number)
        return number

    finished: list[int] = []
    with MockServer(jitter=0.3) as server, ThreadPoolExecutor(12) as pool:
        assert list(pool.map(finish, range(12))) == list(range(12))
    assert finished != sorted(finished)


# What today's APIs refuse and offer


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"temperature": 0}, "temperature"),
        ({"max_tokens": 100}, "max_tokens"),
        ({"temperature": 1, "max_completion_tokens": 9_000}, None),
        ({}, None),
    ],
    ids=["temperature", "temperature-0", "max_tokens", "what-it-takes", "nothing"],
)
def test_a_thinking_model_names_the_parameter_that_it_refuses(
    settings: dict[str, Any], param: str | None
) -> None:
    with MockServer(reasoning_tokens=50) as server:
        status, reply = post(server, "Hi", **settings)
    if param:
        assert (status, reply["error"]["param"]) == (400, param)
        assert f"'{param}'" in reply["error"]["message"]
    else:
        assert status == 200


@pytest.mark.parametrize(
    ("limit", "reasoning", "words", "reason"),
    [(40, 40, 0, "length"), (50, 50, 0, "length"), (60, 50, 10, "length"), (5_000, 50, 50, "stop")],
)
def test_a_thinking_model_spends_tokens_before_it_answers(
    limit: int, reasoning: int, words: int, reason: str
) -> None:
    fifty = " ".join(["word"] * 50) + "."
    with MockServer(reasoning_tokens=50, on_request=lambda _: fifty) as server:
        completion = complete(server, "Hi", max_completion_tokens=limit)
    choice, usage = completion["choices"][0], completion["usage"]
    assert count_words(choice["message"]["content"]) == words
    assert choice["finish_reason"] == reason
    assert choice["message"]["reasoning"] == choice["message"]["reasoning_content"]
    assert count_words(choice["message"]["reasoning"]) == reasoning
    assert usage["completion_tokens_details"] == {"reasoning_tokens": reasoning}
    assert usage["completion_tokens"] == reasoning + words


def test_a_429_over_the_rate_limit_has_retry_after() -> None:
    with MockServer(calls_per_minute=2) as server:
        assert [post(server, "Hi")[0] for _ in range(3)] == [200, 200, 429]
        with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(model=WRITER, messages=[])
            assert 0 < int(caught.value.response.headers["Retry-After"]) <= 60
    assert server.stats().calls == {WRITER: 2}


def test_models_have_a_shutdown_date_and_are_gone_after_it() -> None:
    models = {"old": "2020-01-01", "current": "2999-12-31", "open": None}
    with MockServer(models=models) as server:
        _, listed = http(f"{server.base_url}/models")
        statuses = {model: post(server, "Hi", model)[0] for model in models}
    assert {row["id"]: row["shutdown_date"] for row in listed["data"]} == models
    assert statuses == {"old": 404, "current": 200, "open": 200}


def test_a_model_can_refuse_any_parameter_and_takes_seed_and_stop_otherwise() -> None:
    with MockServer(refuses=("stop", "response_format")) as server:
        assert post(server, "Hi", stop=[])[1]["error"]["param"] == "stop"
        status, reply = post(server, "Hi", response_format={"type": "json_object"})
        assert (status, reply["error"]["param"]) == (400, "response_format")
    with MockServer() as server:
        assert post(server, "Hi", stop=[], seed=1)[0] == 200


SCORE = {"type": "integer", "minimum": 1, "maximum": 5}
SCHEMAS: dict[str, dict[str, Any]] = {
    "verdict": {
        "type": "object",
        "properties": {"analysis": {"type": "string"}, "clarity": SCORE, "accuracy": SCORE},
        "required": ["analysis", "clarity", "accuracy"],
        "additionalProperties": False,
    },
    "yes-no": {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "answer": {"enum": ["yes", "no"]}},
        "required": ["reason", "answer"],
        "additionalProperties": False,
    },
    "plan": {
        "type": "object",
        "$defs": {
            "Step": {
                "type": "object",
                "properties": {
                    "number": {"type": "integer"},
                    "main_point": {"type": "string"},
                    "word_count": {"type": "integer", "minimum": 1},
                    "note": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]},
                },
                "required": ["number", "main_point", "word_count"],
            }
        },
        "properties": {
            "steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}, "maxItems": 50},
            "is_long": {"type": "boolean"},
        },
        "required": ["steps", "is_long"],
    },
}


@pytest.mark.parametrize("model", [WRITER, JUDGE])
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_an_answer_fits_the_requested_json_schema(
    server: MockServer, schema: dict[str, Any], model: str
) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema}}
    answers = [
        json.loads(text(server, "Write 2000 words.", model, response_format=wanted, seed=seed))
        for seed in range(8)
    ]
    for answer in answers:
        jsonschema.validate(answer, schema)
    assert len({json.dumps(answer) for answer in answers}) > 1


def test_a_plan_by_json_schema_adds_up_to_the_required_length(server: MockServer) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "plan", "schema": SCHEMAS["plan"]}}
    steps = json.loads(text(server, "Write 4,100 words.", response_format=wanted))["steps"]
    assert [step["number"] for step in steps] == list(range(1, 11))
    assert sum(step["word_count"] for step in steps) == 4_100


@pytest.mark.parametrize(
    "wanted",
    ["json", {"type": "xml"}, {"type": "json_schema"},
     {"type": "json_schema", "json_schema": {"schema": {}}}],
    ids=["no-object", "unknown-type", "no-schema", "no-name"],
)  # fmt: skip
def test_a_malformed_response_format_is_refused(server: MockServer, wanted: object) -> None:
    assert post(server, "Hi", response_format=wanted)[0] == 400


# Files and batches


def test_a_batch_is_uploaded_listed_completed_and_read(tmp_path: Path) -> None:
    lines = [
        {
            "custom_id": f"call-{number}", "method": "POST", "url": "/v1/chat/completions",
            "body": {
                "model": JUDGE, "messages": [{"role": "user", "content": f"Judge {number}."}],
                **more,
            },
        }
        for number, more in enumerate(({}, {}, {"max_tokens": 0}))
    ]  # fmt: skip
    requests = tmp_path / "requests.jsonl"
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with (
        MockServer(batch_seconds=0.3) as server,
        openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
    ):
        file = client.files.create(file=requests, purpose="batch")
        assert client.files.content(file.id).content == requests.read_bytes()
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h",
            metadata={"run": "a"},
        )  # fmt: skip
        assert (batch.status, batch.output_file_id) == ("in_progress", None)
        assert [(b.id, b.metadata) for b in client.batches.list()] == [(batch.id, {"run": "a"})]
        deadline = time.monotonic() + 10
        while batch.status != "completed" and time.monotonic() < deadline:
            time.sleep(0.05)
            batch = client.batches.retrieve(batch.id)
        assert batch.output_file_id
        assert batch.error_file_id
        assert batch.request_counts
        assert batch.request_counts.model_dump() == {"total": 3, "completed": 2, "failed": 1}
        outputs = [
            json.loads(line)
            for line in client.files.content(batch.output_file_id).text.splitlines()
        ]
        (error,) = client.files.content(batch.error_file_id).text.splitlines()
        direct = [text(server, f"Judge {number}.", JUDGE) for number in range(2)]
    bodies = {row["custom_id"]: row["response"]["body"] for row in outputs}
    answers = [bodies[f"call-{number}"]["choices"][0]["message"]["content"] for number in range(2)]
    assert answers == direct
    assert json.loads(error)["custom_id"] == "call-2"
    assert json.loads(error)["response"]["status_code"] == 400


def test_batches_come_in_pages_newest_first_and_can_be_cancelled(tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text("")
    with (
        MockServer(batch_seconds=60) as server,
        openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
    ):
        file = client.files.create(file=requests, purpose="batch")
        made = [
            client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            ).id
            for _ in range(5)
        ]
        assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]
        assert client.batches.cancel(made[0]).status == "cancelled"
        assert client.batches.retrieve(made[0]).status == "cancelled"
        with pytest.raises(openai.BadRequestError):
            client.batches.create(
                input_file_id="none", endpoint="/v1/chat/completions", completion_window="24h"
            )
        with pytest.raises(openai.NotFoundError):
            client.batches.retrieve("none")


# Prose


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("words", [0, 1, 7, 300, 4_000])
def test_prose_has_exactly_the_requested_words_and_no_fault(words: int, language: str) -> None:
    made = prose(words, 1, language)
    assert count_words(made) == words
    assert made == prose(words, 1, language)
    if words > 100:
        assert made != prose(words, 2, language)
        diagnostics = diagnose({"en": "Write.", "zh": "请写。"}[language], made)
        faults = {**vars(diagnostics), "slop": 0, "diversity": 0}  # these two measure style
        assert not any(faults.values())


def test_random_words_follow_zipfs_law() -> None:
    words = list(islice(random_words(1), 20_000))
    assert words == list(islice(random_words(1), 20_000))
    counts = [count for _, count in Counter(words).most_common()]
    assert 5 < counts[0] / counts[9] < 15  # by the law: 10


# The command


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_url_logs_calls_and_stops_on_a_signal(
    tmp_path: Path, signum: signal.Signals
) -> None:
    log = tmp_path / "calls.jsonl"
    command = [sys.executable, "-m", "longwriter_core.mock_server", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        base_url = process.stdout.readline().strip()
        body = {"model": JUDGE, "messages": [{"role": "user", "content": "Judge 这个."}]}
        assert http(f"{base_url}/chat/completions", body)[0] == 200
        process.send_signal(signum)
        assert process.wait(timeout=10) == 0
    (entry,) = map(json.loads, log.read_text().splitlines())
    assert entry["model"] == JUDGE
    assert entry["prompt_sha256"] == hashlib.sha256("Judge 这个.".encode()).hexdigest()
    assert abs(entry["time"] - time.time()) < 10


@pytest.mark.parametrize(
    "arguments",
    [["--fault-kinds", "flood"], ["--fault-share", "2"], ["--port", "70000"], ["--log", "/no/log"]],
    ids=["kind", "share", "port", "log"],
)
def test_bad_arguments_give_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "mock_server: error: " in capsys.readouterr().err.splitlines()[-1]
