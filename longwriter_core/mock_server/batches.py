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

EXPIRED = "batch_expired"
MAX_ROWS, MAX_BYTES = 50_000, 200_000_000
_FILES = {True: "output.jsonl", False: "errors.jsonl"}  # by whether the call succeeded


@dataclass
class Batches:
    """All uploaded files and all batches.

    A batch is answered when it is created, and reports that it is in progress for `seconds`. It
    expires if the reply to one of its lines has the fault "expired": that line is not answered. It
    fails if its file breaks a rule of the API, or has more than `max_tokens` tokens.
    """

    answer: Callable[[MockRequest], MockReply]  # the reply to one chat call
    seconds: float
    max_tokens: int | None = None  # prompt tokens that the account may queue
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
                    self.batches[id]["end"] = "cancelled"
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
        problem = self._broken_rule(lines)
        outputs = self._answered(lines) if not problem else {}
        rows = {ended: [row for row in outputs.values() if row[0] is ended] for ended in _FILES}
        ids = {
            ended: self._add_file(
                name, b"".join(json.dumps(row).encode() + b"\n" for _, row in rows[ended]),
                "batch_output",
            )["id"]
            for ended, name in _FILES.items()
            if rows[ended]
        }  # fmt: skip
        has_expired = any((row["error"] or {}).get("code") == EXPIRED for _, row in rows[False])
        batch = {
            "id": f"batch_{uuid4().hex}",
            "object": "batch",
            "endpoint": CHAT_PATH,
            "errors": {"object": "list", "data": [problem]} if problem else None,
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "status": "in_progress",
            "end": "failed" if problem else "expired" if has_expired else "completed",
            "created_at": int(time.time()),
            "completed_at": time.time() + self.seconds,
            "output_file_id": ids.get(True),
            "error_file_id": ids.get(False),
            "request_counts": {
                "total": len(outputs), "completed": len(rows[True]), "failed": len(rows[False]),
            },
            "metadata": body.get("metadata"),
        }  # fmt: skip
        self.batches[batch["id"]] = batch
        return MockReply(body=self._now(batch["id"]))

    def _broken_rule(self, lines: list[bytes]) -> Json | None:
        """Why the API would not accept a file of requests."""
        ids: set[str] = set()
        models: set[str] = set()
        tokens = 0
        for number, line in enumerate(lines, 1):
            row = json.loads(line)
            if row.get("method") != "POST" or row.get("url") != CHAT_PATH:
                return _broken_rule("invalid_url", "The URL does not match the batch's.", number)
            if not 0 < len(row["custom_id"]) <= 64 or row["custom_id"] in ids:
                return _broken_rule("duplicate_custom_id", "The custom_id is not unique.", number)
            ids.add(row["custom_id"])
            models.add(row["body"]["model"])
            tokens += len(line) // 4
        if not lines or len(lines) > MAX_ROWS:
            return _broken_rule("invalid_file", f"The file has {len(lines)} requests.")
        if sum(map(len, lines)) + len(lines) > MAX_BYTES:
            return _broken_rule("invalid_file", "The file is too large.")
        if len(models) > 1:
            return _broken_rule("mismatched_model", "The requests are for several models.")
        if self.max_tokens is not None and tokens > self.max_tokens:
            message = f"Enqueued token limit reached. Limit: {self.max_tokens} enqueued tokens."
            return _broken_rule("token_limit_exceeded", message)
        return None

    def _answered(self, lines: list[bytes]) -> dict[str, tuple[bool, Json]]:
        """The custom_id of each line -> whether its call succeeded, and its line of output."""
        outputs: dict[str, tuple[bool, Json]] = {}
        for line in lines:
            row = json.loads(line)
            reply = self.answer(MockRequest("POST", CHAT_PATH, {}, row["body"]))
            status = 500 if reply.fault in ("reset", "hang") else reply.status
            output: Json = {"id": uuid4().hex, "custom_id": row["custom_id"], "error": None}
            if reply.fault == "expired":
                message = "This request could not be executed before the completion window expired."
                output |= {"response": None, "error": {"code": EXPIRED, "message": message}}
                outputs[row["custom_id"]] = False, output
                continue
            output["response"] = {
                "status_code": status, "request_id": uuid4().hex, "body": reply.body
            }  # fmt: skip
            outputs[row["custom_id"]] = status == 200, output
        return outputs

    def _now(self, id: str) -> Json:
        """The current state of a batch."""
        batch = dict(self.batches[id])
        end = batch.pop("end")
        if end != "cancelled" and time.time() >= batch["completed_at"]:
            return {**batch, "status": end, "completed_at": int(batch["completed_at"])}
        counts = {"total": batch["request_counts"]["total"], "completed": 0, "failed": 0}
        hidden: dict[str, Any] = dict.fromkeys(("completed_at", "output_file_id", "error_file_id"))
        status = "cancelled" if end == "cancelled" else "in_progress"
        return {**batch, **hidden, "status": status, "request_counts": counts}


def _broken_rule(code: str, message: str, line: int | None = None) -> Json:
    return {"code": code, "message": message, "line": line, "param": None}


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
