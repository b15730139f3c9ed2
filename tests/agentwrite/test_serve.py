"""`agentwrite serve`: AgentWrite as a model that any OpenAI client can ask."""

import asyncio
import json
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from support.commands import command, environment, load_run, run
from support.endpoint import KEY
from support.model import INSTRUCTION, OVERFLOW, PLAN, WRITER, Model, by_plan, is_plan, section

from agentwrite.cli.main import main
from agentwrite.server.serve import Server
from agentwrite.settings import Settings
from agentwrite.writing.writer import Writer
from longwriter_core.llm import run_async

WHOLE = "\n\n".join(section(n) for n in range(1, 5))
NAME = f"agentwrite/{WRITER}"


def messages(text: str = INSTRUCTION) -> list[Any]:
    return [{"role": "user", "content": text}]


@asynccontextmanager
async def serving(model: Model, plan_from: int = 1000, **options: Any) -> AsyncIterator[Any]:
    """The create() of an openai client to a server over `model`."""
    key = options.pop("key", "")
    settings = Settings.resolve(model=WRITER, base_urls=(model.base_url,), **options)
    async with (
        Server(settings, port=0, plan_from=plan_from, key=key) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client,
    ):
        yield client.chat.completions.create


def asking(
    model: Model, work: Callable[[Any], Awaitable[Any]], plan_from: int = 1000, **options: Any
) -> Any:
    async def ask() -> Any:
        async with serving(model, plan_from, **options) as create:
            return await work(create)

    with model:
        return run_async(ask())


@pytest.mark.parametrize("parallel", [False, True], ids=["serial", "parallel"])
def test_what_asks_for_many_words_is_planned_and_written(parallel: bool) -> None:
    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=messages())

    answer = asking(Model(answer=by_plan), work, parallel=parallel)
    assert answer.choices[0].message.content == WHOLE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == NAME
    assert answer.usage.completion_tokens > 0


def test_a_stream_brings_section_after_section() -> None:
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


def test_the_first_section_is_there_before_the_last_is_asked_for() -> None:
    model = Model(answer=by_plan)

    async def work(create: Any) -> int:
        stream = await create(model=NAME, messages=messages(), stream=True)
        await anext(aiter(stream))
        return len(model.prompts)

    model.delay = 0.1
    assert asking(model, work) < 5  # a plan and four sections


@pytest.mark.parametrize("text", ["Hello.", "Write 999 words on tea."])
def test_short_requests_go_to_the_model_as_they_are(text: str) -> None:
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


def test_the_same_request_is_paid_once_at_the_same_time_and_later() -> None:
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


def test_a_client_that_hangs_up_ends_the_writing_and_its_calls_are_kept() -> None:
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


def test_who_asks_again_at_once_gets_the_whole_text(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_slip_of_ours_is_an_error_and_no_empty_text(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("a slip")

    monkeypatch.setattr(Writer, "write", broken)

    async def work(create: Any) -> Any:
        return await create(model=NAME, messages=messages())

    with pytest.raises(openai.InternalServerError):
        asking(Model(), work)


@pytest.mark.parametrize("limit", ["many", 1.5, [7]])
def test_what_the_model_cannot_take_is_an_error_and_no_empty_text(limit: Any) -> None:
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
def test_a_request_that_cannot_be_met_says_why(
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
def test_a_text_that_is_not_written_is_an_error_with_its_reason(
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


def test_a_web_page_cannot_use_it() -> None:
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


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--host", "0.0.0.0"], "AGENTWRITE_SERVE_KEY"),
        (["--port", "70000"], "--port"),
        (["--base-url", "localhost"], "base_urls must be a URL"),
    ],
)
def test_a_server_that_cannot_start_says_why(
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
            base_url = process.stderr.readline().split()[3]
            ended = run(
                "quick_lm_eval", "run", "--model", "local-chat-completions", "--model_args",
                f"model={NAME},base_url={base_url}/chat/completions,num_concurrent=4",
                "--tasks", "longwrite_demo", "--apply_chat_template", "--limit", "4",
                "--log_samples", "--output_path", str(tmp_path), "--metadata",
                json.dumps({"judge_model": "mock-judge", "judge_base_url": model.base_url}),
            )  # fmt: skip
            process.send_signal(signal.SIGINT)
            left = process.stderr.read()
        assert process.returncode == 0
    assert ended.code == 0, ended.out
    assert "stopped" in left
    written = [s for s in load_run(tmp_path).samples if s.required >= 500]
    assert written
    assert all(sample.response.count("\n\n") >= 3 for sample in written)
