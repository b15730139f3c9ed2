"""The time that the rest of a text takes, estimated from the sections written so far. Pure."""

import time
from collections.abc import Callable


class Pace:
    """Words per second of the sections that were really written.

    Sections that come from the store take no time and say nothing about the rest.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._since = clock, clock()
        self._words, self._seconds = 0, 0.0

    def start(self) -> None:
        """The next section begins now."""
        self._since = self._clock()

    def add(self, words: int, *, is_stored: bool) -> None:
        """A section has ended."""
        if not is_stored:
            self._words += words
            self._seconds += self._clock() - self._since
        self.start()

    def seconds_left(self, words: int) -> float | None:
        """Seconds that `words` more words take; None until a section was written."""
        return max(0, words) * self._seconds / self._words if self._words else None


def duration(seconds: float | None) -> str:
    """A rough time for people: 40 s, 12 min, 3.5 h; "?" for None."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
