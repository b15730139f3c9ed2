"""Hostile archives are refused with a reason, and nothing in them is written to disk."""

import io
import json
import os
import stat
import struct
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.submissions import Json, repacked, submitted, unpacked, zipped

from longwriter_core.errors import InputError
from longwriter_eval.submission import archive
from longwriter_eval.submission.archive import MANIFEST, SAMPLES, read

_BOMB = 129 << 20  # bytes; 128 MiB are read
Make = Callable[[Json, list[Json]], bytes]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submitted(tmp_path_factory.mktemp("honest"))


def _texts(manifest: Json, samples: list[Json]) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(repacked(manifest, samples))) as packed:
        return {name: packed.read(name) for name in (MANIFEST, SAMPLES)}


def _entry(change: Callable[[zipfile.ZipInfo], None]) -> Make:
    """A zip with a changed entry for the samples."""

    def make(manifest: Json, samples: list[Json]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as packed:
            for name, content in _texts(manifest, samples).items():
                entry = zipfile.ZipInfo(name)
                if name == SAMPLES:
                    change(entry)
                packed.writestr(entry, content)
        return buffer.getvalue()

    return make


def _more(**files: str) -> Make:
    return lambda m, s: zipped(**_texts(m, s), **files)


def _named(name: str) -> Make:
    return _more(**{name: "x"})


def _twice(manifest: Json, samples: list[Json]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name in (MANIFEST, SAMPLES, MANIFEST):
            packed.NameToInfo.clear()  # zipfile warns about a duplicate name
            packed.writestr(name, _texts(manifest, samples)[name])
    return buffer.getvalue()


def _null_in_name(manifest: Json, samples: list[Json]) -> bytes:
    """An entry whose name zipfile cuts off at a null character."""
    data = _named("manifest.json_.exe")(manifest, samples)
    return data.replace(b"manifest.json_.exe", b"manifest.json\0.exe")


def _many(manifest: Json, samples: list[Json]) -> bytes:
    files: dict[str, str | bytes] = {**_texts(manifest, samples)}
    files.update((str(number), "") for number in range(1000))
    return zipped(**files)


def _bomb(_: Json, __: list[Json]) -> bytes:
    return zipped(**{MANIFEST: b"{}", SAMPLES: bytes(_BOMB)})


def _undeclared_bomb(manifest: Json, samples: list[Json]) -> bytes:
    """An entry that declares 100 bytes and unpacks to far more."""
    data = bytearray(_bomb(manifest, samples))
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        place = data.rfind(signature)
        assert struct.unpack_from("<L", data, place + offset) == (_BOMB,)
        struct.pack_into("<L", data, place + offset, 100)
    return bytes(data)


def _encrypted(manifest: Json, samples: list[Json]) -> bytes:
    data = bytearray(repacked(manifest, samples))
    data[data.find(b"PK\1\2") + 8] |= 1
    return bytes(data)


def _corrupt(manifest: Json, samples: list[Json]) -> bytes:
    data = bytearray(repacked(manifest, samples))
    data[60] ^= 0xFF
    return bytes(data)


def _is_zip64(manifest: Json, samples: list[Json]) -> bytes:
    data = repacked(manifest, samples)
    return data[:-22] + b"PK\6\7" + bytes(16) + data[-22:]


def _manifest(text: str | bytes) -> Make:
    return lambda m, s: zipped(**{**_texts(m, s), MANIFEST: text})


def _manifest_with(old: str, new: str) -> Make:
    def make(manifest: Json, samples: list[Json]) -> bytes:
        texts = _texts(manifest, samples)
        changed = texts[MANIFEST].decode().replace(old, new, 1).encode("utf-8", "surrogatepass")
        assert changed != texts[MANIFEST]
        return zipped(**{**texts, MANIFEST: changed})

    return make


def _verdicts(text: str) -> Make:
    """Replace the verdicts of the first sample with `text`."""

    def make(manifest: Json, samples: list[Json]) -> bytes:
        texts = _texts(manifest, [{**samples[0], "verdicts": "here"}, *samples[1:]])
        return zipped(**{**texts, SAMPLES: texts[SAMPLES].replace(b'"here"', text.encode(), 1)})

    return make


def _sample_with(**changes: object) -> Make:
    return lambda m, s: repacked(m, [{**s[0], **changes}, *s[1:]])


HOSTILE: dict[str, tuple[Make, str]] = {
    "not-a-zip": (lambda *_: b"{}", "not a zip file"),
    "empty": (lambda *_: b"", "not a zip file"),
    "truncated": (lambda m, s: repacked(m, s)[:-30], "not a zip file"),
    "data-before-the-archive": (lambda m, s: b"#!/bin/sh\n" + repacked(m, s), "not a zip file"),
    "data-after-the-archive": (lambda m, s: repacked(m, s) + b"more", "not a zip file"),
    "zip64": (_is_zip64, "zip64"),
    "no-manifest": (lambda *_: zipped(**{SAMPLES: ""}), "no manifest.json"),
    "path-traversal": (_named("../../outside.txt"), "an entry '../../outside.txt'"),
    "absolute-path": (_named("/tmp/outside.txt"), "an entry '/tmp/outside.txt'"),
    "windows-path": (_named("..\\outside.txt"), "an entry"),
    "null-in-name": (_null_in_name, "an entry"),
    "nested-zip": (_named("inner.zip"), "an entry 'inner.zip'"),
    "folder": (_named("folder/"), "an entry 'folder/'"),
    "link": (
        _entry(lambda e: setattr(e, "external_attr", (stat.S_IFLNK | 0o777) << 16)),
        "a link or a device",
    ),
    "device": (
        _entry(lambda e: setattr(e, "external_attr", (stat.S_IFCHR | 0o666) << 16)),
        "a link or a device",
    ),
    "other-compression": (
        _entry(lambda e: setattr(e, "compress_type", zipfile.ZIP_LZMA)),
        "other than deflate",
    ),
    "duplicate-entry": (_twice, "two entries named manifest.json"),
    "too-many-entries": (_many, "too many entries"),
    "bomb": (_bomb, f"samples.jsonl unpacks to {_BOMB} bytes"),
    "bomb-with-false-size": (_undeclared_bomb, "cannot be unpacked"),
    "encrypted": (_encrypted, "is encrypted"),
    "corrupt": (_corrupt, "cannot be unpacked"),
    "not-json": (_manifest("{"), "manifest.json is not JSON"),
    "not-utf8": (_manifest(b'{"a": "\xff"}'), "is not UTF-8"),
    "utf16": (_manifest("{}".encode("utf-16")), "is not UTF-8"),
    "list": (_manifest("[]"), "is not of type 'object'"),
    "no-fields": (_manifest("{}"), "is a required property"),
    "other-schema": (
        _manifest_with("longwriter-submission/1", "longwriter-submission/9"),
        "longwriter-submission/9",
    ),
    "duplicate-key": (_manifest_with('"seeds"', '"judge": {}, "seeds"'), "duplicate key 'judge'"),
    "unknown-key": (_manifest_with('"seeds"', '"evil": 1, "seeds"'), "'evil' was unexpected"),
    "nan": (_manifest_with('"coverage": 1.0', '"coverage": NaN'), "NaN is not a number"),
    "infinity": (_manifest_with('"coverage": 1.0', '"coverage": -Infinity'), "-Infinity"),
    "too-large-float": (_manifest_with('"coverage": 1.0', '"coverage": 1e999'), "too large"),
    "huge-integer": (
        _manifest_with('"coverage": 1.0', '"coverage": ' + "9" * 5000),
        "a number of 5000 digits",
    ),
    "huge-float": (_manifest_with('"coverage": 1.0', '"coverage": 1e300'), "coverage"),
    "number-for-text": (_manifest_with('"schema": "longwriter-submission/1"', '"schema": 1'), "1"),
    "text-for-number": (_manifest_with('"coverage": 1.0', '"coverage": "1"'), "coverage"),
    "boolean-for-number": (
        _manifest_with('"max_tokens": 1024', '"max_tokens": true'),
        "max_tokens",
    ),
    "float-for-count": (_manifest_with('"max_tokens": 1024', '"max_tokens": 1024.0'), "max_tokens"),
    "deep": (_manifest('{"a":' * 50_000 + "1" + "}" * 50_000), "nested too deeply"),
    "lone-surrogate": (
        _manifest_with('"prompt": "longwriter"', r'"prompt": "\ud800"'),
        "surrogate",
    ),
    "control-characters": (
        _manifest_with('"prompt": "longwriter"', r'"prompt": "\u001b[2J"'),
        "does not match",
    ),
    "direction-marks": (
        _manifest_with('"prompt": "longwriter"', r'"prompt": "\u202egnp"'),
        "does not match",
    ),
    "only-blanks": (_manifest_with('"prompt": "longwriter"', '"prompt": "  "'), "match"),
    "blank-at-the-end": (
        _manifest_with('"prompt": "longwriter"', '"prompt": "longwriter\u00a0"'),
        "does not match",
    ),
    "invisible-letter": (
        _manifest_with('"prompt": "longwriter"', '"prompt": "\u3164"'),
        "does not match",
    ),
    "line-break-at-the-end": (
        _manifest_with('"prompt": "longwriter"', r'"prompt": "longwriter\n"'),
        "does not match",
    ),
    "no-such-date": (_manifest_with("1970-01-01", "1970-19-39"), "is not a date"),
    "response-is-a-list": (_sample_with(response=["a"]), "samples.jsonl, line 1: response"),
    "negative-words": (_sample_with(words=-1), "words"),
    "no-verdicts": (_sample_with(verdicts=[]), "verdicts"),
    "path-as-id": (_sample_with(id="../../000"), "id"),
    "samples-of-another": (
        lambda m, s: zipped(**{**_texts(m, s), SAMPLES: _texts(m, s[1:])[SAMPLES]}),
        "does not belong to this manifest",
    ),
    "samples-truncated": (
        lambda m, s: zipped(**{**_texts(m, s), SAMPLES: _texts(m, s)[SAMPLES][:-2]}),
        "its end is missing",
    ),
    "too-many-samples": (lambda m, s: repacked(m, s * 100), "1200 lines"),
    "only-line-breaks": (
        lambda m, s: zipped(**{**_texts(m, s), SAMPLES: b"\n" * (40 << 20)}),
        f"{40 << 20} lines",
    ),
    "long-line": (_verdicts("1" + " " * (20 << 20)), "line 1 has 209"),
    "many-values": (_verdicts(f"[{'[],' * 1_000_000}[]]"), "far too many values"),
    "many-values-and-an-unterminated-string": (
        _verdicts(f'[{"[]," * 1_000_000}"{chr(92)}{chr(34) * 1_000_000}'),
        "far too many values",
    ),
    "many-verdicts": (_verdicts(f"[{'[],' * 20_000}[]]"), "[]] is too long"),
    "many-scores": (
        lambda m, s: _sample_with(
            verdicts=[{**s[0]["verdicts"][0], "scores": {f"{n}": 9 for n in range(10_000)}}]
        )(m, s),
        "verdicts.0.scores: {'0': 9",
    ),
    # checking so many mixed values for uniqueness would take minutes
    "many-tasks": (
        lambda m, s: repacked({**m, "tasks": [1, *map(str, range(50_000))]}, s),
        "tasks: [1, '0', '1'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_with_its_reason(
    name: str, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, reason = HOSTILE[name]
    path = tmp_path / "in" / "hostile.zip"
    path.parent.mkdir()
    path.write_bytes(make(*unpacked(honest)))
    opened: list[str] = []
    _watch(monkeypatch, opened)
    began = time.process_time()
    with pytest.raises(InputError) as refused:
        read(path)
    assert time.process_time() - began < 5
    message = str(refused.value)
    assert message.startswith(f"{path}: refused: ")
    assert reason in message
    assert message.isprintable()
    assert len(message) < len(str(path)) + 700
    assert not opened
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["hostile.zip"]


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_watched: list[list[str]] = []


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watched and event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
        _watched[-1].append(str(arguments[0]))
    elif _watched and event in ("os.mkdir", "os.symlink", "os.link", "os.rename"):
        _watched[-1].append(f"{event} {arguments}")


@pytest.fixture(scope="module", autouse=True)
def _auditing() -> None:
    sys.addaudithook(_audit)


def _watch(monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    """Record in `opened` every file that is opened for writing from now on."""
    monkeypatch.setattr(sys.modules[__name__], "_watched", [opened])


def test_the_audit_hook_detects_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    _watch(monkeypatch, opened)
    (tmp_path / "written").write_bytes(b"")
    assert opened == [str(tmp_path / "written")]


@pytest.mark.parametrize(
    ("make", "most"),
    [
        pytest.param(_bomb, 10 << 20, id="large"),
        # 30 MB as bytes, in two copies; parsed as lists they would take 640 MB
        pytest.param(_verdicts(f"[{'[],' * 10_000_000}[]]"), 100 << 20, id="many-values"),
    ],
)
def test_a_bomb_uses_little_memory(make: Make, most: int, honest: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(make(*unpacked(honest)))
    tracemalloc.start()
    with pytest.raises(InputError):
        read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < most


def test_a_file_that_is_too_large_is_not_read_completely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_FILE_SIZE", 1 << 20)
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a sparse file of a terabyte
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read(path)


def test_a_response_may_contain_any_text(honest: Path, tmp_path: Path) -> None:
    manifest, samples = unpacked(honest)
    text = "</script>\u2028\x00\x1b[2J\u202e😀 and ordinary words.\r\n"
    samples[0]["response"] = text
    path = tmp_path / "odd.zip"
    path.write_bytes(repacked(manifest, samples))
    assert read(path).samples[0]["response"] == text
    assert len(read(path).samples) == 12


def test_the_schema_is_a_valid_json_schema() -> None:
    import jsonschema

    text = Path(archive.__file__).with_name("schema-1.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
