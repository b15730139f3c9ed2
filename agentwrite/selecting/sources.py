"""Rows of a source of instructions: a JSONL or parquet file, a folder of them, or a hub dataset.

Always one after the other, in the source's own order; never is all of it held or downloaded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.jsonl import read_jsonl

_HUB_ID = re.compile(r"[\w-]+/[\w.-]+")
_READABLE = (".jsonl", ".parquet")
_BATCH = 64  # rows of a parquet file in memory at a time


@dataclass(frozen=True)
class Source:
    """Rows to be read once. `total` is their number where the source says it."""

    name: str
    rows: Iterator[dict[str, Any]]
    total: int | None = None


def open_source(source: str, split: str = "train") -> Source:
    """The source of that name; `split` is of a hub dataset. Raises InputError, later ones too."""
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.suffix in _READABLE)
        if not files:
            raise InputError(f"{path} holds no file ending in {' or '.join(_READABLE)}")
        return Source(source, (row for file in files for row in _read_file(file)))
    if path.is_file():
        return Source(source, _read_file(path))
    if source.startswith((".", "/", "~")) or path.suffix in _READABLE:
        raise InputError(f"there is no file {path}")
    if not _HUB_ID.fullmatch(source):
        raise InputError(
            f"{source!r} is no source: name a JSONL file, a parquet file, a folder of them, or a "
            "hub dataset such as allenai/WildChat-1M"
        )
    return _open_hub(source, split)


def _read_file(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix != ".parquet":
        yield from (row for _, row in read_jsonl(path))
        return
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"cannot read {path}: {_first_line(error)}") from error


def _open_hub(source: str, split: str) -> Source:
    import datasets

    try:
        stream = datasets.load_dataset(source, split=split, streaming=True)
    except Exception as error:  # of many types: network, unknown name, unknown split, no access
        raise InputError(f"cannot open {source}, split {split}: {_first_line(error)}") from error
    sizes = stream.info.splits or {}
    total = sizes[split].num_examples if split in sizes else None
    return Source(source, _read_hub(source, stream), total)


def _read_hub(source: str, stream: Any) -> Iterator[dict[str, Any]]:
    try:
        yield from stream
    except Exception as error:  # the library has tried again for minutes by then
        raise InputError(f"cannot read on in {source}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
