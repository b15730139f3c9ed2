"""The submission file: writing it, its schemas, and reading one that may be hostile.

Submissions of an older schema are read as if they were of the newest, with null for what they do
not say.
"""

import functools
import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema

from longwriter_core.errors import InputError
from longwriter_core.text.printable import printable
from longwriter_eval.submission.contents import SCHEMA, SCHEMA_1, Submission
from longwriter_eval.submission.judges import MAX_REQUEST, members
from longwriter_eval.submission.older import newest_manifest, newest_sample
from longwriter_eval.submission.strict_json import parse
from longwriter_eval.submission.zip_file import (
    MANIFEST,
    MAX_FILE_SIZE,
    SAMPLES,
    pack_files,
    unpack_files,
)

_MAX_SAMPLES = 200  # the largest benchmark has 120 prompts
# Characters of a judge's reply for each token that the judge may write. English has about 4 per
# token; 16 leaves room for indentation.
_MAX_REPLY_CHARACTERS_PER_TOKEN = 16


def pack(submission: Submission) -> bytes:
    """The zip file; deterministic, so that equal submissions have equal hashes."""
    return pack_files(
        {
            MANIFEST: dump(submission.manifest, indent=2),
            SAMPLES: dump_lines(submission.samples),
        }
    )


def dump(value: Any, indent: int | None = None) -> str:
    """JSON with sorted keys. Raises ValueError for NaN and infinity."""
    return json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)


def dump_lines(samples: Iterable[Mapping[str, Any]]) -> str:
    """The text of samples.jsonl."""
    return "".join(dump(sample) + "\n" for sample in samples)


def check_shape(value: Any, kind: str, where: str, schema: str = SCHEMA) -> None:
    """Raise InputError unless `value` is a valid "manifest" or "sample" (`kind`) by a schema."""
    # only the first: hostile input may have any number of errors; sizes are checked first
    first = itertools.islice(_validator(schema, kind).iter_errors(value), 1)
    error = jsonschema.exceptions.best_match(first)
    if error:
        place = ".".join(str(step) for step in error.absolute_path)
        message = error.message  # starts with the value, however long, and ends with its error
        if len(message) > 200:
            message = f"{message[:80]} … {message[-100:]}"
        raise InputError(f"{where}: {printable(place)}: {printable(message)}".replace(": :", ":"))


@functools.cache
def _validator(schema: str, kind: str) -> Any:
    name = f"schema-{schema.rpartition('/')[2]}.json"
    text = (files("longwriter_eval.submission") / name).read_text(encoding="utf-8")
    rules = {**json.loads(text), "$ref": f"#/$defs/{kind}"}
    base = jsonschema.Draft202012Validator
    # in JSON Schema, 1.0 is an integer; our code needs an int
    types = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(base, type_checker=types)(rules)


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
    entries = unpack_files(data)
    manifest = parse(entries[MANIFEST], MANIFEST)
    schema = manifest.get("schema", SCHEMA) if isinstance(manifest, dict) else SCHEMA
    if schema not in (SCHEMA, SCHEMA_1):
        raise InputError(
            f"{MANIFEST} has the schema {printable(schema)!r}, but this version of longwriter "
            f"reads {SCHEMA} and {SCHEMA_1}"
        )
    check_shape(manifest, "manifest", MANIFEST, schema)
    try:
        datetime.fromisoformat(manifest["date"])
    except ValueError as error:
        raise InputError(f"{MANIFEST}: date: {manifest['date']} is not a date") from error
    number = entries[SAMPLES].count(b"\n")
    if number > _MAX_SAMPLES:
        raise InputError(f"{SAMPLES} has {number} lines; the limit is {_MAX_SAMPLES}")
    if entries[SAMPLES] and not entries[SAMPLES].endswith(b"\n"):
        raise InputError(f"{SAMPLES} does not end with a line break, so its end is missing")
    if schema == SCHEMA_1:
        manifest = newest_manifest(manifest)
    judges = _judges(manifest)
    samples = []
    for number, line in enumerate(io.BytesIO(entries[SAMPLES]), 1):
        where = f"{SAMPLES}, line {number}"
        sample = parse(line.removesuffix(b"\n"), where)
        check_shape(sample, "sample", where, schema)
        if schema == SCHEMA_1:
            sample = newest_sample(sample)
        _check_verdicts(sample, judges, where)
        samples.append(sample)
    samples_sha256 = hashlib.sha256(entries[SAMPLES]).hexdigest()
    if samples_sha256 != manifest["samples_sha256"]:
        raise InputError(
            f"{SAMPLES} does not belong to this manifest (its SHA-256 is {samples_sha256[:12]}…, "
            f"the manifest has {manifest['samples_sha256'][:12]}…)"
        )
    return Submission(manifest, tuple(samples), path, hashlib.sha256(data).hexdigest())


def _judges(manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The judges in a manifest of the right shape. Raises InputError if a request is too long."""
    judges = members(manifest["judge"])
    for judge in judges:
        if (size := len(dump(judge["request"]))) > MAX_REQUEST:
            raise InputError(
                f"{MANIFEST}: the request of a judge has {size} characters; the limit is "
                f"{MAX_REQUEST}"
            )
    return judges


def _check_verdicts(
    sample: Mapping[str, Any], judges: Sequence[Mapping[str, Any]], where: str
) -> None:
    """Raise InputError if a verdict has no judge, or a reply that its judge cannot have written."""
    if judges and not sample["verdicts"]:
        raise InputError(f"{where}: verdicts: there are none")
    for verdict in sample["verdicts"]:
        if verdict["judge"] >= len(judges):
            raise InputError(f"{where}: a verdict is by judge {verdict['judge']} of {len(judges)}")
        max_tokens = judges[verdict["judge"]]["max_tokens"]
        limit = _MAX_REPLY_CHARACTERS_PER_TOKEN * max_tokens
        if len(verdict["raw"]) > limit:
            raise InputError(
                f"{where}: a reply of the judge has {len(verdict['raw'])} characters, but a judge "
                f"that may write {max_tokens} tokens writes at most {limit}"
            )
