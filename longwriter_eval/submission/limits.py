"""Limits on the processor time and memory that a submission may use.

A file of a few hundred kilobytes can describe work for hours: deeply nested replies, or a response
of millions of words that compresses to almost nothing. All work on a submission from others
therefore runs inside `limited`.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from longwriter_core.errors import InputError

# Verifying 120 responses of 10,000 words takes about 4 seconds and 150 MiB. The allowance for each
# megabyte of the file leaves room for slower machines and longer responses.
_SECONDS, _SECONDS_PER_MB = 7.0, 4.0
_MEMORY, _MEMORY_PER_MB = 320 << 20, 64 << 20
_FREE_MB = 2  # smaller files get no extra allowance
_REPEAT = 0.5  # seconds between signals after the first


class _TookTooLongError(BaseException):
    """Raised by the timer. Not an Exception, so that no handler below mistakes it for bad input."""


@contextlib.contextmanager
def limited(path: Path) -> Iterator[None]:
    """Raise InputError if the block uses more processor time or memory than a file may need.

    Needs a Unix system and the main thread; elsewhere there is no limit. Memory is limited where
    the system limits address space, as Linux does.
    """
    size = max(0.0, (path.stat().st_size if path.is_file() else 0) / 1e6 - _FREE_MB)
    try:
        with (
            _time_limit(_SECONDS + size * _SECONDS_PER_MB),
            _memory_limit(_MEMORY + int(size * _MEMORY_PER_MB)),
        ):
            yield
    except _TookTooLongError as error:
        raise InputError(f"{path}: refused: took too long") from error
    except MemoryError as error:
        raise InputError(f"{path}: refused: needs too much memory") from error


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _TookTooLongError once this process has used so many seconds of processor time."""
    if not hasattr(signal, "setitimer") or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise _TookTooLongError

    before = signal.signal(signal.SIGPROF, expire)
    # repeated, because an exception inside a finalizer or callback is lost
    signal.setitimer(signal.ITIMER_PROF, seconds, _REPEAT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _memory_limit(extra: int) -> Iterator[None]:
    """Raise MemoryError once this process needs `extra` bytes more than it uses now."""
    if sys.platform != "linux":
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    allowed = pages * resource.getpagesize() + extra
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
