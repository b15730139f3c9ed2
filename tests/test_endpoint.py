"""One endpoint over HTTP: what is sent, through which proxy, how long it waits, what it closes."""

import base64
import email.utils
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from endpoint import KEY, Endpoint, ask, ask_all, completion, refusal, request

from longwriter_eval import endpoint as module
from longwriter_eval.errors import InputError
from longwriter_eval.llm import CallError, Chat, Reply, Store, call_key, for_each, run_async
from longwriter_eval.standin import StandIn

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Recording(Endpoint):
    """An endpoint that keeps the headers of the requests."""

    headers: list[dict[str, str]]
    paths: list[str]

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        self.headers = [*getattr(self, "headers", []), dict(request.headers)]
        self.paths = [*getattr(self, "paths", []), request.path_qs]
        return await super()._route(request)


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
    with Recording(answers=[(200, completion("Fine."))]) as server:
        reply = ask(server.base_url.replace("://", f"://{login}"))
    assert isinstance(reply, Reply)
    assert server.headers[0]["Authorization"] == sent


def test_a_query_of_the_base_url_is_sent_and_never_shown() -> None:
    with Recording(answers=[(200, completion("Fine."))]) as server:
        assert isinstance(ask(f"{server.base_url}?api-version=hidden"), Reply)
    assert server.paths == ["/v1/chat/completions?api-version=hidden"]
    outcome = ask("http://127.0.0.1:1/v1?key=hidden")
    assert isinstance(outcome, CallError)
    assert "hidden" not in str(outcome)


def test_a_password_that_the_server_echoes_is_not_shown() -> None:
    with Endpoint(answers=[refusal(400, None, "hunter22 is wrong")]) as server:
        outcome = ask(server.base_url.replace("://", "://me:hunter22@"))
    assert str(outcome) == "HTTP 400: *** is wrong"


def test_a_placeholder_for_a_key_takes_no_word_out_of_a_text() -> None:
    with Endpoint(answers=[(200, completion("The hall was EMPTY."))]) as server:
        (reply,) = run_async(ask_all(server.base_url, request(), key="EMPTY"))
    assert isinstance(reply, Reply)
    assert reply.text == "The hall was EMPTY."


@pytest.mark.parametrize("key", ["line\nbreak", "line\rbreak"])
def test_a_key_that_no_header_can_hold_is_bad_input_and_not_shown(key: str) -> None:
    with pytest.raises(InputError, match="the key for http://x/v1 has a line break") as refused:
        Chat(Store(), base_url="http://x/v1", api_key=key)
    assert key not in str(refused.value)


class _Proxy(BaseHTTPRequestHandler):
    """Answers by itself, and keeps what it was asked for."""

    asked: list[tuple[str, str | None]]

    def do_POST(self) -> None:
        type(self).asked.append((self.path, self.headers.get("Proxy-Authorization")))
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"choices": [{"message": {"content": "By proxy."}}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "exception", "proxied"),
    [
        ("http_proxy", "", True),
        ("ALL_PROXY", "", True),
        ("https_proxy", "", False),
        ("http_proxy", "127.0.0.1", False),
    ],
    ids=["http", "all", "other-scheme", "exception"],
)
def test_proxies_are_those_of_the_environment(
    name: str, exception: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Proxy.asked = []
    with StandIn() as server, ThreadingHTTPServer(("127.0.0.1", 0), _Proxy) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv(name, f"http://me:hunter22@127.0.0.1:{proxy.server_port}")
        monkeypatch.setenv("no_proxy", exception)
        reply = ask(server.base_url)
        proxy.shutdown()
        thread.join()
    assert isinstance(reply, Reply)
    assert (reply.text == "By proxy.") is proxied
    target = f"{server.base_url}/chat/completions"
    assert _Proxy.asked == ([(target, basic("me", "hunter22"))] if proxied else [])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("0", 0),
        ("9999", None),
        ("-1", None),
        ("soon", None),
        ("nan", None),
        (None, None),
    ],
)
def test_retry_after_is_obeyed_within_reason(header: str | None, seconds: float | None) -> None:
    assert module._retry_after({"Retry-After": header} if header else {}) == seconds


def test_retry_after_may_be_a_date() -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert module._retry_after({"Retry-After": later}) == pytest.approx(30, abs=2)


def test_a_longer_reply_has_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.2)
    long = {**request("1"), "max_tokens": 32_768}
    with StandIn(delay=0.6) as server:
        outcomes = run_async(ask_all(server.base_url, request("2"), long, retries=0))
    assert [type(outcome) for outcome in outcomes] == [CallError, Reply]
    assert "Timeout" in str(outcomes[0])


def test_hundreds_of_calls_are_in_flight_at_once_and_leave_nothing_open(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        async with Chat(Store(tmp_path), base_url=url, api_key=KEY) as chat:

            async def work(number: int) -> None:
                asked = request(f"{number}")
                await chat.ask(call_key(request=asked), asked)

            await for_each(range(300), work, 300)
            assert chat.usage.calls == 300

    with StandIn(delay=1) as server:  # warnings, as of an open connection, are errors
        run_async(run(server.base_url))
    assert server.stats().max_in_flight == 300


def test_token_counts_that_are_none_do_not_spoil_a_reply() -> None:
    answer = {**completion("Fine."), "usage": {"prompt_tokens": "ten", "completion_tokens": None}}
    with Endpoint(answers=[(200, answer)]) as server:
        reply = ask(server.base_url)
    assert isinstance(reply, Reply)
    assert (reply.prompt_tokens, reply.completion_tokens) == (None, None)
