"""Upstream's files are pinned by hash, read from a folder or downloaded once, always checked."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from longwriter_core import benchmarks, files
from longwriter_core.benchmarks import ASSETS, Asset
from longwriter_core.errors import InputError
from longwriter_core.text.length import bucket

TRUE = b"$INST$ $RESPONSE$ \xe4\xbd\xa0"
NAME = "judge.txt"


class Upstream(ThreadingHTTPServer):
    """Serves `body` at every path, as `length` bytes, and counts the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body, self.length, self.requests = 200, TRUE, len(TRUE), 0


class Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.length))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    """A fake GitHub with one pinned file; LONGWRITER_ASSETS is not set."""
    monkeypatch.delenv("LONGWRITER_ASSETS", raising=False)
    monkeypatch.setitem(ASSETS, NAME, Asset(NAME, "evaluation/judge.txt", files.sha256(TRUE)))
    with Upstream() as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(Asset, "url", property(lambda self: url + self.path))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


def refusal(name: str = NAME) -> str:
    """The one-line error of reading an asset."""
    with pytest.raises(InputError) as refused:
        benchmarks.read(name)
    (line,) = str(refused.value).splitlines()
    return line


def cached() -> list[Path]:
    return [path for path in files.cache_dir().rglob("*") if path.is_file()]


# Downloads


def test_a_file_is_downloaded_once(server: Upstream) -> None:
    assert benchmarks.state(NAME) == "missing"
    assert [benchmarks.read(NAME) for _ in range(3)] == [TRUE.decode()] * 3
    assert server.requests == 1
    assert cached() == [benchmarks.location(NAME)]
    assert benchmarks.state(NAME) == "ok"


@pytest.mark.parametrize(
    ("status", "body", "length"),
    [
        pytest.param(200, b"<html>Please sign in.</html>", 28, id="other-content"),
        pytest.param(200, TRUE[:-1], len(TRUE) - 1, id="a-byte-short"),
        pytest.param(200, TRUE[:4], len(TRUE), id="connection-lost-midway"),
        pytest.param(404, b"", 0, id="not-found"),
        pytest.param(500, TRUE, len(TRUE), id="server-error"),
    ],
)
def test_a_bad_download_is_an_error_and_leaves_no_file(
    server: Upstream, status: int, body: bytes, length: int
) -> None:
    server.status, server.body, server.length = status, body, length
    assert ASSETS[NAME].url in refusal()
    assert cached() == []


@pytest.mark.usefixtures("server")
def test_without_a_network_the_error_names_both_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Asset, "url", "http://127.0.0.1:1/judge.txt")  # nothing listens there
    line = refusal()
    assert "cannot download http://127.0.0.1:1/judge.txt" in line
    assert "longwriter assets --fetch" in line
    assert f"LONGWRITER_ASSETS to a folder that holds {NAME}" in line


@pytest.mark.usefixtures("server")
def test_an_unwritable_cache_gives_a_one_line_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LONGWRITER_CACHE", str(tmp_path / "file" / "cache"))
    assert "cannot write" in refusal()
    assert "LONGWRITER_CACHE" in refusal()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("data", [b"", TRUE[:-1], TRUE + b" "], ids=["empty", "cut", "longer"])
def test_a_damaged_cache_is_an_error_and_fetching_repairs_it(data: bytes) -> None:
    path = benchmarks.fetch(NAME)
    path.write_bytes(data)
    assert benchmarks.state(NAME) == "wrong hash"
    line = refusal()
    assert f"{path} is not upstream's {NAME}" in line
    assert "longwriter assets --fetch" in line
    benchmarks.fetch(NAME)
    assert benchmarks.read(NAME) == TRUE.decode()


# A folder of files


def test_the_assets_folder_takes_precedence_over_cache_and_network(
    server: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / NAME).write_bytes(TRUE)
    monkeypatch.setenv("LONGWRITER_ASSETS", str(tmp_path))
    assert benchmarks.read(NAME) == TRUE.decode()
    assert server.requests == 0


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(None, "does not exist: LONGWRITER_ASSETS must name a folder", id="missing"),
        pytest.param(b"Give it a 5.", "is not upstream's judge.txt", id="wrong-hash"),
    ],
)
def test_an_assets_folder_without_the_right_file_is_an_error_without_a_download(
    server: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    data: bytes | None,
    complaint: str,
) -> None:
    if data is not None:
        (tmp_path / NAME).write_bytes(data)
    monkeypatch.setenv("LONGWRITER_ASSETS", str(tmp_path))
    line = refusal()
    assert str(tmp_path / NAME) in line
    assert complaint in line
    assert server.requests == 0


def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files.write_atomically(tmp_path / "f", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(tmp_path / "f", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"old")]


def test_written_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    files.write_atomically(tmp_path / "f", b"")
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "plain").stat().st_mode


# The benchmarks


@pytest.mark.parametrize("name", ASSETS)
def test_every_pinned_hash_matches_upstreams_file(upstream: Path, name: str) -> None:
    assert files.sha256((upstream / name).read_bytes()) == ASSETS[name].sha256


def counts(benchmark: str, key: str) -> dict[object, tuple[int, int]]:
    """Prompts per bucket or required length: (all, English)."""
    rows = benchmarks.read_prompts(benchmark)
    everything, english = (
        Counter(bucket(row["length"]) if key == "bucket" else row[key] for row in some)
        for some in (rows, [row for row in rows if row["language"] == "en"])
    )
    return {name: (everything[name], english[name]) for name in everything}


@pytest.mark.usefixtures("upstream")
def test_longbench_write_has_the_papers_buckets_and_languages() -> None:
    assert counts("longbench_write", "bucket") == {
        "[0,500)": (26, 17),
        "[500,2k)": (36, 20),
        "[2k,4k)": (31, 11),
        "[4k,20k]": (27, 12),
    }


@pytest.mark.usefixtures("upstream")
def test_longwrite_ruler_asks_8_instructions_at_6_lengths() -> None:
    lengths = (1000, 2000, 5000, 10_000, 20_000, 30_000)
    assert counts("longwrite_ruler", "length") == dict.fromkeys(lengths, (8, 4))


def test_the_demo_covers_all_buckets_in_both_languages_without_a_download(
    server: Upstream,
) -> None:
    found = counts("longwrite_demo", "bucket")
    assert sum(all_ for all_, _ in found.values()) == 12
    assert sum(english for _, english in found.values()) == 6
    assert len(found) == 4
    assert server.requests == 0


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize("benchmark", ["longbench_write", "longwrite_ruler", "longwrite_demo"])
def test_rows_keep_upstreams_order_and_have_unique_ids(benchmark: str) -> None:
    rows = benchmarks.read_prompts(benchmark)
    assert len({row["id"] for row in rows}) == len(rows)
    if benchmark != "longwrite_demo":
        lines = benchmarks.read(f"{benchmark}.jsonl").splitlines()
        assert [row["prompt"] for row in rows] == [json.loads(line)["prompt"] for line in lines]
