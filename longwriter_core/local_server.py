"""Servers for the user's own machine: their address, and who may use them.

A local server is in reach of every web page that its user opens. A page can send requests to
127.0.0.1, or let its own name point there (DNS rebinding). So the Host must be a name of this
server, and the Origin, which browsers send, must be the server's own or one that was allowed.
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from longwriter_core.errors import InputError

LOCAL_NAMES = ("127.0.0.1", "::1", "localhost")
_ALLOWED_METHODS = "GET, POST, OPTIONS"
OPEN_PATHS = ("/health",)  # a monitor has no key
_PREFLIGHT_SECONDS = "600"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Access:
    """`hosts` are names beside the local ones; `origins` may be "*"; without `key`, none is asked.

    `public` are paths that need no key, such as a page that asks for it.
    """

    host: str
    key: str = ""
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    public: Sequence[str] = OPEN_PATHS

    def refusal(self, request: web.Request) -> web.Response | None:
        """Why a request may not be answered; None for one that may."""
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if not self._is_own_name(host):
            return error(
                403, "unknown_host",
                f"this server is not known as {host!r}: start it with --allow-host "
                f"{_name_in(host) or 'NAME'}",
            )  # fmt: skip
        if origin is not None and not self._is_allowed(origin, request):
            return error(
                403, "unknown_origin",
                f"pages from {origin} may not use this server: start it with --allow-origin "
                f"{origin}",
            )  # fmt: skip
        if request.method == "OPTIONS" or request.path in self.public:
            return None
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.key and not hmac.compare_digest(
            sent.encode(errors="surrogateescape"), self.key.encode()
        ):
            return error(401, "invalid_api_key", "wrong key")
        return None

    def cors(self, request: web.Request) -> dict[str, str]:
        """The headers with which a page of an allowed origin may read the answer."""
        origin = request.headers.get("Origin")
        if not origin or not origin.isprintable() or not {origin, "*"} & set(self.origins):
            return {}
        wanted = request.headers.get("Access-Control-Request-Headers", "")
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": _ALLOWED_METHODS,
            "Access-Control-Allow-Headers": (
                wanted if wanted and wanted.isprintable() else "Authorization, Content-Type"
            ),
            "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
            "Vary": "Origin",
        }

    def _is_own_name(self, host: str) -> bool:
        name = _name_in(host)
        names = {*LOCAL_NAMES, self.host, *self.hosts}
        return bool(name) and ("*" in self.hosts or name in {allowed.lower() for allowed in names})

    def _is_allowed(self, origin: str, request: web.Request) -> bool:
        if {origin, "*"} & set(self.origins):
            return True
        try:
            parts = urlsplit(origin if origin.isprintable() else "")
        except ValueError:  # such as "http://[x"
            return False
        # behind a proxy that ends TLS, the page's scheme is https and this server's is http
        return parts.scheme in ("http", "https") and parts.netloc == request.headers.get("Host")


def guard(app: web.Application, access: Access) -> None:
    """Check every request before its handler, and add the CORS headers to every answer."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if refusal := access.refusal(request):
            return refusal
        if request.method == "OPTIONS" and access.cors(request):
            return web.Response(status=204)
        return await handler(request)

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(access.cors(request))

    app.middlewares.append(check)
    app.on_response_prepare.append(add_headers)


async def listen(runner: web.AppRunner, host: str, port: int) -> int:
    """Start a server; returns its port. Raises InputError if the address cannot be used."""
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, OverflowError) as problem:
        await runner.cleanup()
        raise InputError(
            f"cannot listen on {host}:{port} ({problem}): choose another --port"
        ) from problem
    listening: int = runner.addresses[0][1]
    return listening


def address(host: str, port: int) -> str:
    """The address of a server, without a slash at its end."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def error_body(code: str, message: str, type: str = "") -> dict[str, object]:
    """An error in the form of OpenAI's API."""
    return {"error": {"message": message, "type": type or code, "param": None, "code": code}}


def error(status: int, code: str, message: str, type: str = "") -> web.Response:
    """The response for an error."""
    return web.json_response(error_body(code, message, type), status=status)


def _name_in(host: str) -> str:
    """The name in a Host header, without its port, in lower case; "" if it is no host name."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if host.isprintable() else ""
    except ValueError:
        return ""
