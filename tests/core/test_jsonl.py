"""JSONL files: what is written is read back, and every bad line is named."""

from pathlib import Path
from typing import Any

import pytest

from longwriter_core.errors import InputError
from longwriter_core.jsonl import (
    append_jsonl,
    drop_torn_line,
    read_jsonl,
    scan_jsonl,
    write_jsonl,
)

ROWS: list[dict[str, Any]] = [{"id": "1", "text": "潮汐\u2028 tide"}, {"id": "2", "text": "\ud83d"}]


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


def test_written_rows_are_read_back_even_with_lone_surrogates(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "new" / "a.jsonl", ROWS)
    assert rows(tmp_path / "new" / "a.jsonl") == ROWS
    for row in ROWS:
        append_jsonl(tmp_path / "b.jsonl", row)
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "new" / "a.jsonl").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    with pytest.raises(TypeError):
        write_jsonl(tmp_path / "a.jsonl", [{"id": "3"}, {"id": object()}])
    assert rows(tmp_path / "a.jsonl") == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_blank_lines_count_as_lines_and_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"a": 1}\n\n  \n{"b": 2}', encoding="utf-8")
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (4, {"b": 2})]
    assert [line.offset for line in scan_jsonl(path)] == [0, 16]
    assert [line.is_complete for line in scan_jsonl(path)] == [True, False]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param(b'{"a": ', r"not JSON \(Expecting value at column 6\)", id="cut"),
        pytest.param(b"[1]", "not a JSON object", id="list"),
        pytest.param(b'{"a": "\xff"}', "not UTF-8", id="latin-1"),
        pytest.param(b"[" * 100_000, "not JSON", id="deep-nesting"),
        pytest.param(b'{"a": %s}' % (b"9" * 5_000), "not JSON", id="huge-number"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(InputError, match=rf"a\.jsonl, line 2: {problem}"):
        rows(path)
    assert [bool(each.problem) for each in scan_jsonl(path)] == [False, True, False]


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone\.jsonl: No such file"):
        rows(tmp_path / "gone.jsonl")


@pytest.mark.parametrize("torn", [b'{"id": ', b"x" * 200_000], ids=["short", "long"])
def test_a_torn_last_line_can_be_dropped(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    drop_torn_line(path)  # without a file, this does nothing
    write_jsonl(path, ROWS)
    path.write_bytes(path.read_bytes() + torn)
    drop_torn_line(path)
    assert rows(path) == ROWS
