"""Mix the rows of a command with rows of a general set, shuffle them and write one file.

NAME.jsonl          the rows; or NAME.parquet
NAME.rejects.jsonl  the rejected rows with their reasons
NAME.md, NAME.png   the dataset card and its histogram, written by card.py
"""

import hashlib
import heapq
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from agentwrite.data.sources import check_outputs, open_source
from longwriter_core.conversation import UnusableRowError
from longwriter_core.errors import InputError
from longwriter_core.files import open_atomically, sha256
from longwriter_core.jsonl import jsonl_line
from longwriter_core.overlap import PromptIndex, benchmark_prompts

_PARQUET_BATCH = 256  # rows

RowProgress = Callable[[str], None]  # called for each row read, with its kind


def no_row_progress(_kind: str) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class GeneralSet:
    """A general dataset to mix in, with `ratio` general rows for each row of the command.

    `source` is a JSONL or parquet file, a folder of such files, or a hub dataset. `split` applies
    to hub datasets.
    """

    source: str
    ratio: float
    split: str = "train"

    @property
    def name(self) -> str:
        """The file or folder name of a local source, else the source."""
        path = Path(self.source).expanduser()
        return path.name if path.exists() else self.source


@dataclass
class MixSummary:
    """Counts of rows read, written and left out. "Long" rows are those of the command itself."""

    output: Path
    read: Counter[str] = field(default_factory=Counter)  # source -> rows
    taken: Counter[str] = field(default_factory=Counter)  # source -> rows in the file
    rejected: Counter[str] = field(default_factory=Counter)  # rule -> long rows left out
    unusable: Counter[str] = field(default_factory=Counter)  # reason -> general rows left out
    overlaps: Counter[str] = field(default_factory=Counter)  # benchmark prompt -> rows left out
    benchmarks_checked: bool = True
    general: GeneralSet | None = None
    general_source: str = ""  # name of the general set in `read` and `taken`
    general_wanted: int = 0
    models: Counter[str] = field(default_factory=Counter)  # model -> long rows
    words: dict[str, "array[int]"] = field(default_factory=dict)  # language -> words of each row

    @property
    def long_rows(self) -> int:
        """Long rows in the file."""
        return sum(map(len, self.words.values()))

    @property
    def general_rows(self) -> int:
        """General rows in the file."""
        return self.taken[self.general_source]

    @property
    def rejects(self) -> Path:
        """The file with the rejected rows and their reasons."""
        return beside(self.output, ".rejects.jsonl")


def beside(output: Path, suffix: str) -> Path:
    """Return the path of `output` with `suffix` instead of .jsonl or .parquet."""
    name = output.name.removesuffix(".jsonl").removesuffix(".parquet")
    return output.with_name(name + suffix)


def check_files(output: Path, inputs: Iterable[Path], general: GeneralSet | None) -> None:
    """Raise InputError if writing would fail or overwrite an input. Call it before any API call."""
    inputs = list(inputs)
    if general:
        open_source(general.source, general.split)
        inputs.append(Path(general.source))
    suffixes = (".rejects.jsonl", ".md", ".png")
    check_outputs([output, *(beside(output, suffix) for suffix in suffixes)], inputs)


class ShuffledRows:
    """A seeded random sample of at most `limit` rows (all rows if None), in random order.

    Each row gets a random rank: a hash of the seed and the row's key. The sample is the rows with
    the lowest ranks, sorted by rank. It depends only on the seed and the rows, not on the order in
    which they are added. A row that is added twice counts once. Rows are spooled to the file
    `spool`; memory holds their offsets.
    """

    def __init__(self, spool: IO[bytes], seed: int, limit: int | None = None) -> None:
        self._spool, self._seed, self._limit = spool, seed, limit
        self._kept: list[tuple[int, int]] = []  # a heap of (negated rank, offset)
        self._seen: set[int] = set()  # ranks of all added rows

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, key: str, row: Mapping[str, Any]) -> bool:
        """Offer a row to the sample; returns False if its key was added before. Raises OSError."""
        seeded_key = f"{self._seed} {key}".encode("utf-8", "surrogatepass")
        rank = int.from_bytes(hashlib.blake2b(seeded_key, digest_size=8).digest())
        if rank in self._seen:
            return False
        self._seen.add(rank)
        if self._limit is not None and len(self) >= self._limit:
            if not self._kept or rank >= -self._kept[0][0]:
                return True
            heapq.heappop(self._kept)
        heapq.heappush(self._kept, (-rank, self._spool.seek(0, 2)))
        self._spool.write(jsonl_line(row))
        return True

    def offsets(self) -> list[tuple[int, int]]:
        """Return (rank, offset) of each row, sorted by rank."""
        return sorted((-negated, offset) for negated, offset in self._kept)

    def line(self, offset: int) -> bytes:
        """Read the row at an offset, as a line of JSON."""
        self._spool.seek(offset)
        return self._spool.readline()


class DatasetWriter:
    """Collects the long rows, then samples the general rows and writes all. See `open_dataset`."""

    def __init__(
        self, output: Path, rejects: IO[bytes], spool: IO[bytes], seed: int, check: bool
    ) -> None:
        self.summary = MixSummary(output, benchmarks_checked=check)
        self._rejects, self._seed = rejects, seed
        self._long = ShuffledRows(spool, seed)
        self._index = PromptIndex(benchmark_prompts()) if check else None

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Add a long row with `source`, `language`, `words` and `model`. Raises OSError."""
        summary = self.summary
        summary.read[row["source"]] += 1
        if self._long.add(key, row):
            summary.taken[row["source"]] += 1
            summary.models[row["model"]] += 1
            summary.words.setdefault(row["language"], array("I")).append(row["words"])

    def reject(self, rule: str, detail: str, source: str, **fields: Any) -> None:
        """Record a rejected long row in the rejects file. Raises OSError."""
        self.summary.read[source] += 1
        self.summary.rejected[rule] += 1
        self._rejects.write(
            jsonl_line({"reason": rule, "detail": detail, "source": source, **fields})
        )

    def find_benchmark_prompt(self, *texts: str) -> str | None:
        """Return the id of the first benchmark prompt that a text contains.

        Returns None if there is no such prompt, or if benchmarks are not checked.
        """
        for text in texts if self._index else ():
            if self._index and (overlap := self._index.find(text, None)):
                self.summary.overlaps[overlap.prompt_id] += 1
                return overlap.prompt_id
        return None

    def write(
        self,
        general: GeneralSet | None,
        columns: Callable[[Mapping[str, Any]], dict[str, Any]],
        progress: RowProgress,
    ) -> MixSummary:
        """Sample the general rows and write the file.

        `columns` converts a general row, or raises UnusableRowError.
        """
        summary = self.summary
        with TemporaryFile(dir=summary.output.parent) as spool:
            rows = [self._long]
            if general:
                summary.general = general
                is_known = general.name in summary.read  # a run folder may have the same name
                summary.general_source = f"{general.name}, general" if is_known else general.name
                summary.general_wanted = round(general.ratio * len(self._long))
                drawn = ShuffledRows(spool, self._seed, summary.general_wanted)
                for number, row in enumerate(open_source(general.source, general.split).rows, 1):
                    self._add_general(number, row, columns, drawn)
                    progress("general rows")
                summary.taken[summary.general_source] += len(drawn)
                rows.append(drawn)
            with open_atomically(summary.output) as file:
                if summary.output.suffix == ".parquet":
                    _write_parquet(file, _shuffled(rows))
                else:
                    file.writelines(_shuffled(rows))
        return summary

    def _add_general(
        self,
        number: int,
        row: Mapping[str, Any],
        columns: Callable[[Mapping[str, Any]], dict[str, Any]],
        drawn: ShuffledRows,
    ) -> None:
        source = self.summary.general_source
        self.summary.read[source] += 1
        reason, detail = "duplicate", ""
        try:
            converted = columns(row)
            asked = (turn["content"] for turn in converted["messages"] if turn["role"] == "user")
            if prompt := self.find_benchmark_prompt(*asked):
                reason, detail = "benchmark", prompt
            else:
                fields = {"id": str(row.get("id") or number), "source": source}
                if drawn.add(sha256(jsonl_line(converted)), fields | converted):
                    return
        except UnusableRowError as error:
            reason, detail = error.reason, str(error)
        self.summary.unusable[reason] += 1
        self._rejects.write(
            jsonl_line({"reason": reason, "detail": detail, "source": source, "row": number})
        )


@contextmanager
def open_dataset(output: Path, *, seed: int, check_benchmarks: bool) -> Iterator[DatasetWriter]:
    """Open a writer of `output` and its rejects file. `output` is written on completion.

    Raises InputError for a full disk or a missing benchmark file, and OSError if the folder is not
    writable.
    """
    try:
        with (
            open_atomically(beside(output, ".rejects.jsonl")) as rejects,
            TemporaryFile(dir=output.parent) as spool,
        ):
            yield DatasetWriter(output, rejects, spool, seed, check_benchmarks)
    except OSError as error:
        if error.filename:
            raise
        # an error of a failed write, such as a full disk, has no file name
        raise InputError(f"cannot write {output} ({error.strerror}): free space there") from error


def _write_parquet(file: IO[bytes], lines: Iterator[bytes]) -> None:
    """Write lines of JSON as the rows of a Parquet file, a batch in memory at a time.

    The types are fixed: a column that is null in all rows would otherwise have none. Turns have the
    fields of the first row's.
    """
    import pyarrow as pa
    from pyarrow import parquet

    first = next(lines, None)
    if first is None:
        return
    lines = chain([first], lines)
    fields = dict.fromkeys(["role", "content"])
    fields |= {name: None for turn in json.loads(first).get("messages", ()) for name in turn}
    turn = pa.struct(dict.fromkeys(fields, pa.string()))
    types = {
        "messages": pa.list_(turn), "prompt": pa.list_(turn), "chosen": turn, "rejected": turn,
        "scores": pa.list_(pa.float64()),
        **dict.fromkeys(
            ("words", "rejected_words", "required", "step", "prefix_characters"), pa.int64()
        ),
        **dict.fromkeys(
            ("length_score", "quality_score", "chosen_score", "rejected_score", "margin"),
            pa.float64(),
        ),
    }  # fmt: skip
    writer = None
    try:
        while batch := [json.loads(line) for line in islice(lines, _PARQUET_BATCH)]:
            schema = pa.schema([(name, types.get(name, pa.string())) for name in batch[0]])
            writer = writer or parquet.ParquetWriter(file, schema, compression="zstd")
            writer.write_table(pa.Table.from_pylist(batch, schema=writer.schema))
    finally:
        if writer:
            writer.close()


def _shuffled(samples: list[ShuffledRows]) -> Iterator[bytes]:
    """Yield the lines of all samples sorted by rank, except that a row without nulls is first.

    `datasets` infers the type of each column from the first 10 MB of a file. If a column is null in
    all of it, loading fails at the first other value.
    """
    order = sorted(
        (rank, offset, number)
        for number, sample in enumerate(samples)
        for rank, offset in sample.offsets()
    )
    lines = (samples[number].line(offset) for _, offset, number in order)
    first = next((at for at, line in enumerate(lines) if None not in json.loads(line).values()), 0)
    for _, offset, number in order[first : first + 1] + order[:first] + order[first + 1 :]:
        yield samples[number].line(offset)
