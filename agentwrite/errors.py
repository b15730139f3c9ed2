"""Why a text was not written."""

from functools import partial
from typing import Any


class WriteError(Exception):
    """A text that was not written, with the reason and the place where it ended.

    Finished calls are in the store: writing the same text again pays only for what is missing.
    `is_fatal` says that every further text would end alike, as with a wrong key.
    """

    def __init__(self, reason: str, detail: str, place: str, *, is_fatal: bool = False) -> None:
        super().__init__(f"{place}: {reason} ({detail})" if detail else f"{place}: {reason}")
        self.reason, self.detail, self.place, self.is_fatal = reason, detail, place, is_fatal

    def __reduce__(self) -> tuple[Any, ...]:
        """How it goes from one process to another."""
        return partial(WriteError, is_fatal=self.is_fatal), (self.reason, self.detail, self.place)
