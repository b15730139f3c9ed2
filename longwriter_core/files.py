"""Hashing, atomic writes, and the cache folder."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4


def cache_dir() -> Path:
    """The user's cache folder for this package: LONGWRITER_CACHE, else below XDG_CACHE_HOME."""
    if chosen := os.environ.get("LONGWRITER_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "longwriter"


def sha256(data: bytes | str) -> str:
    """Hexadecimal SHA-256 of bytes, or of a text's UTF-8."""
    # surrogatepass: a model may emit half a surrogate pair, and a hash must not fail on it
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return hashlib.sha256(raw).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` on disk under `path` whole or not at all, whatever kills the process.

    Raises OSError, as when the disk is full; then nothing is left behind.
    """
    with open_atomically(path) as file:
        file.write(data)


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which stands under `path` once the block has ended without an error."""
    temporary = path.with_name(f".writing-{uuid4().hex}")
    try:
        try:
            opened = temporary.open("xb")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = temporary.open("xb")
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
