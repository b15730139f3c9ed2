"""The files and batches of OpenAI's API: upload requests as JSONL, fetch the replies later."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import web

from longwriter_core.mock_server.messages import (
    CHAT_PATH,
    Json,
    MockReply,
    MockRequest,
    error_reply,
)


@dataclass
class Batches:
    """All uploaded files and all batches.

    A batch is answered when it is created, and reports that it is in progress for `seconds`.
    """

    answer: Callable[[MockRequest], MockReply]  # the reply to one chat call
    seconds: float
    files: dict[str, tuple[Json, bytes]] = field(default_factory=dict)  # description, content
    batches: dict[str, Json] = field(default_factory=dict)

    async def handle(self, http: web.BaseRequest, request: MockRequest) -> MockReply | None:
        """The reply to a request about files or batches; None for any other request."""
        match [http.method, *http.path.removeprefix("/v1/").split("/")]:
            case ["POST", "files"]:
                form = await http.post()
                upload = form.get("file")
                if not isinstance(upload, web.FileField):
                    return error_reply(400, "invalid_request", "`file` is missing.", "file")
                name, content = upload.filename, upload.file.read()
                return MockReply(body=self._add_file(name, content, str(form.get("purpose"))))
            case ["GET", "files"]:
                return _page([about for about, _ in self.files.values()], http)
            case ["GET", "files", id] if id in self.files:
                return MockReply(body=self.files[id][0])
            case ["GET", "files", id, "content"] if id in self.files:
                return MockReply(body=self.files[id][1])
            case ["DELETE", "files", id] if id in self.files:
                del self.files[id]
                return MockReply(body={"id": id, "object": "file", "deleted": True})
            case ["POST", "batches"]:
                return self._create(request.body)
            case ["GET", "batches"]:
                newest_first = [self._now(id) for id in reversed(self.batches)]
                return _page(newest_first, http)
            case ["GET", "batches", id] if id in self.batches:
                return MockReply(body=self._now(id))
            case ["POST", "batches", id, "cancel"] if id in self.batches:
                if self._now(id)["status"] == "in_progress":
                    self.batches[id]["status"] = "cancelled"
                return MockReply(body=self._now(id))
        return None

    def _add_file(self, name: str, content: bytes, purpose: str) -> Json:
        about: Json = {
            "id": f"file-{uuid4().hex}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self.files[about["id"]] = about, content
        return about

    def _create(self, body: Json) -> MockReply:
        """A new batch, with the replies to all its lines."""
        if body.get("input_file_id") not in self.files:
            return error_reply(400, "invalid_request", "No such file.", "input_file_id")
        if body.get("endpoint") != CHAT_PATH:
            return error_reply(400, "invalid_request", "Unsupported endpoint.", "endpoint")
        if body.get("completion_window") != "24h":
            return error_reply(400, "invalid_request", "It must be 24h.", "completion_window")
        lines = self.files[body["input_file_id"]][1].splitlines()
        outputs: dict[bool, list[str]] = {True: [], False: []}  # by whether the call succeeded
        for line in lines:
            row = json.loads(line)
            reply = self.answer(MockRequest("POST", CHAT_PATH, {}, row["body"]))
            is_lost = reply.fault in ("reset", "hang")
            status = 500 if is_lost else reply.status
            response = {
                "status_code": status, "request_id": uuid4().hex, "body": reply.body
            }  # fmt: skip
            output = {
                "id": uuid4().hex, "custom_id": row["custom_id"], "response": response,
                "error": None,
            }  # fmt: skip
            outputs[status == 200].append(json.dumps(output, ensure_ascii=False))
        names = {True: "output.jsonl", False: "errors.jsonl"}
        ids = {
            fine: self._add_file(names[fine], "\n".join(rows).encode() + b"\n", "batch_output")[
                "id"
            ]
            for fine, rows in outputs.items()
            if rows
        }
        batch = {
            "id": f"batch_{uuid4().hex}",
            "object": "batch",
            "endpoint": CHAT_PATH,
            "errors": None,
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "status": "in_progress",
            "created_at": int(time.time()),
            "completed_at": time.time() + self.seconds,
            "output_file_id": ids.get(True),
            "error_file_id": ids.get(False),
            "request_counts": {
                "total": len(lines), "completed": len(outputs[True]),
                "failed": len(outputs[False]),
            },
            "metadata": body.get("metadata"),
        }  # fmt: skip
        self.batches[batch["id"]] = batch
        return MockReply(body=self._now(batch["id"]))

    def _now(self, id: str) -> Json:
        """The current state of a batch."""
        batch = self.batches[id]
        if batch["status"] == "cancelled" or time.time() < batch["completed_at"]:
            counts = {"total": batch["request_counts"]["total"], "completed": 0, "failed": 0}
            hidden: dict[str, Any] = dict.fromkeys(
                ("completed_at", "output_file_id", "error_file_id")
            )
            return {**batch, **hidden, "request_counts": counts}
        return {**batch, "status": "completed", "completed_at": int(batch["completed_at"])}


def _page(rows: list[Json], http: web.BaseRequest) -> MockReply:
    """Up to `limit` rows after the one named by the query's `after`."""
    ids = [row["id"] for row in rows]
    after, limit = http.query.get("after"), int(http.query.get("limit", 20))
    start = ids.index(after) + 1 if after in ids else 0
    page = rows[start : start + limit]
    body = {
        "object": "list", "data": page, "has_more": len(rows) > start + limit,
        "first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None,
    }  # fmt: skip
    return MockReply(body=body)
