"""Hostile archives are refused with a reason, and nothing in them is written to disk."""

import json
import os
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from support.hostile import HOSTILE, Make, bomb, verdicts
from support.submissions import repacked, submitted, unpacked

from longwriter_core.errors import InputError
from longwriter_eval.submission import archive, zip_file
from longwriter_eval.submission.archive import read


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submitted(tmp_path_factory.mktemp("honest"))


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
        pytest.param(bomb, 10 << 20, id="large"),
        # 30 MB as bytes, in two copies; parsed as lists they would take 640 MB
        pytest.param(verdicts(f"[{'[],' * 10_000_000}[]]"), 100 << 20, id="many-values"),
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
    for module in (archive, zip_file):
        monkeypatch.setattr(module, "MAX_FILE_SIZE", 1 << 20)
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


@pytest.mark.parametrize("version", [1, 2])
def test_the_schema_is_a_valid_json_schema(version: int) -> None:
    import jsonschema

    text = Path(archive.__file__).with_name(f"schema-{version}.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
