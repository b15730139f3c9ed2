"""Read rows from a JSONL, CSV or Parquet file, a folder of such files, or a hub dataset.

Rows are streamed in the order of the source. A source is never loaded or downloaded as a whole.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.rows import numbered_rows

_HUB_ID = re.compile(r"[\w-]+/[\w.-]+")
_SUFFIXES = (".jsonl", ".parquet", ".csv")


@dataclass(frozen=True)
class Source:
    """Rows that can be read once. `total` is their number; None if unknown."""

    name: str
    rows: Iterator[dict[str, Any]]
    total: int | None = None


def open_source(source: str, split: str = "train") -> Source:
    """Open a file, a folder or a hub dataset; `split` applies to hub datasets.

    Raises InputError if the source cannot be opened. Iterating over its rows raises InputError if
    they cannot be read.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES)
        if not files:
            raise InputError(f"{path} holds no file ending in {' or '.join(_SUFFIXES)}")
        return Source(source, (row for file in files for row in _read_file(file)))
    if path.is_file():
        return Source(source, _read_file(path))
    if source.startswith((".", "/", "~")) or path.suffix in _SUFFIXES:
        raise InputError(f"there is no file {path}")
    if not _HUB_ID.fullmatch(source):
        raise InputError(
            f"{source!r} is not a source: name a JSONL, CSV or Parquet file, a folder of them, or "
            "a hub dataset such as allenai/WildChat-1M"
        )
    return _open_hub_dataset(source, split)


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise InputError if an output is not a regular file or would change an input.

    Call it before the first API call. `inputs` are files and folders. Outputs inside an input
    folder are refused, because the next run would read them as input.
    """
    sources = [(path, path.expanduser().resolve()) for path in inputs]
    for output in outputs:
        if output.is_dir():
            raise InputError(f"{output} is a folder: name a file")
        if output.exists() and not output.is_file():
            raise InputError(f"{output} is not a regular file: name another file")
        for path, resolved in sources:
            if output.resolve() == resolved:
                raise InputError(f"{output} would overwrite {path}: choose another name")
            if resolved.is_dir() and output.resolve().is_relative_to(resolved):
                raise InputError(
                    f"{output} would become part of its own input {path}: choose another folder"
                )


def _read_file(path: Path) -> Iterator[dict[str, Any]]:
    for row in numbered_rows(path):
        if row.problem:
            raise InputError(f"{path}, line {row.number}: {row.problem}")
        yield row.fields


def _open_hub_dataset(source: str, split: str) -> Source:
    import datasets

    try:
        stream = datasets.load_dataset(source, split=split, streaming=True)
    except Exception as error:  # many types: network, unknown name or split, no access
        raise InputError(f"cannot open {source}, split {split}: {_first_line(error)}") from error
    sizes = stream.info.splits or {}
    total = sizes[split].num_examples if split in sizes else None
    return Source(source, _read_stream(source, stream), total)


def _read_stream(source: str, stream: Any) -> Iterator[dict[str, Any]]:
    try:
        yield from stream
    except Exception as error:  # the library has already retried for minutes
        raise InputError(f"cannot continue reading {source}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
