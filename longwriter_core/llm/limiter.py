"""The rate limiter of one endpoint, shared by all calls to it."""

import asyncio
import logging
import math
import random
import time
from collections import deque
from weakref import WeakKeyDictionary

_log = logging.getLogger(__name__)

# Successes that restore a slot lost to a 429. The concurrency falls only while more than one call
# in twenty is refused, so occasional refusals do not lower it.
_SUCCESSES_PER_SLOT = 20
_LOGGED_PAUSE = 5.0  # seconds; shorter pauses are not worth a line in the log
_MAX_JITTER = 5.0  # seconds
# By event loop, because a call can only wait in its own.
_LIMITERS: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], RateLimiter]]" = (
    WeakKeyDictionary()
)


class RateLimiter:
    """Limits the calls in flight to what the endpoint accepts, and pauses them on Retry-After.

    All clients of one account at one URL share a limiter, such as the judges of a panel, because
    they share the account's limit. There is no limit until the first 429. Every 429 takes one slot,
    down to half of the calls that were in flight when the first of them arrived, because refusals
    of requests that were already sent give no new information. Every success returns a fraction of
    a slot.
    """

    def __init__(self, name: str) -> None:
        self._name = name  # for the log
        self.limit = math.inf  # calls in flight
        self.paused_until = 0.0  # on the monotonic clock
        self._floor, self._round_began = 1.0, 0.0
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @classmethod
    def shared(cls, url: str, account: str) -> "RateLimiter":
        """The limiter of the running event loop for an account at a URL."""
        limiters = _LIMITERS.setdefault(asyncio.get_running_loop(), {})
        return limiters.setdefault((url, account), cls(url))

    @property
    def pause_left(self) -> float:
        """Seconds until calls are sent again; 0 or less without a pause."""
        return self.paused_until - time.monotonic()

    async def acquire(self) -> float:
        """Wait for a slot and the end of any pause; return the time to pass to `refused`.

        Every `acquire` needs a `release`.
        """
        while True:
            if (pause := self.pause_left) > 0:
                # jitter, because resuming all calls at the same moment would cause the next 429
                await asyncio.sleep(pause + random.uniform(0, min(pause / 4, _MAX_JITTER)))
            elif self._in_flight < self.limit:
                self._in_flight += 1
                return time.monotonic()
            else:
                await self._wait()

    def release(self) -> None:
        """Free the slot of a call that has ended."""
        self._in_flight -= 1
        self._wake()

    def succeeded(self) -> None:
        """Raise the limit a little."""
        if self.limit < math.inf:
            self.limit += 1 / _SUCCESSES_PER_SLOT + 1 / self.limit

    def refused(self, sent_at: float) -> None:
        """Lower the limit: a request sent at `sent_at` got a 429."""
        if sent_at >= self._round_began:
            self.limit = min(self.limit, self._in_flight)
            self._floor, self._round_began = max(1.0, self.limit / 2), time.monotonic()
        self.limit = max(self._floor, self.limit - 1)

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds`, as the endpoint requested."""
        until = time.monotonic() + seconds
        if until > self.paused_until + _LOGGED_PAUSE and seconds > _LOGGED_PAUSE:
            _log.warning("%s asks to wait for %s: no call until then", self._name, _shown(seconds))
        self.paused_until = max(self.paused_until, until)

    async def _wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._wake()  # this task was to get the slot, so wake the next one instead
            raise

    def _wake(self) -> None:
        free = self.limit - self._in_flight
        while free >= 1 and self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                free -= 1


def _shown(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
