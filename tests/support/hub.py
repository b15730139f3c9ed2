"""Local dataset hubs, with the parts of the HTTP API that streaming and uploading need."""

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

_COMMIT = "a" * 40


class _LocalHub:
    """A server on 127.0.0.1, running while the `with` block runs; HF_ENDPOINT must be `url`."""

    _commands: ClassVar[tuple[str, ...]]  # the HTTP methods that it answers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.command in hub._commands:
                    hub._serve(self)
                else:
                    self.send_error(501)

            do_HEAD = do_POST = do_GET  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError


@dataclass(repr=False, eq=False)
class Hub(_LocalHub):
    """Serves the dataset `name`, made of `files` (path -> bytes)."""

    _commands = ("GET", "HEAD")
    name: str
    files: Mapping[str, bytes]
    fetched: list[str] = field(default_factory=list)  # paths of the files that were read from

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        path, api = urlsplit(request.path).path, f"/api/datasets/{self.name}"
        if path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            _send(request, json.dumps(self._tree(folder)).encode())
        elif path.startswith(api):
            names = [{"rfilename": name} for name in self.files]
            info = {"id": self.name, "sha": _COMMIT, "tags": [], "siblings": names}
            _send(request, json.dumps(info).encode())
        else:
            self._send_file(request, path.partition("/resolve/")[2].partition("/")[2])

    def _tree(self, folder: str) -> list[dict[str, Any]]:
        """All files in a folder; for the root, its files and folders."""
        entries = [
            {"type": "file", "path": name, "size": len(data), "oid": "b" * 40}
            for name, data in self.files.items()
            if name.startswith(f"{folder}/" if folder else "") and ("/" not in name or folder)
        ]
        folders = sorted({name.partition("/")[0] for name in self.files if "/" in name})
        above = [{"type": "directory", "path": name, "oid": "b" * 40} for name in folders]
        return entries if folder else [*entries, *above]

    def _send_file(self, request: BaseHTTPRequestHandler, name: str) -> None:
        data = self.files.get(name)
        if data is None:
            _send(request, b"", 404, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {
            "X-Repo-Commit": _COMMIT,
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "Accept-Ranges": "bytes",
        }
        if request.command == "GET":
            self.fetched.append(name)
        wanted = request.headers.get("Range", "").removeprefix("bytes=")
        if not wanted:
            _send(request, data, 200, headers)
            return
        first, _, last = wanted.partition("-")
        start, end = int(first), min(int(last or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        _send(request, data[start : end + 1], 206, headers)


@dataclass(repr=False, eq=False)
class UploadHub(_LocalHub):
    """Takes one dataset by commit; HF_TOKEN must be `token`."""

    _commands = ("POST",)
    name: str
    token: str = "hf_test"
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if request.headers.get("Authorization") == f"Bearer {self.token}":
            answer, status = self._answer(urlsplit(request.path).path, body), 200
        else:
            answer, status = {"error": "Invalid credentials"}, 401
        headers = {"Content-Type": "application/json"}
        _send(request, json.dumps(answer).encode(), status, headers)

    def _answer(self, path: str, body: bytes) -> dict[str, Any]:
        url = f"{self.url}/datasets/{self.name}"
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": url, "name": self.name, "id": self.name}
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False}
                              for name in names]}  # fmt: skip
        if path == "/api/validate-yaml":  # the head of the card
            return {"errors": [], "warnings": []}
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
                self.files[entry["value"]["path"]] = content
        return {"success": True, "commitUrl": f"{url}/commit/{_COMMIT}", "commitOid": _COMMIT}


def _send(
    request: BaseHTTPRequestHandler,
    data: bytes,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> None:
    request.send_response(status)
    for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)
