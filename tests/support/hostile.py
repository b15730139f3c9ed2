"""Hostile submissions, made from an honest one: invalid archives, and files slow to verify."""

import io
import random
import stat
import struct
import zipfile
from collections.abc import Callable

from support.submissions import Json, repacked, zipped

from longwriter_eval.submission.zip_file import MANIFEST, SAMPLES

_BOMB = 129 << 20  # bytes; the limit is 128 MiB
_LENGTH = 3_900_000  # characters of a response; the schema allows 4,000,000
Make = Callable[[Json, list[Json]], bytes]


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


def bomb(_: Json, __: list[Json]) -> bytes:
    return zipped(**{MANIFEST: b"{}", SAMPLES: bytes(_BOMB)})


def _undeclared_bomb(manifest: Json, samples: list[Json]) -> bytes:
    """An entry that declares 100 bytes and unpacks to far more."""
    data = bytearray(bomb(manifest, samples))
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


def _between_entries(manifest: Json, samples: list[Json]) -> bytes:
    """Bytes in front of the second entry, with every offset corrected."""
    data = repacked(manifest, samples)
    first, second = data.find(b"PK\3\4"), data.find(b"PK\3\4", 4)
    changed = bytearray(data[:second] + b"evil" + data[second:])
    directory = changed.find(b"PK\1\2")
    entry = changed.find(b"PK\1\2", directory + 4)
    assert first == 0
    struct.pack_into("<L", changed, entry + 42, second + 4)
    struct.pack_into("<L", changed, len(changed) - 6, directory)
    return bytes(changed)


def _before_directory(manifest: Json, samples: list[Json]) -> bytes:
    data = repacked(manifest, samples)
    directory = data.find(b"PK\1\2")
    changed = bytearray(data[:directory] + b"evil" + data[directory:])
    struct.pack_into("<L", changed, len(changed) - 6, directory + 4)
    return bytes(changed)


def _after_compressed_data(manifest: Json, samples: list[Json]) -> bytes:
    """Bytes after the end of the deflated data, within the entry's declared size."""
    data = repacked(manifest, samples)
    directory = data.find(b"PK\1\2")
    changed = bytearray(data[:directory] + b"evil" + data[directory:])
    struct.pack_into("<L", changed, len(changed) - 6, directory + 4)
    local = data.find(b"PK\3\4", 4)
    entry = changed.find(b"PK\1\2", directory + 8)
    (size,) = struct.unpack_from("<L", changed, local + 18)
    struct.pack_into("<L", changed, local + 18, size + 4)
    struct.pack_into("<L", changed, entry + 20, size + 4)
    return bytes(changed)


def _other_local_header(manifest: Json, samples: list[Json]) -> bytes:
    data = bytearray(repacked(manifest, samples))
    struct.pack_into("<L", data, 22, 7)  # the size in the first entry's own header
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


def verdicts(text: str) -> Make:
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
    "bomb": (bomb, f"samples.jsonl unpacks to {_BOMB} bytes"),
    "bomb-with-false-size": (_undeclared_bomb, "cannot be unpacked"),
    "encrypted": (_encrypted, "is encrypted"),
    "bytes-between-entries": (_between_entries, "data between its entries"),
    "bytes-before-the-directory": (_before_directory, "data between its entries"),
    "bytes-after-the-compressed-data": (_after_compressed_data, "has a wrong size"),
    "extra-field": (_entry(lambda e: setattr(e, "extra", b"xx\4\0evil")), "between its entries"),
    "entry-comment": (_entry(lambda e: setattr(e, "comment", b"evil")), "between its entries"),
    "two-headers": (_other_local_header, "two different headers"),
    "long-reply": (
        lambda m, s: _sample_with(verdicts=[{**s[0]["verdicts"][0], "raw": "x" * 16_385}])(m, s),
        "a judge that may write 1024 tokens writes at most 16384",
    ),
    "many-duplicate-keys": (
        verdicts("{" + "".join(f'"{n}":1,' for n in range(20_000)) + '"19999":1}'),
        "duplicate key '19999'",
    ),
    "corrupt": (_corrupt, "cannot be unpacked"),
    "not-json": (_manifest("{"), "manifest.json is not JSON"),
    "not-utf8": (_manifest(b'{"a": "\xff"}'), "is not UTF-8"),
    "utf16": (_manifest("{}".encode("utf-16")), "is not UTF-8"),
    "list": (_manifest("[]"), "is not of type 'object'"),
    "no-fields": (_manifest("{}"), "is a required property"),
    "other-schema": (
        _manifest_with("longwriter-submission/2", "longwriter-submission/9"),
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
    "number-for-text": (_manifest_with('"schema": "longwriter-submission/2"', '"schema": 1'), "1"),
    "text-for-number": (_manifest_with('"coverage": 1.0', '"coverage": "1"'), "coverage"),
    "boolean-for-number": (
        _manifest_with('"max_tokens": 1024', '"max_tokens": true'),
        "max_tokens",
    ),
    "float-for-count": (_manifest_with('"max_tokens": 1024', '"max_tokens": 1024.0'), "max_tokens"),
    "deep": (_manifest('{"a":' * 10_000 + "1" + "}" * 10_000), "nested too deeply"),
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
    "long-line": (verdicts("1" + " " * (20 << 20)), "line 1 has 209"),
    "many-values": (verdicts(f"[{'[],' * 1_000_000}[]]"), "far too many values"),
    "many-values-and-an-unterminated-string": (
        verdicts(f'[{"[]," * 1_000_000}"{chr(92)}{chr(34) * 1_000_000}'),
        "far too many values",
    ),
    "many-verdicts": (verdicts(f"[{'[],' * 20_000}[]]"), "[]] is too long"),
    "many-scores": (
        lambda m, s: _sample_with(
            verdicts=[{**s[0]["verdicts"][0], "scores": {f"{n}": 9 for n in range(10_000)}}]
        )(m, s),
        "verdicts.0.scores: {'0': 9",
    ),
    # a uniqueness check of this many mixed values would take minutes
    "many-tasks": (
        lambda m, s: repacked({**m, "tasks": [1, *map(str, range(10_000))]}, s),
        "tasks: [1, '0', '1'",
    ),
}  # fmt: skip


def _responses(part: str) -> Make:
    """Make every response repeat `part` up to the maximum length in the schema."""

    def make(manifest: Json, samples: list[Json]) -> bytes:
        text = part * (_LENGTH // len(part))
        return repacked(manifest, [{**sample, "response": text} for sample in samples])

    return make


def _replies(reply: str) -> Make:
    """Give each response 64 verdicts with this judge reply."""

    def make(manifest: Json, samples: list[Json]) -> bytes:
        changed = {**manifest, "judge": {**manifest["judge"], "repeats": 64}}
        return repacked(
            changed,
            [
                {
                    **sample,
                    "verdicts": [
                        {**sample["verdicts"][0], "raw": reply, "repeat": number}
                        for number in range(64)
                    ],
                }
                for sample in samples
            ],
        )

    return make


def _different_words(manifest: Json, samples: list[Json]) -> bytes:
    dice = random.Random(1)
    text = " ".join(f"w{chr(97 + dice.randrange(26))}{n % 5000}" for n in range(500_000))
    return repacked(manifest, [{**sample, "response": text} for sample in samples])


# Small files whose verification would take minutes or gigabytes without limits.
HEAVY: dict[str, Make] = {
    "open-braces": _replies("{" * 16_000),
    "nested-objects": _replies('{"a":' * 3200),
    "nested-lists": _replies('{"a":[' + "[" * 15_000),
    "braces-and-quotes": _replies('{"' * 8000),
    "many-objects": _replies("{}" * 8000),
    "duplicate-keys-in-a-reply": _replies("{" + '"a":1,' * 2600 + '"a":1}'),
    "long-number-in-a-reply": _replies('{"Relevance": ' + "9" * 16_000 + "}"),
    "words": _responses("a b c d e f g h i j k l "),
    "one-word": _responses("a"),
    "chinese": _responses("长文写作很难"),
    "emoji": _responses("😀 text "),
    "spaces": _responses(" "),
    "line-breaks": _responses("\n"),
    "special-tokens": _responses("<|"),
    "end-tokens": _responses("<|im_end|>"),
    "thinking": _responses("<think>"),
    "refusals": _responses("I'm sorry, unfortunately "),
    "apologies": _responses("抱歉"),
    "headings": _responses("#"),
    "quotes": _responses("\"'”’"),
    "closing-brackets": _responses(")]}"),
    "continued": _responses("[continued "),
    "combining-marks": _responses("e\u0301"),
    "nulls": _responses("\0"),
    "placeholders": _responses("$INST$$RESPONSE$"),
    "tags": _responses("</Response><Response>"),
    "different-words": _different_words,
}
