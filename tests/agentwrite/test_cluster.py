"""`--engine ray`: the same rows as without Ray, even after kills, and no call is made twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.commands import command, environment
from support.judging import JUDGE_OPTIONS
from support.model import WRITER, Model

from agentwrite.cli.main import main
from agentwrite.errors import WriteError

pytestmark = [pytest.mark.ray, pytest.mark.slow]
needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")
CONCURRENCY = 6
OPEN = {"RAY_AUTH_MODE": "disabled"}  # on this machine alone; Ray would look for a token at home


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator["RayCluster"]:
    """A cluster with two workers: Ray's own processes, as `ray start` starts them."""
    folder = tmp_path_factory.mktemp("ray")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
            "--num-cpus=2", "--port=0",
            "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}",
        ],
        env=environment(**OPEN),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout
    address = ""
    for line in process.stdout:
        if found := re.search(r"--address='([^']+)'", line):
            address = found[1]
        if "--block" in line:  # the last paragraph: all is up
            break
    assert address
    yield RayCluster(address, process.pid)
    process.terminate()
    process.communicate(timeout=30)


class RayCluster:
    """Where it is, and the processes of its workers."""

    def __init__(self, address: str, pid: int) -> None:
        self.address, self.pid = address, pid

    def workers(self) -> list[int]:
        """Process ids of our workers: below `ray start`, and in the session that it began."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                name = (folder / "cmdline").read_bytes()
                if name.startswith(b"ray::_Worker") and os.getsid(int(folder.name)) == self.pid:
                    found.append(int(folder.name))
            except OSError:  # it has just ended
                continue
        return found


def instructions(folder: Path, rows: int = 10) -> Path:
    path = folder / "instructions.jsonl"
    lines = [
        json.dumps({"id": f"tea-{n}", "instruction": f"Write 2000 words on tea {n}."})
        for n in range(rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def arguments(path: Path, output: Path, server: Model, *more: str) -> list[str]:
    return [
        "run", str(path), "-o", str(output), "--model", WRITER, "--base-url", server.base_url,
        "--concurrency", str(CONCURRENCY), *more,
    ]  # fmt: skip


def begin(cluster: "RayCluster", given: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("agentwrite", *given, "--engine", "ray", "--ray-address", cluster.address),
        env=environment(**OPEN),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(calls: int, server: Model, process: subprocess.Popen[str]) -> None:
    while len(server.prompts) < calls:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@needs_ray
def test_a_lost_worker_loses_only_its_calls_in_flight(cluster: RayCluster, tmp_path: Path) -> None:
    path = instructions(tmp_path)
    with Model() as server:
        assert main(arguments(path, tmp_path / "alone", server)) == 0
        undisturbed = len(server.prompts)
    with Model(delay=0.2) as server:
        process = begin(cluster, arguments(path, tmp_path / "ray", server))
        wait_for(25, server, process)
        both = cluster.workers()
        os.kill(both[0], signal.SIGKILL)
        printed = process.communicate(timeout=120)[0]
    assert process.returncode == 0, printed
    assert len(both) == 2
    assert "a worker was lost; its texts continue on another" in printed
    assert rows_of(tmp_path / "ray" / "texts.jsonl") == rows_of(tmp_path / "alone" / "texts.jsonl")
    assert server.stats().max_in_flight <= CONCURRENCY
    assert undisturbed <= len(server.prompts) <= undisturbed + CONCURRENCY // 2


@needs_ray
def test_a_killed_run_resumes_with_and_without_ray(cluster: RayCluster, tmp_path: Path) -> None:
    path, out = instructions(tmp_path), tmp_path / "out"
    with Model(delay=0.2) as server:
        process = begin(cluster, arguments(path, out, server))
        wait_for(20, server, process)
        process.kill()
        process.communicate()
        process = begin(cluster, arguments(path, out, server, "--limit", "4"))
        printed = process.communicate(timeout=120)[0]
        assert process.returncode == 0, printed
        assert "4 of 4 texts" in printed
        assert main(arguments(path, out, server)) == 0
        paid = len(server.prompts)
        assert main(arguments(path, out, server)) == 0
        assert len(server.prompts) == paid
    assert len(rows_of(out / "texts.jsonl")) == 10
    assert paid <= 10 * 6 + CONCURRENCY


@needs_ray
def test_failures_keep_their_reasons_and_no_key_is_stored(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTWRITE_API_KEY", "sk-never-to-be-seen")
    path, out = instructions(tmp_path, 3), tmp_path / "out"

    def failing(prompt: str) -> Any:
        return "I'm sorry, but I can't help with that." if "tea 1." in prompt else None

    with Model(answer=failing, api_key="sk-never-to-be-seen") as server:
        process = begin(cluster, arguments(path, out, server))
        printed = process.communicate(timeout=120)[0]
    assert process.returncode == 1, printed
    assert "refused 1" in printed
    (failure,) = rows_of(out / "failed.jsonl").values()
    assert (failure["id"], failure["reason"], failure["place"]) == ("tea-1", "refused", "plan")
    assert len(rows_of(out / "texts.jsonl")) == 2
    logs = [file for file in tmp_path.parent.glob("ray*/**/*") if file.is_file()]
    assert logs
    for file in (*logs, *(file for file in out.rglob("*") if file.is_file())):
        assert b"sk-never-to-be-seen" not in file.read_bytes()


@needs_ray
def test_a_wrong_key_ends_the_run_with_one_line(cluster: RayCluster, tmp_path: Path) -> None:
    with Model(api_key="another") as server:
        process = begin(cluster, arguments(instructions(tmp_path), tmp_path / "out", server))
        printed = process.communicate(timeout=120)[0]
    assert process.returncode == 2, printed
    assert "Incorrect API key" in printed.splitlines()[-1]
    assert not (tmp_path / "out" / "failed.jsonl").exists()


@needs_ray
def test_work_that_kills_every_worker_ends_the_run(cluster: RayCluster, tmp_path: Path) -> None:
    with Model(delay=60) as server:
        process = begin(cluster, arguments(instructions(tmp_path), tmp_path / "out", server))
        while process.poll() is None:
            for worker in cluster.workers():
                os.kill(worker, signal.SIGKILL)
            time.sleep(0.1)
        printed = process.communicate()[0]
    assert process.returncode == 2, printed
    assert "3 workers in a row were lost" in printed


@needs_ray
def test_an_unreachable_address_gives_one_line_immediately(tmp_path: Path) -> None:
    with Model() as server:
        nobody = RayCluster("127.0.0.1:1", 0)
        process = begin(nobody, arguments(instructions(tmp_path), tmp_path / "out", server))
        printed = process.communicate(timeout=30)[0]
    assert process.returncode == 2
    (line,) = printed.splitlines()
    assert line.startswith("agentwrite: error: no Ray cluster at 127.0.0.1:1: ")


PROGRESS_FAILS = """
import sys
from pathlib import Path
from agentwrite.batch.ray import Cluster
from agentwrite.batch.run import run
from agentwrite.settings import Settings

def progress(tally):
    if tally.sections:
        raise OSError("the terminal is gone")

settings = Settings.resolve(model=sys.argv[1], base_urls=(sys.argv[2],), concurrency=6)
run(Path(sys.argv[3]), Path(sys.argv[4]), settings, cluster=Cluster(sys.argv[5]), progress=progress)
"""


@needs_ray
def test_an_error_in_this_process_ends_the_run_instead_of_hanging(
    cluster: RayCluster, tmp_path: Path
) -> None:
    path, out = instructions(tmp_path), tmp_path / "out"
    with Model() as server:
        ended = subprocess.run(
            [
                *(sys.executable, "-c", PROGRESS_FAILS),
                *(WRITER, server.base_url, str(path), str(out), cluster.address),
            ],
            env=environment(**OPEN),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("OSError: the terminal is gone")


@needs_ray
def test_answers_are_sampled_and_judged_as_without_ray(cluster: RayCluster, tmp_path: Path) -> None:
    path = instructions(tmp_path, 2)
    given = ["dpo", str(path), "--samples", "2", "--no-benchmark-check", "--min-margin", "0"]
    with Model() as server:
        given += ["--model", WRITER, *JUDGE_OPTIONS, "--judge-prompt", "longwriter"]
        given += ["--base-url", server.base_url, "--judge-base-url", server.base_url]
        alone, spread = tmp_path / "alone.jsonl", tmp_path / "ray.jsonl"
        assert main([*given, "-o", str(alone)]) == 0
        process = begin(cluster, [*given, "-o", str(spread)])
        printed = process.communicate(timeout=120)[0]
    assert process.returncode == 0, printed
    samples = "samples.jsonl"
    assert rows_of(tmp_path / "ray.run" / samples) == rows_of(tmp_path / "alone.run" / samples)
    assert spread.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--engine", "ray"], "needs Ray: install"),
        (["--ray-address", "host:6379"], "--ray-address is for --engine ray"),
    ],
)
def test_unsupported_cluster_options_give_one_clear_line(
    more: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with Model() as server:
        assert main(arguments(instructions(tmp_path), tmp_path / "out", server, *more)) == 2
        assert not server.prompts
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line


def test_a_failure_is_the_same_in_another_process() -> None:
    import pickle

    error = WriteError("cut", "at 9 tokens", "plan", is_fatal=True)
    other = pickle.loads(pickle.dumps(error))
    assert (str(other), vars(other)) == (str(error), vars(error))
