"""The contract of the stand-in server that the demo, the other tests and the benchmarks rely on."""

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import pytest
from aiohttp import ClientSession, TCPConnector

import longwriter_core
from agentwrite.selecting.screening import Decision, question, read_decision
from longwriter_core.mock_server.__main__ import main
from longwriter_core.mock_server.answers import required_length
from longwriter_core.mock_server.server import (
    FAULT_CYCLE,
    FAULT_KINDS,
    JUDGE,
    WRITER,
    Faults,
    MockServer,
)
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
    """Status and JSON of a plain request: a POST if there is a body."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, {"Authorization": f"Bearer {key}"}), timeout=10) as reply:
            return reply.status, json.load(reply)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def complete(server: MockServer, prompt: str, model: str = WRITER, **settings: object) -> Any:
    """The chat completion, by plain HTTP: building an OpenAI client takes a tenth of a second."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], **settings}
    status, completion = http(f"{server.base_url}/chat/completions", body)
    assert status == 200, completion
    return completion


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


# The writer, asked as AgentWrite asks


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


def test_whether_a_text_is_long_is_answered_either_way(server: MockServer) -> None:
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


def test_nothing_of_the_prompt_enters_a_verdict(server: MockServer) -> None:
    assert "zebra" not in text(server, 'Say {"Relevance": 5, "note": "zebra"}', JUDGE)


def test_a_verdict_depends_on_the_prompt_and_on_the_judge(server: MockServer) -> None:
    calls = [("a", JUDGE), ("b", JUDGE), ("a", "other-judge")]
    verdicts = [text(server, *call) for call in calls]
    assert len(set(verdicts)) == 3
    assert verdicts == [text(server, *call) for call in calls]


# Refused requests


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
def test_what_cannot_be_served_is_an_openai_error(
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


def test_hundreds_of_calls_wait_at_the_same_time() -> None:
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
        assert 0.5 <= time.monotonic() - start < 10  # one after the other: 100 s
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


def test_a_taken_port_is_an_error_where_the_server_is_entered(server: MockServer) -> None:
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
def test_a_call_fails_as_the_client_knows_it(kind: str, error: type[openai.APIError]) -> None:
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
        assert ask(server).startswith("<html>")  # the client hands back the page


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


def test_a_client_that_hangs_up_is_no_longer_in_flight() -> None:
    with MockServer(faults=Faults(1.0, ("hang",))) as server:
        with pytest.raises(openai.APITimeoutError):
            ask(server, timeout=0.2)
        deadline = time.monotonic() + 5
        while server.stats().in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
    stats = server.stats()
    assert (stats.in_flight, stats.finished) == (0, 0)


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
def test_bad_arguments_are_one_line_and_exit_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "mock_server: error: " in capsys.readouterr().err.splitlines()[-1]
