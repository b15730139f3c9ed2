"""One endpoint over HTTP: requests, proxies, timeouts, retries and closed connections."""

import asyncio
import base64
import contextlib
import email.utils
import json
import logging
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from support.endpoint import KEY, Endpoint, ask, ask_all, completion, refusal, request

from longwriter_core.errors import InputError
from longwriter_core.llm import (
    CallError,
    ChatPool,
    EndpointError,
    Reply,
    Store,
    call_key,
    for_each,
    run_async,
)
from longwriter_core.llm import client as module
from longwriter_core.llm.answers import retry_after
from longwriter_core.mock_server.server import Faults, MockServer

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("login", "sent"),
    [
        ("", f"Bearer {KEY}"),
        ("me:hunter22@", basic("me", "hunter22")),
        ("me:hun%40ter%2F2@", basic("me", "hun@ter/2")),
    ],
    ids=["key", "password-in-the-url", "escaped-password"],
)
def test_the_key_or_the_urls_own_login_is_sent(login: str, sent: str) -> None:
    with Endpoint(answers=[(200, completion("Fine."))]) as server:
        reply = ask(server.base_url.replace("://", f"://{login}"))
    assert isinstance(reply, Reply)
    assert server.history[0].headers["Authorization"] == sent


def test_a_query_of_the_base_url_is_sent_and_never_shown() -> None:
    with Endpoint(answers=[(200, completion("Fine."))]) as server:
        assert isinstance(ask(f"{server.base_url}?api-version=hidden"), Reply)
    assert [request.path for request in server.history] == [
        "/v1/chat/completions?api-version=hidden"
    ]
    outcome = ask("http://127.0.0.1:1/v1?key=hidden")
    assert isinstance(outcome, CallError)
    assert "hidden" not in str(outcome)


@pytest.mark.parametrize("query", ["key=ab%2Fhidden%7E%3D%3D", "key=hidden+é", "key=hidden"])
def test_network_errors_do_not_show_the_query(query: str) -> None:
    with answering(b"SSH-2.0-OpenSSH\r\n\r\n") as url:
        outcome = ask(f"{url}?{query}")
    assert isinstance(outcome, CallError)
    assert "Bad status line" in str(outcome)
    assert "hidden" not in str(outcome)


def test_a_password_that_the_server_echoes_is_not_shown() -> None:
    with Endpoint(answers=[refusal(400, None, "hunter22 is wrong")]) as server:
        outcome = ask(server.base_url.replace("://", "://me:hunter22@"))
    assert str(outcome) == "HTTP 400: *** is wrong"


def test_a_placeholder_key_is_not_removed_from_texts() -> None:
    with Endpoint(answers=[(200, completion("The hall was EMPTY."))]) as server:
        (reply,) = run_async(ask_all(server.base_url, request(), key="EMPTY"))
    assert isinstance(reply, Reply)
    assert reply.text == "The hall was EMPTY."


@pytest.mark.parametrize("key", ["line\nbreak", "line\rbreak"])
def test_a_key_that_is_invalid_in_a_header_is_an_input_error_that_does_not_show_it(
    key: str,
) -> None:
    with pytest.raises(InputError, match="the key for http://x/v1 has a line break") as refused:
        ChatPool(Store(), base_url="http://x/v1", api_key=key)
    assert key not in str(refused.value)


class _Proxy(BaseHTTPRequestHandler):
    """A proxy that answers requests itself and records them."""

    asked: list[tuple[str, str | None]]

    def do_POST(self) -> None:
        type(self).asked.append((self.path, self.headers.get("Proxy-Authorization")))
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"choices": [{"message": {"content": "By proxy."}}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        self.send_error(407)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A threaded server; yields its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def answering(raw: bytes) -> Iterator[str]:
    """A server that sends these bytes and closes the connection; yields its base URL."""

    class Raw(_Proxy):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(raw)

    with listening(Raw) as port:
        yield f"http://127.0.0.1:{port}/v1"


@pytest.mark.parametrize(
    ("name", "scheme", "exception", "proxied"),
    [
        ("http_proxy", "http://", "", True),
        ("HTTP_PROXY", "", "", True),
        ("ALL_PROXY", "http://", "", True),
        ("https_proxy", "http://", "", False),
        ("http_proxy", "http://", "127.0.0.1", False),
        ("http_proxy", "http://", "127.0.0.1:{port}", False),
    ],
    ids=["http", "no-scheme", "all", "other-scheme", "exception", "exception-with-port"],
)
def test_proxies_are_those_of_the_environment(
    name: str, scheme: str, exception: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Proxy.asked = []
    with MockServer() as server, listening(_Proxy) as port:
        monkeypatch.setenv(name, f"{scheme}me:hunter22@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", exception.format(port=server.port))
        reply = ask(server.base_url)
    assert isinstance(reply, Reply)
    assert (reply.text == "By proxy.") is proxied
    target = f"{server.base_url}/chat/completions"
    assert _Proxy.asked == ([(target, basic("me", "hunter22"))] if proxied else [])


def test_a_proxy_that_refuses_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening(_Proxy) as port:
        monkeypatch.setenv("https_proxy", f"http://me:hunter22@127.0.0.1:{port}")
        outcome = ask("https://host.invalid/v1")
    assert str(outcome) == "Connection error: Proxy Authentication Required"


@pytest.mark.parametrize("proxy", ["socks5://me:hunter22@host:1080", "http://me:hunter22@["])
def test_an_invalid_proxy_is_an_input_error_that_does_not_show_it(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(InputError, match="cannot use the proxy in ALL_PROXY") as refused:
        ChatPool(Store(), base_url="http://x/v1", api_key=KEY)
    assert "hunter22" not in str(refused.value)


def test_calls_wait_between_retries_even_with_retry_after_0() -> None:
    with Endpoint(faults=Faults(0.5, ("429",))) as server:  # with Retry-After: 0
        run_async(ask_all(server.base_url, request("1")))
        start = time.monotonic()
        (reply,) = run_async(ask_all(server.base_url, request("2")))
    assert isinstance(reply, Reply)
    assert reply.retries == 1
    assert time.monotonic() - start >= 0.5


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_a_reply_that_the_server_aborted_is_an_error(reason: str) -> None:
    answers = [(200, completion("Half a", reason)), (200, completion("Whole."))]
    with Endpoint(answers=answers) as server:
        reply = ask(server.base_url, retries=1)
    assert isinstance(reply, Reply)
    assert (reply.text, reply.retries) == ("Whole.", 1)


def test_an_error_with_status_200_is_shown() -> None:
    with Endpoint(answers=[(200, {"error": {"message": "Provider overloaded."}})]) as server:
        outcome = ask(server.base_url)
    assert str(outcome).endswith("instead of a chat completion: Provider overloaded.")


def test_the_token_limit_is_sent_under_the_name_that_the_model_requires() -> None:
    message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    answers = [refusal(400, "unsupported_parameter", message), (200, completion("Fine."))]
    asked = {**request(), "max_tokens": 7}
    with Endpoint(answers=answers, judge_reasoning_tokens=0) as server:
        outcomes = run_async(ask_all(server.base_url, asked, asked, retries=1))
    assert all(isinstance(outcome, Reply) for outcome in outcomes)
    bodies = [request.body for request in server.history]
    limits = [{name: n for name, n in body.items() if "max" in name} for body in bodies]
    assert limits == [{"max_tokens": 7}, *[{"max_completion_tokens": 7}] * 2]


def test_content_may_be_a_list_of_parts() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Fine."},
    ]
    with Endpoint(answers=[(200, completion(parts))]) as server:  # type: ignore[arg-type]
        reply = ask(server.base_url)
    assert isinstance(reply, Reply)
    assert reply.text == "Fine."


def test_a_403_for_one_prompt_does_not_end_the_other_calls() -> None:
    fine, forbidden = (200, completion("Fine.")), refusal(403, None, "Request blocked.")
    with Endpoint(answers=[fine, forbidden, fine]) as server:
        outcomes = run_async(ask_all(server.base_url, *map(request, "123")))
    assert [type(outcome) for outcome in outcomes] == [Reply, CallError, Reply]
    with Endpoint(answers=[forbidden]) as server:  # a 403 for the first call means a bad key
        (outcome,) = run_async(ask_all(server.base_url, request("4")))
    assert isinstance(outcome, EndpointError)


def test_long_headers_are_accepted() -> None:
    body = json.dumps(completion("Fine.")).encode()
    head = b"HTTP/1.1 200 OK\r\nX-Policy: %s\r\nContent-Length: %d\r\n\r\n"
    with answering(head % (b"x" * 20_000, len(body)) + body) as url:
        assert isinstance(ask(url), Reply)


def test_an_unresponsive_endpoint_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_TROUBLE", 1)
    url = "http://127.0.0.1:1/v1"
    run_async(ask_all(url, request("1"), request("2"), retries=1))
    assert caplog.text.count(f"{url}: Connection error") == 1
    assert "trying again" in caplog.text


def test_errors_contain_no_terminal_control_characters() -> None:
    with Endpoint(answers=[refusal(400, None, "a\x1b[31mred\x07")]) as server:
        outcome = ask(server.base_url)
    assert str(outcome) == "HTTP 400: a [31mred"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("0", 0),
        ("86400", 86_400),
        ("-1", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        (None, None),
    ],
)
def test_retry_after_is_obeyed_at_any_length(header: str | None, seconds: float | None) -> None:
    assert retry_after({"Retry-After": header} if header else {}) == seconds


def test_retry_after_may_be_a_date() -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after({"Retry-After": later}) == pytest.approx(30, abs=2)


def test_a_longer_reply_has_a_longer_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    long = {**request("1"), "max_tokens": 32_768}
    with MockServer(delay=0.6, judge_reasoning_tokens=0) as server:
        outcomes = run_async(ask_all(server.base_url, request("2"), long, retries=0))
    assert [type(outcome) for outcome in outcomes] == [CallError, Reply]
    assert "Timeout" in str(outcomes[0])


@pytest.fixture
def few_files() -> Iterator[None]:
    """Limit open files to the default of macOS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_hundreds_of_calls_are_in_flight_at_once_and_leave_nothing_open(tmp_path: Path) -> None:
    count = 300  # more than the initial limit on open files
    arrived = 0

    async def run() -> int:
        all_arrived = asyncio.Event()

        async def answer(_request: web.Request) -> web.Response:
            nonlocal arrived
            arrived += 1
            if arrived == count:
                all_arrived.set()
            await asyncio.wait_for(all_arrived.wait(), 60)
            return web.json_response(completion("Yes."))

        app = web.Application()
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        async with ChatPool(Store(tmp_path), base_url=url, api_key=KEY, retries=0) as chat:

            async def work(number: int) -> None:
                asked = request(f"{number}")
                await chat.ask(call_key(request=asked), asked)

            await for_each(range(count), work, count)
            calls = chat.usage.calls
        await runner.cleanup()
        return calls

    assert run_async(run()) == count  # warnings, as of an open connection, are errors


def test_invalid_token_counts_are_ignored() -> None:
    answer = {**completion("Fine."), "usage": {"prompt_tokens": "ten", "completion_tokens": None}}
    with Endpoint(answers=[(200, answer)]) as server:
        reply = ask(server.base_url)
    assert isinstance(reply, Reply)
    assert (reply.prompt_tokens, reply.completion_tokens) == (None, None)


@contextlib.contextmanager
def trickling() -> Iterator[str]:
    """A server that sends a byte every tenth of a second; yields its base URL."""

    class Trickle(_Proxy):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "50")
            self.end_headers()
            with contextlib.suppress(OSError):  # the client gives up
                for _ in range(50):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.1)

    with listening(Trickle) as port:
        yield f"http://127.0.0.1:{port}/v1"


def test_the_timeout_is_for_the_whole_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.5)
    with trickling() as url:
        outcome = ask(url)
    assert isinstance(outcome, CallError)
    assert "no complete reply within 0.5 seconds" in str(outcome)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_in_a_separate_field_is_stored(field: str) -> None:
    with Endpoint(answers=[(200, completion("Fine.", **{field: "Hm."}))]) as server:
        reply = ask(server.base_url)
    assert isinstance(reply, Reply)
    assert (reply.text, reply.reasoning) == ("Fine.", "Hm.")
    stored = Store().get(call_key(request=request()))
    assert stored
    assert stored.reasoning == "Hm."


def test_fields_that_only_some_servers_know_are_sent() -> None:
    with Endpoint(answers=[(200, completion("Fine."))]) as server:
        run_async(ask_all(server.base_url, {**request(), "top_k": 5}))
    assert server.history[0].body == {**request(), "top_k": 5}


def test_a_lone_surrogate_is_sent_as_a_question_mark() -> None:
    with Endpoint(answers=[(200, completion("Fine."))]) as server:
        (outcome,) = run_async(ask_all(server.base_url, request("a\ud800b")))
    assert isinstance(outcome, Reply)
    assert server.history[0].prompt == "a?b"


def test_the_organization_is_sent_to_openai_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-hidden")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-hidden")
    with Endpoint(answers=[(200, completion("Fine."))]) as server:
        assert isinstance(ask(server.base_url), Reply)
    assert "hidden" not in str(dict(server.history[0].headers))


def test_a_call_is_not_logged_with_its_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Endpoint(answers=[(200, completion("Fine."))]) as server:
        assert isinstance(ask(f"{server.base_url}?key=hidden"), Reply)
    assert "hidden" not in caplog.text


def test_importing_the_package_loads_neither_openai_nor_aiohttp() -> None:
    code = (
        "import sys, longwriter_core.llm; "
        "print([name for name in ('openai', 'aiohttp', 'httpx', 'httpx2') if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"
