"""Reading a submission that may be hostile: in memory, within limits, never onto the disk."""

import hashlib
import json
import math
import os
import re
import stat
import zipfile
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.text.printable import printable
from longwriter_eval.submission.contents import MANIFEST, SAMPLES, SCHEMA, Submission, check_shape

# Bytes. 120 responses of 32,768 tokens are about 25 MB; text that repeats itself, which models do
# write, packs a thousand to one, so there is no limit on the ratio.
LARGEST_FILE = 64 << 20
_LARGEST = {MANIFEST: 1 << 20, SAMPLES: 128 << 20}
_LARGEST_LINE = 16 << 20
_LARGEST_DIRECTORY = 1 << 12
_MOST_SAMPLES = 1000
_MOST_DIGITS = 18
# Bytes outside of strings, which bound how many values there are: each takes a hundred times its
# length in memory. 1,024 verdicts have 140,000.
_MOST_STRUCTURE = 256 << 10
# an open string ends with the file, or each quote in it would be tried as a start
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)

_END, _END_64, _DIRECTORY_ENDS = b"PK\5\6", b"PK\6\7", 22


def read(path: Path) -> Submission:
    """The submission in a zip file. What it claims is not checked here.

    Raises InputError with the reason for a file that cannot be read, or is refused.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise InputError(f"cannot read {path}: there is no such file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, LARGEST_FILE) + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        return _read(data, path)
    except InputError as error:
        raise InputError(f"{path}: refused: {error}") from error


def _read(data: bytes, path: Path) -> Submission:
    entries = _unpack(data)
    manifest = _parse(entries[MANIFEST], MANIFEST)
    if isinstance(manifest, dict) and manifest.get("schema", SCHEMA) != SCHEMA:
        raise InputError(
            f"{MANIFEST} has the schema {printable(manifest['schema'])!r}, and this version of "
            f"longwriter reads {SCHEMA}"
        )
    check_shape(manifest, "manifest", MANIFEST)
    try:
        datetime.fromisoformat(manifest["date"])
    except ValueError as error:
        raise InputError(f"{MANIFEST}: date: {manifest['date']} is no date") from error
    number = entries[SAMPLES].count(b"\n")
    if number > _MOST_SAMPLES:
        raise InputError(f"{SAMPLES} has {number} lines; at most {_MOST_SAMPLES} are read")
    lines = entries[SAMPLES].split(b"\n")
    if lines.pop() != b"":
        raise InputError(f"{SAMPLES} does not end with a line break: its end is missing")
    samples = []
    for number, line in enumerate(lines, 1):
        where = f"{SAMPLES}, line {number}"
        sample = _parse(line, where)
        check_shape(sample, "sample", where)
        samples.append(sample)
    found = hashlib.sha256(entries[SAMPLES]).hexdigest()
    if found != manifest["samples_sha256"]:
        raise InputError(
            f"{SAMPLES} is not the file that the manifest was made for (its SHA-256 is "
            f"{found[:12]}…, the manifest says {manifest['samples_sha256'][:12]}…)"
        )
    return Submission(manifest, tuple(samples), path, hashlib.sha256(data).hexdigest())


def _unpack(data: bytes) -> dict[str, bytes]:
    """The two files of the zip. Nothing in it is believed before its size is known."""
    if len(data) > LARGEST_FILE:
        raise InputError(f"it is larger than {LARGEST_FILE >> 20} MiB")
    tail = data[-_DIRECTORY_ENDS:]
    if data[:4] != b"PK\3\4" or tail[:4] != _END:
        raise InputError("it is not a zip file, or has something before or behind it")
    # zipfile reads the whole directory, of millions of entries, before it says how many there are
    if int.from_bytes(tail[12:16], "little") > _LARGEST_DIRECTORY:
        raise InputError(f"it has too many entries; it may have {MANIFEST} and {SAMPLES}")
    if data[-_DIRECTORY_ENDS - 20 :][:4] == _END_64:
        raise InputError("it is a zip64 file, which no submission needs to be")
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            _check_entries(archive.infolist())
            return {name: _extract(archive, name, limit) for name, limit in _LARGEST.items()}
    # zipfile raises nearly anything for a file that is not what it says
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, EOFError, ValueError) as error:
        raise InputError(f"it cannot be unpacked ({printable(error)})") from error
    except (NotImplementedError, RuntimeError, LookupError, OverflowError) as error:
        raise InputError(f"it cannot be unpacked ({printable(error)})") from error
    except Exception as error:
        if type(error).__module__ != "zlib":
            raise
        raise InputError(f"it cannot be unpacked ({printable(error)})") from error


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.orig_filename for entry in entries]
    for entry in entries:
        name = printable(entry.orig_filename)
        if entry.orig_filename not in _LARGEST:
            raise InputError(
                f"it has an entry {name!r}; it may have {MANIFEST} and {SAMPLES}, and nothing else"
            )
        if names.count(entry.orig_filename) > 1:
            raise InputError(f"{name} stands in it twice")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise InputError(f"{name} is a link or a device, not a file")
        if entry.flag_bits & 1:
            raise InputError(f"{name} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{name} is packed by a method other than deflate")
        if entry.file_size > _LARGEST[entry.orig_filename]:
            raise InputError(
                f"{name} unpacks to {entry.file_size} bytes; at most "
                f"{_LARGEST[entry.orig_filename]} are read"
            )
    for name in _LARGEST:
        if name not in names:
            raise InputError(f"it has no {name}")


def _extract(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    # reads no more than the declared size, which is within the limit, and checks the sum of it
    with archive.open(name) as file:
        data = file.read(limit + 1)
    if len(data) != archive.getinfo(name).file_size:
        raise InputError(f"{name} has not the size that it declares")
    return data


def _parse(data: bytes, where: str) -> Any:
    """JSON, and strictly so: what Python's reader lets pass is refused."""
    if len(data) > _LARGEST_LINE:
        raise InputError(f"{where} has {len(data)} bytes; at most {_LARGEST_LINE} are read")
    if len(data) > _MOST_STRUCTURE and len(_STRINGS.sub(b"", data)) > _MOST_STRUCTURE:
        raise InputError(f"{where} holds far more values than it needs")
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_no_constant,
            object_pairs_hook=_no_duplicates,
        )
        # half a surrogate pair can be escaped in JSON, and nothing can be done with it
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 (byte {error.start})") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds half a surrogate pair, which is no text") from error
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({printable(error)})") from error
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {printable(twice)!r} stands twice")
    return found
