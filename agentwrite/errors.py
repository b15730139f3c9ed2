"""Why a text was not written."""

from functools import partial
from typing import Any


class WriteError(Exception):
    """A text that was not written: the reason, and the step that failed.

    Finished calls are in the store: a rerun pays only for what is missing.
    `is_fatal` says that every further text would fail for the same reason, for example a wrong key.
    """

    def __init__(self, reason: str, detail: str, place: str, *, is_fatal: bool = False) -> None:
        super().__init__(f"{place}: {reason} ({detail})" if detail else f"{place}: {reason}")
        self.reason, self.detail, self.place, self.is_fatal = reason, detail, place, is_fatal

    def __reduce__(self) -> tuple[Any, ...]:
        """How it is pickled."""
        return partial(WriteError, is_fatal=self.is_fatal), (self.reason, self.detail, self.place)
