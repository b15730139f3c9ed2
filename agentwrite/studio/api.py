"""The studio's page and its HTTP API. Bodies and answers are JSON.

    GET  /                                   the page
    GET  /studio/info                        the model, the limits, the formats that can be made
    GET  /studio/books                       name, title, words and state of each book
    POST /studio/books                       a new book, which is planned, or has the given `steps`
    GET  /studio/books/NAME                  a book with its plan and its sections
    POST /studio/books/NAME/plan             replace the plan of a text that is not begun
    POST /studio/books/NAME/start            plan or write, or resume what was stopped
    POST /studio/books/NAME/stop             end after the calls in flight; again: at once
    POST /studio/books/NAME/rewrite          rewrite `sections` by a `note`; `repair` the others
    GET  /studio/books/NAME/events           changes as server-sent events: book, plan, section
    GET  /studio/books/NAME/text.FORMAT      the text as a file: md, html, epub, docx

Texts are written by the server and not by a connection: closing the page does not stop them. Only
POST requests change anything or cost anything, and they must be JSON, which a page of another site
cannot send without the permission that `access` refuses.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentwrite.book import EditableStep, PlanFile, rewrite_notes
from agentwrite.engine import Engine
from agentwrite.export import available_formats, exported
from agentwrite.studio.shelf import Draft, Shelf
from agentwrite.studio.work import Work
from longwriter_core.errors import InputError
from longwriter_core.llm.profiles import prices_of
from longwriter_core.local_server import error
from longwriter_core.text.required_length import required_length

_PAGE = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".md": "text/markdown",
    ".epub": "application/epub+zip",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}  # fmt: skip
_KEEP_ALIVE_SECONDS = 15.0  # seconds without an event after which a comment is sent
_MAX_BODY = 4 * 2**20  # bytes
_MAX_NOTE = 10_000  # characters; a repair keeps the note for each section that follows
# The page runs its own script only, even if a text could smuggle in another.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Body = TypeVar("_Body", bound=BaseModel)


class NewBook(BaseModel):
    """The body of POST /studio/books."""

    model_config = ConfigDict(extra="forbid", strict=True)

    instruction: str = Field(min_length=1)
    words: int | None = Field(None, ge=1)
    title: str | None = Field(None, max_length=300)
    seed: int | None = Field(None, ge=0, lt=2**31)
    steps: list[EditableStep] | None = Field(None, min_length=1)


class NewPlan(BaseModel):
    """The body of POST …/plan."""

    model_config = ConfigDict(extra="forbid", strict=True)

    steps: list[EditableStep] = Field(min_length=1)


class Rewrite(BaseModel):
    """The body of POST …/rewrite."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sections: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=10_000)
    note: str = Field(min_length=1, max_length=_MAX_NOTE)
    repair: bool = False


class Nothing(BaseModel):
    """The body of POST …/start and …/stop: {}."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Studio:
    """Serves the page and the API over the books in a folder."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._shelf, self._engine = Shelf(folder), engine
        self._open: dict[str, Work] = {}
        self._epoch = uuid4().hex[:8]  # revisions of another run of the server mean nothing
        self._converting = asyncio.Semaphore(1)
        self._endings: list[str] = []  # of the formats that can be made, once that is known

    @staticmethod
    def public_paths() -> tuple[str, ...]:
        """The paths that need no key: the page, which asks for it."""
        return ("/", *(f"/studio/page/{path.name}" for path in _PAGE.iterdir()))

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the paths of the page and of the API."""
        book = "/studio/books/{name}"
        for method, path, handler in (
            ("GET", "/", self._page),
            ("GET", "/studio/page/{file}", self._page),
            ("GET", "/studio/info", self._info),
            ("GET", "/studio/books", self._list),
            ("POST", "/studio/books", self._create),
            ("GET", book, self._show),
            ("POST", f"{book}/plan", self._plan),
            ("POST", f"{book}/start", self._start),
            ("POST", f"{book}/stop", self._stop),
            ("POST", f"{book}/rewrite", self._rewrite),
            ("GET", f"{book}/events", self._events),
            ("GET", f"{book}/text.{{format}}", self._export),
        ):
            router.add_route(method, path, _answering(handler))

    async def close(self) -> None:
        """End all work; finished sections and calls are kept."""
        await asyncio.gather(*(work.close() for work in self._open.values()))

    async def _page(self, request: web.Request) -> web.Response:
        path = _PAGE / request.match_info.get("file", "index.html")
        if path not in _PAGE.iterdir():
            raise LookupError(f"there is no file {path.name!r}")
        return web.Response(
            body=path.read_bytes(), content_type=_TYPES[path.suffix], charset="utf-8",
            headers=_HEADERS,
        )  # fmt: skip

    async def _info(self, _request: web.Request) -> web.Response:
        settings = self._engine.settings
        return web.json_response(
            {
                "model": settings.model,
                "max_words": self._engine.max_words,
                "max_cost": settings.max_cost,
                "has_price": prices_of(settings.model) is not None,
                "formats": [ending.removeprefix(".") for ending in await self._formats()],
            }
        )

    async def _list(self, _request: web.Request) -> web.Response:
        books = await asyncio.to_thread(self._shelf.summaries)
        for book in books:
            if (work := self._open.get(book["name"])) and work.doing:
                book["state"] = work.state
        return web.json_response({"books": books})

    async def _create(self, request: web.Request) -> web.Response:
        asked = await _body(request, NewBook)
        if not (instruction := asked.instruction.strip()):
            raise InputError("the instruction is empty")
        length = asked.words or required_length(instruction)
        plan = PlanFile(instruction=instruction, steps=asked.steps) if asked.steps else None
        if plan:
            self._engine.check_plan(plan.plan)
        else:
            self._engine.check_words(length)
        title = " ".join((asked.title or "").split()) or None
        path = self._shelf.create(title or instruction)
        Draft(instruction=instruction, title=title, length=length, seed=asked.seed).save(path)
        work = self._open[path.stem] = Work(path, self._engine)
        if plan:
            work.save_plan(plan)
        else:
            work.start()
        return web.json_response(work.as_dict(), status=201)

    async def _show(self, request: web.Request) -> web.Response:
        work = self._work(request)
        sections = [_section(work, number) for number in sorted(work.sections)]
        return web.json_response({**work.as_dict(), "steps": work.steps(), "written": sections})

    async def _plan(self, request: web.Request) -> web.Response:
        work, asked = self._work(request), await _body(request, NewPlan)
        work.save_plan(PlanFile(instruction=work.draft.instruction, steps=asked.steps))
        return web.json_response(work.as_dict())

    async def _start(self, request: web.Request) -> web.Response:
        work, _ = self._work(request), await _body(request, Nothing)
        work.start()
        return web.json_response(work.as_dict())

    async def _stop(self, request: web.Request) -> web.Response:
        work, _ = self._work(request), await _body(request, Nothing)
        work.stop()
        return web.json_response(work.as_dict())

    async def _rewrite(self, request: web.Request) -> web.Response:
        work, asked = self._work(request), await _body(request, Rewrite)
        if not asked.note.strip():
            raise InputError("the note is empty: say what is to be different")
        count = len(work.sections)
        if (last := max(asked.sections)) > count:
            raise InputError(f"there is no section {last}: the text has {count}")
        work.rewrite(rewrite_notes(asked.sections, count, asked.note, repair=asked.repair))
        return web.json_response(work.as_dict())

    async def _export(self, request: web.Request) -> web.Response:
        work, ending = self._work(request), f".{request.match_info['format']}"
        if ending not in await self._formats():
            raise LookupError(f"there is no format {ending!r} here")
        text = work.markdown()
        async with self._converting:
            body = await asyncio.to_thread(exported, text, ending, work.draft.title, work.name)
        name = quote(f"{work.name}{ending}")
        headers = {**_HEADERS, "Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        return web.Response(body=body, content_type=_TYPES[ending], headers=headers)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send what has changed since the event that the client has seen last, and then on."""
        work = self._work(request)
        epoch, _, revision = request.headers.get("Last-Event-ID", "").partition("-")
        seen = (
            int(revision)
            if epoch == self._epoch and revision.isdecimal() and len(revision) < 20
            else -1
        )
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        is_first = True
        while True:
            changed, last = work.changed, work.revision
            events: list[tuple[str, Any]] = []
            if work.plan_revision > seen:
                events.append(("plan", {"steps": work.steps()}))
            events += [
                ("section", _section(work, number))
                for number in sorted(work.sections)
                if work.sections[number].revision > seen
            ]
            if is_first or last > seen:  # the first one says that the connection works
                events.append(("book", work.as_dict()))
            is_first = False
            for event, data in events:
                # only the last one moves the client's place: a cut in between repeats the others
                place = f"id: {self._epoch}-{last}\n" if event == "book" else ""
                text = json.dumps(data)
                await response.write(f"{place}event: {event}\ndata: {text}\n\n".encode())
            seen = last
            try:
                async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                    await changed.wait()
            except TimeoutError:
                await response.write(b": alive\n\n")

    async def _formats(self) -> list[str]:
        self._endings = self._endings or await asyncio.to_thread(available_formats)
        return self._endings

    def _work(self, request: web.Request) -> Work:
        """The open book that a request names. Raises LookupError and InputError."""
        name = request.match_info["name"]
        path = self._shelf.path(name)
        if name in self._open:
            self._open[name].refresh()
        else:
            self._open[name] = Work(path, self._engine)
        return self._open[name]


def _section(work: Work, number: int) -> dict[str, Any]:
    section = asdict(work.sections[number])
    del section["revision"]
    return section


async def _body(request: web.Request, model: type[_Body]) -> _Body:
    """The JSON body of a request. Raises InputError that lists every problem."""
    if request.content_type != "application/json":
        raise InputError("Content-Type must be application/json")
    if (request.content_length or 0) > _MAX_BODY:
        raise InputError(f"the request is longer than {_MAX_BODY // 2**20} MB")
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as invalid:
        problems = (
            f"{'.'.join(map(str, fault['loc'])) or 'the body'}: {fault['msg']}"
            for fault in invalid.errors()
        )
        raise InputError("; ".join(problems)) from invalid


def _answering(handler: Handler) -> Handler:
    """The handler, with its errors as answers."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except LookupError as problem:
            return error(404, "not_found", str(problem.args[0]))
        except InputError as problem:
            return error(400, "invalid_request", str(problem), "invalid_request_error")
        except OSError as problem:
            return error(507, "storage", str(problem))

    return answer
