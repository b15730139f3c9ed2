"""The zip file of a submission: written deterministically, and read even if it is hostile.

It holds two files and nothing else. It is read in memory, within limits, and nothing is written to
disk.
"""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping

from longwriter_core.errors import InputError
from longwriter_core.text.printable import printable

MANIFEST, SAMPLES = "manifest.json", "samples.jsonl"

# Limits in bytes. 120 responses of 32,768 tokens are about 25 MB. The compression ratio has no
# limit, because repetitive text, which models do write, compresses a thousand to one.
MAX_FILE_SIZE = 64 << 20
_MAX_ENTRY_SIZES = {MANIFEST: 1 << 20, SAMPLES: 128 << 20}
_MAX_DIRECTORY_SIZE = 1 << 12

_END, _END_64, _END_SIZE = b"PK\5\6", b"PK\6\7", 22
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_DIRECTORY_HEADER_SIZE = 46


def pack_files(contents: Mapping[str, str]) -> bytes:
    """A zip of these files; deterministic, so that equal submissions have equal hashes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in contents.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, also when packed on Windows
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text.encode())
    return buffer.getvalue()


def unpack_files(data: bytes) -> dict[str, bytes]:
    """The contents of the two files in the zip. Sizes are checked before anything is read.

    Raises InputError with the reason if the zip is refused.
    """
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
