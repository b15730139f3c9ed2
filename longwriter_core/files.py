"""Hashing, atomic writes, and the cache folder."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4


def cache_dir() -> Path:
    """The user's cache folder for this project: LONGWRITER_CACHE, or a folder in XDG_CACHE_HOME."""
    if chosen := os.environ.get("LONGWRITER_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "longwriter"


def sha256(data: bytes | str) -> str:
    """Hexadecimal SHA-256 of bytes, or of a text in UTF-8."""
    # surrogatepass: models emit lone surrogates, and a hash must not fail on them
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return hashlib.sha256(raw).hexdigest()


def write_atomically(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write `data` to `path`: completely or not at all, even if the process is killed.

    With `sync`, a power cut does not lose the file either. Raises OSError, for example if the disk
    is full, and then leaves no file behind.
    """
    with open_atomically(path, sync=sync) as file:
        file.write(data)


@contextmanager
def open_atomically(path: Path, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """A file to write that appears at `path` when the block ends without an error."""
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
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock on `path` in the `with` block, against other processes on this machine.

    If another process holds the lock, waits for it with `wait`, and raises BlockingIOError
    otherwise. Yields whether it has waited; Ctrl-C ends the waiting, without a lock. If the lock
    file cannot be written, for example in a read-only folder, the block runs without a lock.
    """
    import fcntl

    with contextlib.ExitStack() as stack:
        has_waited = False
        try:
            lock = stack.enter_context(path.open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            has_waited = True
            with contextlib.suppress(KeyboardInterrupt, OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass
        yield has_waited
