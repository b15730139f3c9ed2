"""`agentwrite serve`: AgentWrite as a model for any OpenAI client."""

import asyncio
import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from support.commands import command, environment, load_run, run
from support.endpoint import KEY
from support.judging import JUDGE_SETTINGS
from support.model import INSTRUCTION, OVERFLOW, PLAN, WRITER, Model, by_plan, is_plan, section

from agentwrite.cli.main import main
from agentwrite.server.serve import Server
from agentwrite.settings import Settings
from agentwrite.writing.writer import Writer
from longwriter_core.errors import InputError
from longwriter_core.llm import run_async

WHOLE = "\n\n".join(section(n) for n in range(1, 5))
NAME = f"agentwrite/{WRITER}"


def messages(text: str = INSTRUCTION) -> list[Any]:
    return [{"role": "user", "content": text}]


@asynccontextmanager
async def serving(
    model: Model, plan_from: int = 1000, max_words: int = 50_000, **options: Any
) -> AsyncIterator[Any]:
    """The create() of an openai client to a server over `model`."""
    key = options.pop("key", "")
    settings = Settings.resolve(model=WRITER, base_urls=(model.base_url,), **options)
    async with (
        Server(settings, port=0, plan_from=plan_from, max_words=max_words, key=key) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client,
    ):
        yield client.chat.completions.create


def asking(
    model: Model, work: Callable[[Any], Awaitable[Any]], plan_from: int = 1000, **options: Any
) -> Any:
    """What `work` returns with the create() of a client."""

    async def ask() -> Any:
        async with serving(model, plan_from, **options) as create:
            return await work(create)

    with model:
        return run_async(ask())


@pytest.mark.parametrize("parallel", [False, True], ids=["serial", "parallel"])
def test_a_request_for_many_words_is_planned_and_written(parallel: bool) -> None:
    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=messages())

    answer = asking(Model(answer=by_plan), work, parallel=parallel)
    assert answer.choices[0].message.content == WHOLE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == NAME
    assert answer.usage.completion_tokens > 0


def test_a_stream_sends_section_after_section() -> None:
    async def work(create: Any) -> Any:
        stream = await create(
            model=NAME,
            messages=messages(),
            stream=True,
            stream_options={"include_usage": True},
        )
        return [chunk async for chunk in stream]

    *chunks, last, usage = asking(Model(answer=by_plan), work)
    pieces = [chunk.choices[0].delta.content for chunk in chunks]
    assert pieces == [section(1), *(f"\n\n{section(n)}" for n in range(2, 5))]
    assert last.choices[0].finish_reason == "stop"
    assert usage.usage.completion_tokens > 0


def test_the_first_section_is_sent_before_the_last_is_written() -> None:
    model = Model(answer=by_plan)

    async def work(create: Any) -> int:
        stream = await create(model=NAME, messages=messages(), stream=True)
        await anext(aiter(stream))
        return len(model.prompts)

    model.delay = 0.1
    assert asking(model, work) < 5  # a plan and four sections


@pytest.mark.parametrize("text", ["Hello.", "Write 999 words on tea."])
def test_short_requests_go_to_the_model_unchanged(text: str) -> None:
    model = Model(answer=lambda prompt: (prompt.upper(), "length"))

    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=messages(text), temperature=0.5, max_tokens=7)

    choice = asking(model, work).choices[0]
    assert (choice.message.content, choice.finish_reason) == (text.upper(), "length")
    assert model.prompts == [text]


def test_a_conversation_is_planned_as_a_whole() -> None:
    said = [
        {"role": "system", "content": "You are a harbour master."},
        {"role": "user", "content": [{"type": "text", "text": "Which harbour?"}]},
        {"role": "assistant", "content": "Rotterdam."},
        {"role": "user", "content": "Write 1600 words about it."},
    ]
    model = Model(answer=by_plan)

    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=said)

    asking(model, work)
    for part in ("harbour master", "User: Which harbour?", "Assistant: Rotterdam.", "1600 words"):
        assert all(part in prompt for prompt in model.prompts)


def test_concurrent_and_later_identical_requests_are_paid_once() -> None:
    model = Model(answer=by_plan)

    async def work(create: Any) -> Any:
        one = create(model=NAME, messages=messages(), seed=1)
        same = create(model=NAME, messages=messages(), seed=1, max_tokens=9)
        await asyncio.gather(one, same)
        await create(model=NAME, messages=messages(), seed=1)
        first = len(model.prompts)
        await create(model=NAME, messages=messages(), seed=2)
        return first

    assert asking(model, work) == 5
    assert len(model.prompts) == 10


def test_a_disconnect_stops_the_writing_and_keeps_finished_calls() -> None:
    model = Model(answer=by_plan)
    model.delay = 0.15

    async def work(create: Any) -> tuple[int, str]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):  # a plan and a section
                await create(model=NAME, messages=messages())
        await asyncio.sleep(0.5)
        before = len(model.prompts)
        answer = await create(model=NAME, messages=messages())
        return before, answer.choices[0].message.content

    before, text = asking(model, work)
    assert before <= 3
    assert text == WHOLE
    assert len(model.prompts) <= 6  # the call in flight was made again


def test_an_immediate_retry_after_a_disconnect_gets_the_whole_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(answer=by_plan)
    model.delay = 0.1
    ends = asyncio.Event()
    write = Writer.write

    async def slow_to_end(*arguments: Any) -> Any:  # as where a call in flight is being closed
        try:
            return await write(*arguments)
        except asyncio.CancelledError:
            ends.set()
            await asyncio.sleep(0.3)
            raise

    monkeypatch.setattr(Writer, "write", slow_to_end)

    async def work(create: Any) -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.25):
                await create(model=NAME, messages=messages())
        await ends.wait()
        return await create(model=NAME, messages=messages())

    assert asking(model, work).choices[0].message.content == WHOLE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_internal_error_is_reported_and_no_empty_text_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("a slip")

    monkeypatch.setattr(Writer, "write", broken)

    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=messages())

    with pytest.raises(openai.InternalServerError):
        asking(Model(), work)


@pytest.mark.parametrize("limit", ["many", 1.5, [7]])
def test_parameters_that_the_model_refuses_are_reported(limit: Any) -> None:
    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=messages("Hello."), max_tokens=limit)

    with pytest.raises(openai.APIStatusError, match="max_tokens"):
        asking(Model(), work)


@pytest.mark.parametrize(
    ("given", "error", "named"),
    [
        ({"model": WRITER}, openai.NotFoundError, NAME),
        ({"messages": []}, openai.BadRequestError, "user message"),
        ({"messages": [{"role": "user", "content": " "}]}, openai.BadRequestError, "not empty"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, openai.BadRequestError, "user's"),
        ({"messages": ["a"]}, openai.BadRequestError, "role"),
        ({"n": 2}, openai.BadRequestError, "seed"),
    ],
)
def test_an_invalid_request_is_refused_with_the_reason(
    given: dict[str, Any], error: type[openai.APIStatusError], named: str
) -> None:
    async def work(create: Any) -> None:
        with pytest.raises(error, match=named):
            await create(**{"model": NAME, "messages": messages(), **given})

    model = Model(answer=by_plan)
    asking(model, work)
    assert not model.prompts


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        ("I'm sorry, but I can't help with that.", openai.BadRequestError, "content_filter"),
        (OVERFLOW, openai.BadRequestError, "context_length_exceeded"),
        ("Nothing to read.", openai.InternalServerError, "no_plan"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_text_is_an_error_with_its_reason(
    answer: str, error: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    async def work(create: Any) -> Any:
        answered = await create(model=NAME, messages=messages(), stream=stream)
        if stream:
            async for _ in answered:
                pass

    with pytest.raises(openai.APIError if stream else error) as raised:
        asking(Model(answer=lambda _prompt: answer), work)
    assert raised.value.code == code


def test_clients_must_send_the_key() -> None:
    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=messages())

    with pytest.raises(openai.AuthenticationError):
        asking(Model(answer=by_plan), work, key="another")
    assert asking(Model(answer=by_plan), work, key=KEY)


def test_plain_text_is_refused() -> None:
    """A browser sends plain text to another site without asking; JSON it does not."""

    async def ask() -> int:
        settings = Settings.resolve(model=WRITER, base_urls=("http://127.0.0.1:9/v1",))
        async with Server(settings, port=0) as server:
            data = json.dumps({"model": NAME, "messages": messages()}).encode()
            sent = urllib.request.Request(
                f"{server.base_url}/chat/completions", data, {"Content-Type": "text/plain"}
            )
            with pytest.raises(urllib.error.HTTPError) as raised:
                await asyncio.to_thread(urllib.request.urlopen, sent)
            raised.value.close()
            return raised.value.code

    assert run_async(ask()) == 400


@dataclass(frozen=True)
class Answered:
    """The answer to a raw HTTP request."""

    status: int
    body: Any
    headers: Mapping[str, str]


def sending(
    model: Model, path: str, body: Any = None, method: str = "GET", *, key: str = "",
    headers: Mapping[str, str] | None = None, **options: Any,
) -> Answered:  # fmt: skip
    """One raw request to a server over `model`."""

    async def send() -> Answered:
        settings = Settings.resolve(model=WRITER, base_urls=(model.base_url,))
        async with Server(settings, port=0, plan_from=1000, key=key, **options) as server:
            url = server.base_url.removesuffix("/v1") + path

            def request() -> Answered:
                data = None if body is None else json.dumps(body).encode()
                asked = urllib.request.Request(url, data, method=method)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    asked.add_header(name, value.replace("PORT", str(server.port)))
                try:
                    with urllib.request.urlopen(asked) as answer:
                        said = answer.read()
                        return Answered(
                            answer.status, json.loads(said) if said else None, dict(answer.headers)
                        )
                except urllib.error.HTTPError as error:
                    with error:
                        return Answered(error.code, error.read().decode(), dict(error.headers))

            return await asyncio.to_thread(request)

    with model:
        return run_async(send())


CHAT = "/v1/chat/completions"
HELLO = {"model": NAME, "messages": [{"role": "user", "content": "Hello."}]}


@pytest.mark.parametrize(
    ("host", "allowed", "status"),
    [
        ("127.0.0.1:PORT", (), 200),
        ("localhost:9999", (), 200),
        ("LOCALHOST", (), 200),
        ("[::1]:PORT", (), 200),
        ("evil.example:PORT", (), 403),
        ("127.0.0.1.evil.example", (), 403),
        ("localhost.evil.example", (), 403),
        ("evil.example@localhost", (), 200),
        ("192.168.1.5:8010", (), 403),
        ("192.168.1.5:8010", ("192.168.1.5",), 200),
        ("Writer.example", ("writer.example",), 200),
        ("anything.example", ("*",), 200),
        ("[", (), 403),
    ],
)
def test_the_host_must_be_a_name_of_the_server(
    host: str, allowed: tuple[str, ...], status: int
) -> None:
    model = Model()
    answered = sending(model, CHAT, HELLO, "POST", headers={"Host": host}, allow_hosts=allowed)
    assert answered.status == status
    assert len(model.prompts) == (status == 200)


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        ("http://127.0.0.1:PORT", (), 200),
        ("https://evil.example", (), 403),
        ("null", (), 403),
        ("http://127.0.0.1:1", (), 403),
        ("http://localhost:PORT", (), 403),
        ("file://127.0.0.1:PORT", (), 403),
        ("https://chat.example", ("https://chat.example",), 200),
        ("https://other.example", ("https://chat.example",), 403),
    ],
)
def test_pages_of_other_origins_are_refused_unless_allowed(
    origin: str, allowed: tuple[str, ...], status: int
) -> None:
    model = Model()
    answered = sending(
        model, CHAT, HELLO, "POST", headers={"Origin": origin}, allow_origins=allowed
    )
    assert answered.status == status
    assert len(model.prompts) == (status == 200)
    assert (answered.headers.get("Access-Control-Allow-Origin") == origin) == bool(
        allowed and status == 200
    )


def test_an_allowed_page_gets_its_preflight_answered_without_the_key() -> None:
    headers = {
        "Origin": "https://chat.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    allowed = sending(
        Model(), CHAT, method="OPTIONS", headers=headers, key=KEY,
        allow_origins=["https://chat.example"],
    )  # fmt: skip
    assert allowed.status == 204
    assert "x-stainless-os" in allowed.headers["Access-Control-Allow-Headers"]
    assert "POST" in allowed.headers["Access-Control-Allow-Methods"]
    refused = sending(Model(), CHAT, method="OPTIONS", headers=headers, key=KEY)
    assert refused.status == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_a_key_that_was_refused_can_be_read_by_an_allowed_page() -> None:
    answered = sending(
        Model(), CHAT, HELLO, "POST", headers={"Origin": "https://chat.example"}, key=KEY,
        allow_origins=["*"],
    )  # fmt: skip
    assert answered.status == 401
    assert answered.headers["Access-Control-Allow-Origin"] == "https://chat.example"


def test_any_origin_is_allowed_only_with_a_key() -> None:
    with pytest.raises(InputError, match="any web page"):
        sending(Model(), CHAT, HELLO, "POST", allow_origins=["*"])


def test_one_model_can_be_looked_up() -> None:
    shown = sending(Model(), f"/v1/models/{NAME}")
    assert (shown.status, shown.body["id"], shown.body["object"]) == (200, NAME, "model")
    assert sending(Model(), "/v1/models/another").status == 404
    assert sending(Model(), "/v1/models").body["data"] == [shown.body] or shown.body["created"]


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{NAME}", CHAT])
def test_every_path_but_health_needs_the_key(path: str) -> None:
    assert sending(Model(), path, key=KEY).status == 401
    assert sending(Model(), "/health", key=KEY).status == 200


LONG_REQUEST = {"role": "user", "content": INSTRUCTION}
LONG_ANSWER = {"role": "assistant", "content": "A long text of 1600 words, as you asked."}


@pytest.mark.parametrize(
    "said",
    [
        [LONG_REQUEST, LONG_ANSWER, {"role": "user", "content": "now a title"}],
        [LONG_REQUEST, LONG_ANSWER, {"role": "user", "content": "Thanks for the 1,600 words!"}],
        [{"role": "system", "content": "Write 5,000 words."}, {"role": "user", "content": "Hi"}],
    ],
    ids=["follow-up", "thanks", "system prompt"],
)
def test_only_the_last_user_turn_decides(said: list[Any]) -> None:
    model = Model(answer=lambda _: "Harbour.")

    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=said)

    assert asking(model, work).choices[0].message.content == "Harbour."
    assert len(model.prompts) == 1
    assert model.history[0].body["messages"] == said


def test_more_words_than_the_limit_are_refused_without_a_call() -> None:
    model = Model(answer=by_plan)

    async def work(create: Any) -> None:
        with pytest.raises(openai.BadRequestError, match="at most 1,500"):
            await create(model=NAME, messages=messages())

    asking(model, work, max_words=1500)
    assert not model.prompts


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", ["Section C", ["zzz", "ection C"], "\n\nSection C"])
def test_a_planned_text_ends_before_a_stop_sequence(stop: Any, stream: bool) -> None:
    model = Model(answer=by_plan)

    async def work(create: Any) -> str:
        answered = await create(model=NAME, messages=messages(), stop=stop, stream=stream)
        if not stream:
            return str(answered.choices[0].message.content)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in answered])

    first = stop if isinstance(stop, str) else stop[1]
    assert asking(model, work) == WHOLE[: WHOLE.index(first)]
    assert len(model.prompts) <= 5  # a plan and three sections, and perhaps one in flight


@pytest.mark.parametrize("stop", [[], None, "", [""]])
def test_an_empty_stop_sequence_is_ignored(stop: Any) -> None:
    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=messages(), stop=stop)

    assert asking(Model(answer=by_plan), work).choices[0].message.content == WHOLE


@pytest.mark.parametrize(
    "field",
    [
        {"response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": {}}}]},
        {"logprobs": True},
        {"stop": [1]},
    ],
    ids=lambda field: next(iter(field)),
)
def test_unsupported_fields_of_a_planned_text_are_rejected(field: dict[str, Any]) -> None:
    model = Model(answer=by_plan)

    async def work(create: Any) -> None:
        with pytest.raises(openai.BadRequestError, match=next(iter(field))):
            await create(model=NAME, messages=messages(), **field)

    asking(model, work)
    assert not model.prompts


def test_fields_of_a_short_request_reach_the_model() -> None:
    model = Model(answer=lambda _: "{}")
    fields = {"response_format": {"type": "json_object"}, "stop": ["x"]}

    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=messages("As JSON: hello"), **fields)

    asking(model, work)
    assert {name: model.history[0].body[name] for name in fields} == fields


def test_stored_parts_are_marked_in_the_usage() -> None:
    async def work(create: Any) -> Any:
        one = await create(model=NAME, messages=messages())
        return one.usage, (await create(model=NAME, messages=messages())).usage

    paid, stored = asking(Model(answer=by_plan), work)
    assert paid.prompt_tokens_details.cached_tokens == 0
    assert paid.stored["calls"] == 0
    assert stored.prompt_tokens_details.cached_tokens == stored.prompt_tokens == paid.prompt_tokens
    assert stored.stored["calls"] == 5
    assert stored.stored["completion_tokens"] == stored.completion_tokens


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--host", "0.0.0.0"], "AGENTWRITE_SERVE_KEY"),
        (["--port", "70000"], "--port"),
        (["--base-url", "localhost"], "base_urls must be a URL"),
    ],
)
def test_a_server_that_cannot_start_reports_the_reason(
    options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--base-url", "http://127.0.0.1:9/v1"] if "--base-url" not in options else []
    assert main(["serve", "--model", WRITER, *given, *options]) == 2
    printed = capsys.readouterr().err
    assert named in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.slow
def test_lm_eval_measures_agentwrite(tmp_path: Path) -> None:
    with Model(answer=lambda prompt: PLAN.format(500) if is_plan(prompt) else None) as model:
        serve = command(
            "agentwrite", "serve", "--port", "0", "--from", "500", "--model", WRITER,
            "--base-url", model.base_url,
        )  # fmt: skip
        process = subprocess.Popen(serve, env=environment(), stderr=subprocess.PIPE, text=True)
        assert process.stderr
        with process:
            base_url = process.stderr.readline().split()[3].rstrip(";")
            ended = run(
                "quick_lm_eval", "run", "--model", "local-chat-completions", "--model_args",
                f"model={NAME},base_url={base_url}/chat/completions,num_concurrent=4",
                "--tasks", "longwrite_demo", "--apply_chat_template", "--limit", "4",
                "--log_samples", "--output_path", str(tmp_path), "--metadata",
                json.dumps({**JUDGE_SETTINGS, "judge_base_url": model.base_url}),
            )  # fmt: skip
            process.send_signal(signal.SIGINT)
            left = process.stderr.read()
        assert process.returncode == 0
    assert ended.code == 0, ended.out
    assert "stopped" in left
    written = [s for s in load_run(tmp_path).samples if s.required >= 500]
    assert written
    assert all(sample.response.count("\n\n") >= 3 for sample in written)
