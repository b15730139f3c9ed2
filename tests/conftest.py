"""No test sees the user's keys, judge or cache, and none waits for the network."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

UPSTREAM = Path(__file__).parents[2] / "shared" / "upstream"


@pytest.fixture(autouse=True, scope="session")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("LONGWRITER_JUDGE_", "OPENAI_")):
                patch.delenv(name)
        if UPSTREAM.is_dir() and "LONGWRITER_ASSETS" not in os.environ:
            patch.setenv("LONGWRITER_ASSETS", str(UPSTREAM))
        patch.setenv("LONGWRITER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def upstream(_environment: None) -> Path:
    """The folder with upstream's own files; what needs it is skipped without."""
    folder = Path(os.environ.get("LONGWRITER_ASSETS", UPSTREAM))
    if not folder.is_dir():
        pytest.skip(f"upstream's files are not in {folder}: set LONGWRITER_ASSETS")
    return folder
