"""The server of `longwriter annotate`: one page, and the choices made on it.

GET  /                            the page
GET  /pairs?person=NAME           {"choices": ["left", "right", "tie" or null, for each pair]}
GET  /pairs/NUMBER?person=NAME    {"instruction", "left", "right"}
POST /choices                     {"person", "pair", "better", "seconds"}; 204 once it is on disk

Nothing that the page gets says which run a response is from.
"""

from collections.abc import Sequence

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longwriter_core.local_server import Access, address, error, guard, listen
from longwriter_core.text.printable import printable
from longwriter_eval.pages import render
from longwriter_eval.people.choices import MAX_NAME, Choices, Pair, Shown


class _Choice(BaseModel):
    """The body of POST /choices."""

    model_config = ConfigDict(strict=True)

    person: str
    pair: int
    better: Shown
    seconds: float | None = Field(default=None, ge=0, lt=1e6)


class AnnotationServer:
    """Serves the page while the `async with` block runs. Raises InputError for a bad address."""

    def __init__(
        self,
        choices: Choices,
        *,
        host: str = "127.0.0.1",
        port: int = 8020,
        allow_hosts: Sequence[str] = (),
        version: str = "",
    ) -> None:
        self.host, self.port = host, port
        self._choices = choices
        values = {"title": "Which text is better?", "version": version, "max_name": MAX_NAME}
        self._page = render("annotate.html", ("elements.js", "annotate.js"), values, is_served=True)
        app = web.Application(client_max_size=2**16)
        guard(app, Access(host, hosts=allow_hosts))
        app.router.add_get("/", self._show)
        app.router.add_get("/pairs", self._list)
        app.router.add_get(r"/pairs/{pair:\d+}", self._send)
        app.router.add_post("/choices", self._choose)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"{address(self.host, self.port)}/"

    async def __aenter__(self) -> "AnnotationServer":
        self.port = await listen(self._runner, self.host, self.port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _show(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html")

    async def _list(self, request: web.Request) -> web.Response:
        person = _person(request.query.get("person"))
        if not person:
            return _no_name()
        choices = [self._choices.shown(person, pair) for pair in self._choices.pairs]
        return web.json_response({"choices": choices})

    async def _send(self, request: web.Request) -> web.Response:
        person = _person(request.query.get("person"))
        pair = self._pair(int(request.match_info["pair"]))
        if not person:
            return _no_name()
        if not pair:
            return error(404, "unknown_pair", "there is no such pair")
        a_is_left = self._choices.left(person, pair) == "a"
        left, right = (pair.a, pair.b) if a_is_left else (pair.b, pair.a)
        return web.json_response({"instruction": pair.instruction, "left": left, "right": right})

    async def _choose(self, request: web.Request) -> web.Response:
        try:
            made = _Choice.model_validate_json(await request.read())
        except ValidationError as invalid:
            first = invalid.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the body"
            return error(400, "invalid_request", f"{where}: {first['msg']}")
        person, pair = _person(made.person), self._pair(made.pair)
        if not person:
            return _no_name()
        if not pair:
            return error(400, "unknown_pair", "there is no such pair")
        try:
            self._choices.choose(person, pair, made.better, made.seconds)
        except OSError as problem:
            path = self._choices.path
            return error(507, "not_saved", f"{path} cannot be written: {problem.strerror}")
        return web.Response(status=204)

    def _pair(self, number: int) -> Pair | None:
        """The pair at a place in the order of the page, from 0."""
        pairs = self._choices.pairs
        return pairs[number] if 0 <= number < len(pairs) else None


def _person(name: object) -> str:
    """A person's name for the file; "" if it is none."""
    return printable(" ".join(name.split()), MAX_NAME) if isinstance(name, str) else ""


def _no_name() -> web.Response:
    return error(400, "no_name", "a choice needs the name of the person who makes it")
