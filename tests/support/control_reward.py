"""A reward that has nothing to do with length: a hash of the completion's text."""

import zlib
from collections.abc import Sequence
from typing import Any


def noise(completions: Sequence[Any], **_: Any) -> list[float]:
    """Return a number from 0 to 1 for each completion."""
    return [zlib.crc32(turns[-1]["content"].encode()) / 2**32 for turns in completions]
