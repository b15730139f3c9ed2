"""The store of finished calls on disk, and the keys that it uses."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.files import cache_dir, sha256, write_atomically
from longwriter_core.llm.client import Reply

_log = logging.getLogger(__name__)


def call_key(**parts: Any) -> str:
    """The store's key for what was asked: a SHA-256 over its parts."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True))


class Store:
    """Finished calls, one small file each, below `folder`.

    Files, not a database: they are written whole or not at all, several processes may share them,
    they work on network file systems, and one bad file spoils one call.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_dir() / "calls"
        # what to do where it cannot be written
        self.advice = "free space there" if folder else "free space there, or set LONGWRITER_CACHE"

    def check(self) -> None:
        """Raise InputError unless calls can be written and read here."""
        probe = self.folder / ".probe"
        try:
            write_atomically(probe, b"")
            probe.read_bytes()
        except OSError as error:
            raise InputError(
                f"cannot keep finished calls in {self.folder} ({error.strerror}): free or repair "
                "it, or set LONGWRITER_CACHE to a folder that can be written"
            ) from error

    def get(self, key: str) -> Reply | None:
        """The reply kept under `key`, or None. A file that cannot be read counts as none."""
        path = self._path(key)
        try:
            kept = json.loads(path.read_bytes())
            reply = Reply(**{name: kept[name] for name in Reply.__dataclass_fields__})
            if not isinstance(reply.text, str) or not isinstance(reply.refusal, str | None):
                raise TypeError("not a reply")
            return reply
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            _log.warning("cannot read %s (%s): the call is made again", path, error)
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep `reply` under `key`. Raises OSError, as when the disk is full."""
        kept = {**vars(reply), "stored": True}
        write_atomically(self._path(key), json.dumps(kept).encode())

    async def fetch(self, key: str) -> Reply | None:
        """As `get`: a small file is read before another task would have begun."""
        return self.get(key)

    async def keep(self, key: str, reply: Reply) -> None:
        """As `put`, while other calls go on, and to its end even where this is cancelled."""
        # Not to_thread: its task, and so what waits for a thread, is cancelled by Ctrl-C. What is
        # in the executor is written before the loop closes.
        writing = asyncio.get_running_loop().run_in_executor(None, self.put, key, reply)
        await asyncio.shield(writing)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
