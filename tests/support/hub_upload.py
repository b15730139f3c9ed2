"""A local stand-in for the dataset hub's API for uploads."""

import base64
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(repr=False, eq=False)
class UploadHub:
    """Takes one dataset by commit; HF_ENDPOINT must be `url`, HF_TOKEN must be `token`."""

    name: str
    token: str = "hf_test"
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Authorization") != f"Bearer {hub.token}":
                    hub._send(self, {"error": "Invalid credentials"}, 401)
                else:
                    hub._send(self, hub._answer(urlsplit(self.path).path, body))

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
        return {"success": True, "commitUrl": f"{url}/commit/{'a' * 40}", "commitOid": "a" * 40}

    def _send(self, request: BaseHTTPRequestHandler, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)
