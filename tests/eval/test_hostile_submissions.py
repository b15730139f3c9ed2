"""No hostile submission passes or exceeds the time and memory limits of the command."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.commands import command, environment
from support.hostile import HEAVY, HOSTILE, Make
from support.hostile_claims import CLAIMS, HEAVY_PANELS
from support.submissions import Json, repacked, submitted, unpacked

from longwriter_core.errors import InputError
from longwriter_eval.leaderboard.site import build
from longwriter_eval.submission import limits
from longwriter_eval.submission.verification import verify_file

_LIMIT_SECONDS, _LIMIT_MEMORY = 10, 500 << 20


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submitted(tmp_path_factory.mktemp("honest"))


# Runs a command in a small process of its own, because a child starts with the peak memory of its
# parent, and prints exit code, seconds of processor time and kilobytes of memory last.
_MEASURE = """
import os, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stderr=subprocess.STDOUT).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def _verify(path: Path) -> tuple[int, float, int, str]:
    """Exit code, seconds of processor time, bytes of memory and output of `longwriter verify`."""
    ended = subprocess.run(
        [sys.executable, "-S", "-c", _MEASURE, *command("longwriter"), "verify", str(path)],
        capture_output=True, env=environment(), encoding="utf-8", check=True,
    )  # fmt: skip
    *output, last = ended.stdout.splitlines()
    code, seconds, kilobytes = last.split()
    return int(code), float(seconds), int(kilobytes) << 10, "\n".join(output)


def _check(name: str, make: Make, honest: Path, folder: Path) -> None:
    path = folder / f"{name}.zip"
    path.write_bytes(make(*unpacked(honest)))
    code, seconds, memory, output = _verify(path)
    assert code in (1, 2), f"{name}: {output}"
    assert "Traceback" not in output, f"{name}: {output}"
    if path.stat().st_size < 2_000_000:  # larger files may need more
        assert seconds < _LIMIT_SECONDS, f"{name}: {seconds:.1f} s"
        assert memory < _LIMIT_MEMORY, f"{name}: {memory >> 20} MiB"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nested-objects", "words"])
def test_a_heavy_submission_is_refused_in_time(name: str, honest: Path, tmp_path: Path) -> None:
    _check(name, HEAVY[name], honest, tmp_path)


ALL = {**{name: make for name, (make, _) in HOSTILE.items()}, **HEAVY}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_no_hostile_submission_passes_or_exceeds_the_limits(
    name: str, honest: Path, tmp_path: Path
) -> None:
    _check(name, ALL[name], honest, tmp_path)


def test_the_hostile_set_has_at_least_60_files() -> None:
    assert len(ALL) >= 60


def test_an_honest_submission_is_verified_within_the_limits(honest: Path) -> None:
    code, _, _, output = _verify(honest)
    assert code == 0, output


def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_SECONDS", 0.05)


def test_exceeding_the_time_limit_is_reported(
    honest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    with pytest.raises(InputError, match=r"mine\.zip: refused: took too long"):
        verify_file(honest)


def test_the_leaderboard_refuses_a_submission_that_takes_too_long(
    honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _impatient(monkeypatch)
    (entry,) = build(honest.parent, tmp_path / "site").invalid
    assert entry["reasons"] == ["refused: took too long"]


def test_a_submission_that_needs_too_much_memory_is_refused(tmp_path: Path) -> None:
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


@pytest.mark.slow
def test_no_forged_claim_passes_or_lasts(honest: Path, tmp_path: Path) -> None:
    assert len(CLAIMS) >= 60
    accepted, slow = [], []
    for name, forge in CLAIMS.items():
        manifest, samples = unpacked(honest)
        forge(manifest, samples)
        path = tmp_path / f"{name}.zip"
        path.write_bytes(repacked(manifest, samples))
        began = time.process_time()
        try:
            problems = verify_file(path).problems
        except InputError as error:
            problems = [str(error)]
        if not problems:
            accepted.append(name)
        if time.process_time() - began > _LIMIT_SECONDS:
            slow.append(name)
    assert (accepted, slow) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY_PANELS)
def test_a_heavy_panel_is_refused_in_time(name: str, honest: Path, tmp_path: Path) -> None:
    def make(manifest: Json, samples: list[Json]) -> bytes:
        HEAVY_PANELS[name](manifest, samples)
        return repacked(manifest, samples)

    _check(name, make, honest, tmp_path)
