"""The submission file: writing it, its schema, and reading one that may be hostile.

A submission is read in memory, within limits, and nothing of it is written to disk.
"""

import functools
import hashlib
import io
import itertools
import json
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema

from longwriter_core import benchmarks
from longwriter_core.errors import InputError
from longwriter_core.text.length import bucket
from longwriter_core.text.printable import printable
from longwriter_eval.runs import Run, Sample

SCHEMA = "longwriter-submission/1"
MANIFEST, SAMPLES = "manifest.json", "samples.jsonl"

# Limits in bytes. 120 responses of 32,768 tokens are about 25 MB. The compression ratio has no
# limit, because repetitive text, which models do write, compresses a thousand to one.
MAX_FILE_SIZE = 64 << 20
_MAX_ENTRY_SIZES = {MANIFEST: 1 << 20, SAMPLES: 128 << 20}
_MAX_LINE_SIZE = 16 << 20
_MAX_DIRECTORY_SIZE = 1 << 12
_MAX_SAMPLES = 200  # the largest benchmark has 120 prompts
_MAX_DIGITS = 18
# Characters of a judge's reply for each token that the judge may write. English has about 4 per
# token; 16 leaves room for indentation.
_MAX_REPLY_CHARACTERS_PER_TOKEN = 16
# JSON outside of strings. This limits the number of values, since each takes a hundred times its
# length in memory. A line with 64 verdicts has 9,000 bytes outside of strings.
_MAX_STRUCTURE = 64 << 10
# An unterminated string matches up to the end of the data: otherwise the search would start again
# at every quote inside it, which takes quadratic time.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)

_END, _END_64, _END_SIZE = b"PK\5\6", b"PK\6\7", 22
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_DIRECTORY_HEADER_SIZE = 46


@dataclass(frozen=True)
class Submission:
    """A manifest and its samples, valid by the schema but with unverified claims.

    `path` and `sha256` belong to the zip file; both are empty before it is written.
    """

    manifest: Mapping[str, Any]
    samples: tuple[Mapping[str, Any], ...]
    path: Path = Path()
    sha256: str = ""

    @functools.cached_property
    def prompts(self) -> dict[str, dict[str, Any]]:
        """The benchmark's prompts by id. Raises InputError if the upstream files are missing."""
        return {row["id"]: row for row in benchmarks.read_prompts(self.manifest["benchmark"])}

    def logged(self, sample: Mapping[str, Any]) -> Sample:
        """A sample as in the log of a run, with the benchmark's prompt. Raises KeyError."""
        row = self.prompts[sample["id"]]
        judgement = {
            "prompt_sha256": self.manifest["judge"]["prompt_sha256"],
            "response_sha256": sample["response_sha256"],
            "verdicts": [
                {name: value for name, value in verdict.items() if name != "asked_sha256"}
                for verdict in sample["verdicts"]
            ],
        }
        doc = {**row, "bucket": bucket(row["length"]), "judgement": judgement}
        return Sample(
            task=sample["task"],
            id=sample["id"],
            prompt=row["prompt"],
            type=row["type"],
            required=row["length"],
            language=row["language"],
            response=sample["response"],
            row={"doc": doc, "cut_off": float(sample["cut_off"])},
            version=self.manifest["task_version"],
        )

    def run(self) -> Run:
        """The submitted run, in the form of lm-eval's results."""
        manifest = self.manifest
        model, judge = manifest["model"], manifest["judge"]
        backend, generation = manifest["backend"], manifest["generation"]
        recorded = {
            "version": manifest["longwriter"],
            "data_sha256": manifest["data_sha256"],
            "judge": {
                "model": judge["requested"],
                **{name: judge[name] for name in ("temperature", "max_tokens", "repeats")},
                "base_url": None,
                "prompt": judge["prompt"],
            },
            "judge_prompt_sha256": judge["prompt_sha256"],
        }
        config = {
            "num_fewshot": generation["num_fewshot"],
            "generation_kwargs": generation["settings"],
            "metadata": {"version": manifest["task_version"], "longwriter": recorded},
        }
        value_of = {
            name: fact and fact["value"] for name, fact in model.items() if name != "served_as"
        }
        results = {
            "config": {
                "model": backend["name"]["value"],
                "model_args": backend["arguments"],
                "model_revision": value_of["revision"],
                "model_dtype": value_of["dtype"],
                "model_num_parameters": value_of["parameters"],
                "limit": None,
                **{f"{name}_seed": seed for name, seed in manifest["seeds"].items()},
            },
            "configs": {task: {"task": task, **config} for task in manifest["tasks"]},
            "date": datetime.fromisoformat(manifest["date"]).timestamp(),
            "versions": dict.fromkeys(manifest["tasks"], manifest["task_version"]),
            "task_hashes": manifest["task_hashes"],
            "model_name": value_of["id"],
            "chat_template_sha": value_of["chat_template_sha256"],
            "max_length": value_of["context_length"],
            "system_instruction": generation["system_instruction"],
            **{f"{name}_version": version for name, version in backend["libraries"].items()},
        }
        return Run(self.path, results, [self.logged(sample) for sample in self.samples])


def pack(submission: Submission) -> bytes:
    """The zip file; deterministic, so that equal submissions have equal hashes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in (
            (MANIFEST, dump(submission.manifest, indent=2)),
            (SAMPLES, dump_lines(submission.samples)),
        ):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, also when packed on Windows
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text.encode())
    return buffer.getvalue()


def dump(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys. Raises ValueError for NaN and infinity."""
    return json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)


def dump_lines(samples: Iterable[Mapping[str, Any]]) -> str:
    """The text of samples.jsonl."""
    return "".join(dump(sample) + "\n" for sample in samples)


def check_shape(value: Any, kind: str, where: str) -> None:
    """Raise InputError unless `value` is a valid "manifest" or "sample" (`kind`) by the schema."""
    # only the first: hostile input may have any number of errors; sizes are checked first
    first = itertools.islice(_validator(kind).iter_errors(value), 1)
    error = jsonschema.exceptions.best_match(first)
    if error:
        place = ".".join(str(step) for step in error.absolute_path)
        message = error.message  # starts with the value, however long, and ends with its error
        if len(message) > 200:
            message = f"{message[:80]} … {message[-100:]}"
        raise InputError(f"{where}: {printable(place)}: {printable(message)}".replace(": :", ":"))


@functools.cache
def _validator(kind: str) -> Any:
    text = (files("longwriter_eval.submission") / "schema-1.json").read_text(encoding="utf-8")
    schema = {**json.loads(text), "$ref": f"#/$defs/{kind}"}
    base = jsonschema.Draft202012Validator
    # in JSON Schema, 1.0 is an integer; our code needs an int
    types = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(base, type_checker=types)(schema)


def read(path: Path) -> Submission:
    """Read the submission in a zip file, without checking its claims.

    Raises InputError with the reason if the file cannot be read or is refused.
    """
    try:
        if not path.is_file():  # reading from a pipe would block
            raise InputError(f"cannot read {path}: no such file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, MAX_FILE_SIZE) + 1)
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
            f"{MANIFEST} has the schema {printable(manifest['schema'])!r}, but this version of "
            f"longwriter reads {SCHEMA}"
        )
    check_shape(manifest, "manifest", MANIFEST)
    try:
        datetime.fromisoformat(manifest["date"])
    except ValueError as error:
        raise InputError(f"{MANIFEST}: date: {manifest['date']} is not a date") from error
    number = entries[SAMPLES].count(b"\n")
    if number > _MAX_SAMPLES:
        raise InputError(f"{SAMPLES} has {number} lines; the limit is {_MAX_SAMPLES}")
    if entries[SAMPLES] and not entries[SAMPLES].endswith(b"\n"):
        raise InputError(f"{SAMPLES} does not end with a line break, so its end is missing")
    samples = []
    for number, line in enumerate(io.BytesIO(entries[SAMPLES]), 1):
        where = f"{SAMPLES}, line {number}"
        sample = _parse(line.removesuffix(b"\n"), where)
        check_shape(sample, "sample", where)
        _check_replies(sample, manifest["judge"]["max_tokens"], where)
        samples.append(sample)
    samples_sha256 = hashlib.sha256(entries[SAMPLES]).hexdigest()
    if samples_sha256 != manifest["samples_sha256"]:
        raise InputError(
            f"{SAMPLES} does not belong to this manifest (its SHA-256 is {samples_sha256[:12]}…, "
            f"the manifest has {manifest['samples_sha256'][:12]}…)"
        )
    return Submission(manifest, tuple(samples), path, hashlib.sha256(data).hexdigest())


def _check_replies(sample: Mapping[str, Any], max_tokens: int, where: str) -> None:
    limit = _MAX_REPLY_CHARACTERS_PER_TOKEN * max_tokens
    for verdict in sample["verdicts"]:
        if len(verdict["raw"]) > limit:
            raise InputError(
                f"{where}: a reply of the judge has {len(verdict['raw'])} characters, but a judge "
                f"that may write {max_tokens} tokens writes at most {limit}"
            )


def _unpack(data: bytes) -> dict[str, bytes]:
    """The contents of the two files in the zip. Sizes are checked before anything is read."""
    if len(data) > MAX_FILE_SIZE:
        raise InputError(f"it is larger than {MAX_FILE_SIZE >> 20} MiB")
    end = data[-_END_SIZE:]
    if data[:4] != b"PK\3\4" or end[:4] != _END:
        raise InputError("it is not a zip file, or has data before or after the archive")
    # zipfile reads the whole directory, possibly millions of entries, before it counts them
    if int.from_bytes(end[12:16], "little") > _MAX_DIRECTORY_SIZE:
        raise InputError(f"it has too many entries; only {MANIFEST} and {SAMPLES} are allowed")
    if data[-_END_SIZE - 20 :][:4] == _END_64:
        raise InputError("it is a zip64 file, which a submission never needs")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
        _check_entries(entries)
        return {
            entry.filename: _extract(entry, content)
            for entry, content in _compressed(entries, data)
        }
    except InputError:
        raise
    # zipfile raises many kinds of exceptions for a corrupt file
    except (
        zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, OSError, EOFError, ValueError,
        NotImplementedError, RuntimeError, LookupError, OverflowError, struct.error,
    ) as error:  # fmt: skip
        raise InputError(f"it cannot be unpacked ({printable(error)})") from error


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.orig_filename for entry in entries]
    for entry in entries:
        name = printable(entry.orig_filename)
        if entry.orig_filename not in _MAX_ENTRY_SIZES:
            raise InputError(f"it has an entry {name!r}; only {MANIFEST} and {SAMPLES} are allowed")
        if names.count(entry.orig_filename) > 1:
            raise InputError(f"it has two entries named {name}")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise InputError(f"{name} is a link or a device, not a file")
        if entry.flag_bits & 1:
            raise InputError(f"{name} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{name} uses a compression other than deflate")
        if entry.file_size > _MAX_ENTRY_SIZES[entry.orig_filename]:
            raise InputError(
                f"{name} unpacks to {entry.file_size} bytes; the limit is "
                f"{_MAX_ENTRY_SIZES[entry.orig_filename]}"
            )
    for name in _MAX_ENTRY_SIZES:
        if name not in names:
            raise InputError(f"it has no {name}")


def _compressed(
    entries: list[zipfile.ZipInfo], data: bytes
) -> list[tuple[zipfile.ZipInfo, memoryview]]:
    """Each entry with its bytes in the file. Every byte of the file must be accounted for.

    Data between the entries, and differences between an entry's two headers, are refused, because
    another program might read something other than what was verified.
    """
    view, position, compressed = memoryview(data), 0, []
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = entry.orig_filename
        header = _LOCAL_HEADER.unpack_from(data, position)
        flags, method, crc, packed_size, size = header[2], header[3], *header[6:9]
        start = position + _LOCAL_HEADER.size + len(name)
        if (
            entry.header_offset != position
            or (flags, method) != (entry.flag_bits, entry.compress_type)
            or (crc, packed_size, size) != (entry.CRC, entry.compress_size, entry.file_size)
            or header[9:] != (len(name), 0)
            or view[position + _LOCAL_HEADER.size : start] != name.encode()
            or entry.extra
            or entry.comment
        ):
            raise InputError(
                f"it has data between its entries, or two different headers of {name}: only files "
                "from `longwriter submit` are accepted"
            )
        position = start + packed_size
        compressed.append((entry, view[start:position]))
    directory_size = sum(_DIRECTORY_HEADER_SIZE + len(entry.orig_filename) for entry in entries)
    if position + directory_size + _END_SIZE != len(data):
        raise InputError("it has data between its entries")
    return compressed


def _extract(entry: zipfile.ZipInfo, content: memoryview) -> bytes:
    """The unpacked bytes of an entry, at most of its declared size, which is within the limit."""
    if entry.compress_type == zipfile.ZIP_STORED:
        data = bytes(content[: entry.file_size + 1])
    else:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        data = unpacker.decompress(content, entry.file_size + 1)
        if not unpacker.eof or unpacker.unused_data:
            raise InputError(f"it cannot be unpacked ({entry.filename} has a wrong size)")
    if len(data) != entry.file_size:
        raise InputError(f"{entry.filename} does not have its declared size")
    if zlib.crc32(data) != entry.CRC:
        raise InputError(f"it cannot be unpacked ({entry.filename} has a wrong checksum)")
    return data


def _parse(data: bytes, where: str) -> Any:
    """Parse strict JSON: NaN, infinity, duplicate keys and lone surrogates are refused."""
    if len(data) > _MAX_LINE_SIZE:
        raise InputError(f"{where} has {len(data)} bytes; the limit is {_MAX_LINE_SIZE}")
    if len(data) > _MAX_STRUCTURE and len(_STRINGS.sub(b"", data)) > _MAX_STRUCTURE:
        raise InputError(f"{where} has far too many values")
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_no_constant,
            object_pairs_hook=_no_duplicates,
        )
        # JSON can escape a lone surrogate, which cannot be encoded
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 (byte {error.start})") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{where} contains a lone surrogate") from error
    except ValueError as error:
        raise InputError(f"{where} is not JSON ({printable(error)})") from error
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
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
    value: dict[str, Any] = {}
    for name, item in pairs:
        if name in value:
            raise ValueError(f"duplicate key {printable(name)!r}")
        value[name] = item
    return value
