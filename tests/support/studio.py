"""A client of the studio's API, over real HTTP."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from support.model import INSTRUCTION, WRITER, Model, by_plan, is_plan, step_of

from agentwrite.server.serve import Server
from agentwrite.settings import Settings
from longwriter_core.llm import run_async

T = TypeVar("T")
WAIT = 30.0  # seconds


@dataclass
class Client:
    """Sends requests to the studio, and waits for states."""

    session: aiohttp.ClientSession
    server: Server

    async def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        data = None if body is None else json.dumps(body)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.server.url}/studio/{path}"
        async with self.session.request(method, url, data=data, headers=sent | names) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> Any:
        """The JSON at a path."""
        status, body = await self.send("GET", path)
        assert status == 200, body
        return body

    async def post(self, path: str, body: Any = None) -> Any:
        """The answer to a POST that is accepted."""
        status, answer = await self.send("POST", path, body or {})
        assert status in (200, 201), answer
        return answer

    async def book(self, name: str) -> Any:
        """A book with plan and sections."""
        return await self.get(f"books/{name}")

    async def until(self, name: str, is_reached: Callable[[Any], bool] | str) -> Any:
        """The book once it is in a state, or fulfils a condition."""
        state = is_reached

        def has_state(book: Any) -> bool:
            return bool(book["state"] == state)

        reached = has_state if isinstance(state, str) else state
        async with asyncio.timeout(WAIT):
            while not reached(book := await self.book(name)):
                await asyncio.sleep(0.01)
        return book

    async def planned(self, instruction: str = INSTRUCTION, **fields: Any) -> Any:
        """A new book that has its plan."""
        made = await self.post("books", {"instruction": instruction, **fields})
        return await self.until(made["name"], "planned")

    async def written(self, **fields: Any) -> Any:
        """A new book that is finished."""
        book = await self.planned(**fields)
        await self.post(f"books/{book['name']}/start")
        return await self.until(book["name"], "done")

    async def events(self, name: str, until: str, last: str = "") -> list[tuple[str, str, Any]]:
        """(id, event, data) of the events until the book is in a state."""
        headers = {"Last-Event-ID": last} if last else {}
        seen: list[tuple[str, str, Any]] = []
        url = f"{self.server.url}/studio/books/{name}/events"
        async with asyncio.timeout(WAIT), self.session.get(url, headers=headers) as stream:
            fields: dict[str, str] = {}
            async for raw in stream.content:
                line = raw.decode().rstrip("\n")
                if line:
                    field, _, value = line.partition(": ")
                    fields[field] = value
                elif "data" in fields:
                    data = json.loads(fields["data"])
                    seen.append((fields.get("id", ""), fields["event"], data))
                    if fields["event"] == "book" and data["state"] == until:
                        return seen
                    fields = {}
        raise AssertionError("the stream ended")


@asynccontextmanager
async def studio(model: Model, folder: Path, **options: Any) -> AsyncIterator[Client]:
    """A client of a server over `model`; `options` are the server's, and `settings`."""
    settings = Settings.resolve(
        model=WRITER, base_urls=(model.base_url,), **options.pop("settings", {})
    )
    async with (
        Server(settings, port=0, books=folder, **options) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Client(session, server)


def using(model: Model, folder: Path, work: Callable[[Client], Awaitable[T]], **options: Any) -> T:
    """What `work` returns with a client."""

    async def use() -> T:
        async with studio(model, folder, **options) as client:
            return await work(client)

    return run_async(use())


class Gate:
    """Answers as `answer` does, but holds the answer to a section back until it is opened."""

    def __init__(self, number: int, answer: Callable[[str], Any] = by_plan, sign: str = "") -> None:
        self.number, self.answer, self.sign = number, answer, sign
        self.opened = threading.Event()

    def __call__(self, prompt: str) -> Any:
        if not is_plan(prompt) and step_of(prompt) == self.number and self.sign in prompt:
            self.opened.wait(WAIT)
        return self.answer(prompt)


def rewriting(prompt: str) -> str:
    """Sections that follow a note say so."""
    if "The author's note:" in prompt:
        return f"Rewritten {step_of(prompt)}: the pilot tells all of it in her own words."
    return by_plan(prompt)


def use_prices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "prices.toml"
    path.write_text(f'[mine.models]\n"{WRITER}" = [100.0, 400.0]\n')
    monkeypatch.setenv("LONGWRITER_PRICES", str(path))
