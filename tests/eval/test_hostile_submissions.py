"""No hostile submission passes, lasts, or takes much memory: measured on the command itself."""

import os
import subprocess
import threading
from pathlib import Path

import pytest
from support.commands import command, environment
from support.hostile import HEAVY, HOSTILE, Make
from support.submissions import submitted, unpacked

from longwriter_core.errors import InputError
from longwriter_eval.leaderboard.site import build
from longwriter_eval.submission import limits
from longwriter_eval.submission.verification import verify_file

_LIMIT_SECONDS, _LIMIT_MEMORY = 10, 500 << 20


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submitted(tmp_path_factory.mktemp("honest"))


def _verify(path: Path) -> tuple[int, float, int, str]:
    """Exit code, seconds of processor time, bytes of memory and output of `longwriter verify`."""
    process = subprocess.Popen(
        [*command("longwriter"), "verify", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), encoding="utf-8",
    )  # fmt: skip
    assert process.stdout
    with process.stdout as stream:
        output = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10, output


def _check(name: str, make: Make, honest: Path, folder: Path) -> None:
    path = folder / f"{name}.zip"
    path.write_bytes(make(*unpacked(honest)))
    code, seconds, memory, output = _verify(path)
    print(f"{name}: {path.stat().st_size} bytes, {seconds:.1f} s, {memory >> 20} MiB: {output}")
    assert code in (1, 2), f"{name}: {output}"
    assert "Traceback" not in output, f"{name}: {output}"
    assert path.stat().st_size < 2_000_000 or name == "too-large"
    assert seconds < _LIMIT_SECONDS, f"{name}: {seconds:.1f} s"
    assert memory < _LIMIT_MEMORY, f"{name}: {memory >> 20} MiB"


@pytest.mark.parametrize("name", ["nested-objects", "words"])
def test_a_heavy_submission_is_refused_in_time(name: str, honest: Path, tmp_path: Path) -> None:
    _check(name, HEAVY[name], honest, tmp_path)


ALL = {**{name: make for name, (make, _) in HOSTILE.items()}, **HEAVY}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_no_hostile_submission_passes_or_lasts(name: str, honest: Path, tmp_path: Path) -> None:
    _check(name, ALL[name], honest, tmp_path)


def test_the_hostile_set_has_at_least_60_files() -> None:
    assert len(ALL) >= 60


def test_an_honest_submission_is_verified_within_the_limits(honest: Path) -> None:
    code, _, _, output = _verify(honest)
    assert code == 0, output


def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_SECONDS", 0.05)


def test_what_takes_too_long_says_so(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _impatient(monkeypatch)
    with pytest.raises(InputError, match=r"mine\.zip: refused: took too long"):
        verify_file(honest)


def test_the_leaderboard_refuses_what_takes_too_long(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    (entry,) = build(honest.parent, tmp_path / "site").invalid
    assert entry["reasons"] == ["refused: took too long"]


def test_what_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    with pytest.raises(InputError, match="needs too much memory"), limits.limited(path):
        bytearray(1 << 30)


def test_outside_the_main_thread_there_is_no_time_limit(tmp_path: Path) -> None:
    finished: list[bool] = []

    def work() -> None:
        with limits.limited(tmp_path / "none.zip"):
            finished.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert finished == [True]
