"""Rows in a seeded order, of any number: on disk they wait, in memory is only where.

Sampling and shuffling are one thing: every row draws a lot from the seed and its own key. The
lowest lots are the sample, and the lots' order is the order. So both depend on the seed and the
rows alone, not on the order in which the rows were read, and the same row twice counts once.
"""

import hashlib
import heapq
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from longwriter_core.jsonl import jsonl_line


class Sample:
    """At most `most` of the rows that are added; None takes all. Use as a context.

    The rows wait in a nameless file in `folder`, which a kill leaves nothing of.
    """

    def __init__(self, folder: Path, seed: int, most: int | None = None) -> None:
        self.most = most
        self.added = 0  # different rows offered, in or out of the sample
        self._seed = seed
        self._folder = folder
        self._lots: list[tuple[int, int]] = []  # a heap: lot, negated, and place in the file
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._lots)

    def add(self, key: str, row: Mapping[str, Any]) -> bool:
        """Offer a row; False where its key was there before. Raises OSError, as of a full disk."""
        lot = self._lot(key)
        if lot in self._seen:
            return False
        self._seen.add(lot)
        self.added += 1
        if self.most is not None and len(self) >= self.most:
            if not self._lots or lot >= -self._lots[0][0]:
                return True
            heapq.heappop(self._lots)
        heapq.heappush(self._lots, (-lot, self._file.seek(0, 2)))
        self._file.write(jsonl_line(row))
        return True

    def places(self) -> list[tuple[int, int]]:
        """Lot and place in the file of each row, in the order of the lots."""
        return sorted((-lot, place) for lot, place in self._lots)

    def line(self, place: int) -> bytes:
        """The row at a place, as a line of JSON."""
        self._file.seek(place)
        return self._file.readline()

    def _lot(self, key: str) -> int:
        drawn = f"{self._seed} {key}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(drawn, digest_size=8).digest())


def write_shuffled(file: IO[bytes], samples: Iterable[Sample]) -> None:
    """Write the rows of all samples among each other, each under the same columns.

    The first row is one without gaps, where there is any: `datasets` takes the columns' types
    from the first 10 MB, and a column that is null for so long could hold nothing after it.
    """
    samples = list(samples)
    order = sorted(
        (lot, place, number)
        for number, sample in enumerate(samples)
        for lot, place in sample.places()
    )

    def line(entry: tuple[int, int, int]) -> bytes:
        return samples[entry[2]].line(entry[1])

    first = next((entry for entry in order if _is_complete(line(entry))), None)
    if first:
        file.write(line(first))
    for entry in order:
        if entry != first:
            file.write(line(entry))


def _is_complete(line: bytes) -> bool:
    return None not in json.loads(line).values()
