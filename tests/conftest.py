"""No test sees the user's keys, judge or cache, and no test waits for the network."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from longwriter_core import benchmarks
from longwriter_core.errors import InputError

# A shell that starts the tests in the background makes them ignore Ctrl-C, and every command that
# they start would inherit that. With a handler here, each command starts with the default.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The mark of a whole module that needs axolotl.
_NEEDS_AXOLOTL = re.compile(r"^pytestmark = [^\n]*(?:\n    [^\n]*)*\bmark\.axolotl\b", re.MULTILINE)

BESIDE = Path(__file__).parents[2] / "shared" / "upstream"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the modules that `-m` deselects, if importing them is slow: axolotl takes 20 seconds."""
    if collection_path.suffix != ".py" or "not axolotl" not in config.option.markexpr:
        return None
    return bool(_NEEDS_AXOLOTL.search(collection_path.read_text(encoding="utf-8"))) or None


@pytest.fixture(autouse=True, scope="session")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("LONGWRITER_JUDGE", "LONGWRITER_PR", "OPENAI_", "AGENTWRITE_")):
                patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("LONGWRITER_CACHE", str(tmp_path_factory.mktemp("cache")))
        if "LONGWRITER_ASSETS" not in os.environ:
            patch.setenv("LONGWRITER_ASSETS", str(BESIDE if BESIDE.is_dir() else _downloaded()))
        yield


def _downloaded() -> Path:
    """The folder of the downloaded upstream files; empty without a network."""
    with contextlib.suppress(InputError):
        for name in benchmarks.ASSETS:
            benchmarks.fetch(name)
    return benchmarks.location("judge.txt").parent


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def upstream(_environment: None) -> Path:
    """The folder of the upstream files; tests that need it are skipped without it."""
    folder = Path(os.environ["LONGWRITER_ASSETS"])
    if not (folder / "judge.txt").is_file():
        pytest.skip("no network, and LONGWRITER_ASSETS names no folder with upstream's files")
    return folder
