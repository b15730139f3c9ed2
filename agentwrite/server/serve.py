"""The server of `agentwrite serve`: an OpenAI-compatible endpoint that plans and writes.

Any chat client can use it, for example lm_eval, which then measures AgentWrite with a model as the
paper does (arXiv 2408.07055, table 2).
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from agentwrite.engine import Engine
from agentwrite.server.chat import ChatApi
from agentwrite.settings import Settings
from agentwrite.studio.api import Studio
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.writer import MAX_TEXT_WORDS
from longwriter_core.errors import InputError
from longwriter_core.llm import ChatPool, Store
from longwriter_core.local_server import OPEN_PATHS, Access, address, guard, listen

PLAN_FROM = 2_000  # words; section 3.1 of the paper
MAX_WORDS = 50_000  # words of a text; the default of --max-words
_MAX_REQUEST_BYTES = 64 * 2**20  # bytes
_SHUTDOWN_SECONDS = 0.2  # that open streams get; with 0, aiohttp waits for ever


class Server:
    """Serves /v1/chat/completions, /v1/models, /health and the studio at /.

    Use as `async with Server(...)`.

    plan_from      requests for at least this many words are planned and written
    max_words      requests for more words are refused
    key            API key that clients must send; "" for none
    allow_hosts    host names of the server, in addition to the local ones
    allow_origins  origins of web pages that may use the server from a browser (CORS)
    books          folder of the studio's books; without it, there is no studio

    Raises InputError if the address cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        host: str = "127.0.0.1",
        port: int = 8010,
        plan_from: int = PLAN_FROM,
        max_words: int = MAX_WORDS,
        key: str = "",
        allow_hosts: Sequence[str] = (),
        allow_origins: Sequence[str] = (),
        books: Path | None = None,
        log: Callable[[str], None] = lambda _line: None,
    ) -> None:
        if "*" in allow_origins and not key:
            raise InputError("--allow-origin '*' lets any web page write at your cost: set a key")
        self.host, self.port = host, port
        store = Store()
        store.check()
        self._pool: ChatPool = settings.chat(store)
        slots = asyncio.Semaphore(settings.concurrency)
        max_words = min(max_words, MAX_TEXT_WORDS)
        prompts = Prompts.load(settings.prompts)
        engine = Engine(settings, self._pool, slots, prompts, max_words, log)
        self._chat = ChatApi(engine, plan_from=plan_from)
        self._studio = Studio(books, engine) if books else None
        self.model = self._chat.model
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        public = (*OPEN_PATHS, *(Studio.public_paths() if books else ()))
        guard(app, Access(host, key, allow_hosts, allow_origins, public))
        app.router.add_get("/health", _health)
        self._chat.add_routes(app.router)
        if self._studio:
            self._studio.add_routes(app.router)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS
        )

    @property
    def base_url(self) -> str:
        """The base URL for clients."""
        return f"{self.url}/v1"

    @property
    def url(self) -> str:
        """The address of the studio's page."""
        return address(self.host, self.port)

    async def __aenter__(self) -> "Server":
        await self._pool.__aenter__()
        try:
            self.port = await listen(self._runner, self.host, self.port)
        except InputError:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._chat.close()
        if self._studio:
            await self._studio.close()
        await self._runner.cleanup()
        await self._pool.__aexit__()


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})
