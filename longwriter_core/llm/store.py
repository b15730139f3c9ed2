"""The store of finished calls on disk, and its keys.

A key consists of the protocol (the use of the reply), the model, the prompt and an optional scope.
It never includes an endpoint's address, so a run that resumes with another port, another spelling
of the URL or an additional server does not pay for a call twice.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from longwriter_core.errors import InputError
from longwriter_core.files import cache_dir, sha256, write_atomically
from longwriter_core.llm.client import Reply

_log = logging.getLogger(__name__)


_PROBE_SIZE = 2**20  # bytes, a few hundred replies

_FIELDS = tuple(Reply.__dataclass_fields__)


class CallKey(str):
    """A key that knows what it was made of, so that the store can list its calls."""

    protocol = ""  # the use of the reply
    model = ""  # the requested model


def call_key(**parts: Any) -> CallKey:
    """The store's key for a call: a SHA-256 over the call's parts.

    The first part names the protocol. Its value is the model, or the request.
    """
    key = CallKey(sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True)))
    key.protocol, value = next(iter(parts.items()), ("", ""))
    model = value.get("model", "") if isinstance(value, Mapping) else value
    key.model = model if isinstance(model, str) else ""
    return key


@dataclass(frozen=True)
class CallId:
    """Identifies a call whose reply may need several attempts.

    `parts` are the protocol, the model, the prompt and an optional scope. `legacy` are the parts of
    the key that release 0.1.0 used for the same call, which included the endpoint's address.
    """

    parts: Mapping[str, Any]
    legacy: Mapping[str, Any] = field(default_factory=dict)

    def keys(self, attempt: int) -> tuple[CallKey, ...]:
        """The store's keys for an attempt, from 1: the current one, then that of release 0.1.0."""
        key = call_key(**self.parts, ask=attempt)
        if not self.legacy:
            return (key,)
        return key, call_key(**{**self.parts, **self.legacy}, ask=attempt)


@dataclass(frozen=True)
class StoredCall:
    """A file of the store. Calls stored by earlier releases have no protocol."""

    path: Path
    protocol: str
    model: str
    size: int  # bytes
    time: float  # when it was stored, in Unix seconds


class Store:
    """Finished calls, in one small file per call below `folder`.

    Files are used instead of a database because they can be written atomically, several processes
    can share them, they work on network file systems, and a damaged file affects one call only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_dir() / "calls"
        # advice for the error if the folder cannot be written
        self.advice = "free space there" if folder else "free space there, or set LONGWRITER_CACHE"

    def check(self) -> None:
        """Raise InputError unless calls can be written and read here."""
        probe = self.folder / f".probe-{uuid4().hex}"  # other processes may check, too
        try:
            write_atomically(probe, bytes(_PROBE_SIZE))  # an empty file fits on a full disk
            probe.read_bytes()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot keep finished calls in {self.folder} ({error.strerror}): free or repair "
                "it, or set LONGWRITER_CACHE to a folder that can be written"
            ) from error

    def get(self, *keys: str) -> Reply | None:
        """The reply under the first of `keys` that has one, or None.

        A file that cannot be read counts as missing.
        """
        for key in keys:
            path = self._path(key)
            try:
                fields = json.loads(path.read_bytes())
                # release 0.1.0 wrote fewer fields
                reply = Reply(**{name: fields[name] for name in _FIELDS if name in fields})
                if not isinstance(reply.text, str) or not isinstance(reply.refusal, str | None):
                    raise TypeError("not a reply")
                return reply
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                _log.warning("cannot read %s (%s): the call is made again", path, error)
        return None

    def replies(self, call: CallId) -> Iterator[Reply]:
        """The stored replies to a call, in the order of its attempts."""
        attempt = 1
        while reply := self.get(*call.keys(attempt)):
            yield reply
            attempt += 1

    def put(self, key: str, reply: Reply) -> None:
        """Write `reply` under `key`. Raises OSError, for example if the disk is full.

        The file is not synced to disk, which would take four times as long: a reply that a power
        cut loses is asked for again.
        """
        fields = {**vars(reply), "stored": True}
        if isinstance(key, CallKey):
            fields |= {"protocol": key.protocol, "asked_model": key.model}
        write_atomically(self._path(key), json.dumps(fields).encode(), sync=False)

    async def fetch(self, *keys: str) -> Reply | None:
        """Like `get`. Blocks, because a small file is read faster than a thread is started."""
        return self.get(*keys)

    async def save(self, key: str, reply: Reply) -> None:
        """Like `put`. Blocks for the same reason."""
        self.put(key, reply)

    def calls(self) -> Iterator["StoredCall"]:
        """Every stored call, in any order. Files that cannot be read are listed without a model."""
        for path in self.folder.glob("??/*.json"):
            try:
                fields, status = json.loads(path.read_bytes()), path.stat()
            except FileNotFoundError:
                continue  # deleted meanwhile
            except (OSError, ValueError, RecursionError):
                fields, status = {}, path.stat()
            fields = fields if isinstance(fields, dict) else {}
            model = fields.get("asked_model") or fields.get("model") or ""
            yield StoredCall(
                path, str(fields.get("protocol", "")), str(model), status.st_size, status.st_mtime
            )

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
