"""Measure AgentWrite: length, limited and hanging servers, speed, memory, and kills.

    python scripts/bench_agentwrite.py [--output FILE.md] [--quick]

Prints a Markdown table with a goal beside each number, and exits with 1 if a goal is missed. Every
run is the real `agentwrite run` in its own process, from start to exit, with an empty folder,
against the mock server in another process. Takes about fifteen minutes on two cores. Texts of a
million words are measured by bench_long_texts.py. `--quick` runs
every measurement with fewer instructions in two minutes; its numbers do not show whether the goals
are met.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench_studio import measure_page
from bench_table import Row, machine, print_table

from agentwrite.writing.plan import Plan
from agentwrite.writing.plan_reader import read_plan
from agentwrite.writing.prompts import Prompts
from longwriter_core.files import sha256
from longwriter_core.mock_server import WRITER, MockReply, MockServer

CONCURRENCY = 256  # calls in flight
WORDS, STEPS = 4_000, 10  # of each text, and of the plan that the mock server makes for it
CALLS = STEPS + 1  # for each text: its plan and its sections
# Seconds that a call takes, and how much longer than the ideal the run may take. The ideal is the
# time of one text's calls, which are made one after the other.
SPEED_GOALS = {2.0: 1.12, 10.0: 1.03}
PROCESSES = 8  # in upstream's arrangement
KILLS = 10


@dataclass(frozen=True)
class Server:
    """A running mock server."""

    url: str

    def stats(self) -> dict[str, Any]:
        """Calls so far: by model, finished, in_flight, max_in_flight."""
        with urllib.request.urlopen(self.url.replace("/v1", "/stats")) as response:
            stats: dict[str, Any] = json.load(response)
        return stats

    def calls(self) -> int:
        """How many calls have arrived so far."""
        return sum(self.stats()["calls"].values())


@contextlib.contextmanager
def serving(delay: float) -> Iterator[Server]:
    """A mock server in its own process."""
    command = [sys.executable, "-m", "longwriter_core.mock_server", "--delay", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield Server(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.communicate()


@dataclass(frozen=True)
class Ended:
    """A finished `agentwrite run`."""

    wall: float  # seconds
    processor: float  # seconds, user and system
    memory: float  # MiB, peak


@dataclass(frozen=True)
class Job:
    """An `agentwrite run` of `count` instructions."""

    folder: Path
    count: int
    server: Server
    concurrency: int = CONCURRENCY
    words: int = WORDS
    more: tuple[str, ...] = ()  # further arguments

    def begin(self) -> subprocess.Popen[str]:
        """Start it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "instructions.jsonl"
        rows = (
            json.dumps({"id": f"{n}", "instruction": instruction(n, self.words)})
            for n in range(self.count)
        )
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        command = [
            str(Path(sys.executable).with_name("agentwrite")), "run", str(path),
            "-o", str(self.folder / "out"), "--model", WRITER, "--base-url", self.server.url,
            "--concurrency", str(self.concurrency), *self.more,
        ]  # fmt: skip
        with (self.folder / "log").open("w") as log:
            return subprocess.Popen(command, stderr=log, stdout=log, text=True)

    def run(self) -> Ended:
        """Run it to its end; end the benchmark if it fails."""
        start = time.perf_counter()
        process = self.begin()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"agentwrite exited with {process.returncode}:\n{self.log()[-3000:]}")
        return Ended(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)

    def log(self) -> str:
        """Its output."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def rows(self) -> list[dict[str, Any]]:
        """The finished texts."""
        with (self.folder / "out" / "texts.jsonl").open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def texts(self) -> dict[str, str]:
        """Id -> hash of the text, for finished texts."""
        return {row["id"]: sha256(row["text"]) for row in self.rows()}


def instruction(number: int, words: int = WORDS) -> str:
    """An instruction for which the mock server plans a step for every 400 words."""
    return f"Write a {words}-word history of lighthouse {number}."


def measure_speed(folder: Path, count: int, fewer: int) -> Iterator[Row]:
    """Many texts at once, and some of them in upstream's arrangement for comparison."""
    for delay, limit in SPEED_GOALS.items():
        yield from measure_wall_time(folder / f"{delay:.0f}", count, delay, limit)
    delay = min(SPEED_GOALS)
    with serving(delay) as server:
        ended = Job(folder / "fewer", fewer, server).run()
        yield (
            f"wall time: {fewer} instructions, {delay:.0f} s a call",
            "",
            f"{ended.wall:.2f} s",
            None,
        )
        seconds = time_upstreams_arrangement(server, fewer)
        what = f"the same in upstream's arrangement: {PROCESSES} processes, one call each"
        yield what, "", f"{seconds:.2f} s", None


def measure_wall_time(folder: Path, count: int, delay: float, limit: float) -> Iterator[Row]:
    """One run of `count` instructions whose calls take `delay` seconds each."""
    with serving(delay) as server:
        ended = Job(folder, count, server).run()
        calls, in_flight = server.calls(), server.stats()["max_in_flight"]
    ideal = CALLS * delay
    what = f"wall time: {count} instructions of {STEPS} steps, {delay:.0f} s a call"
    goal = f"≤ {limit} × the ideal of {ideal:.0f} s"
    measured = f"{ended.wall:.2f} s = {ended.wall / ideal:.3f} × the ideal"
    yield what, goal, measured, ended.wall <= limit * ideal
    expected = (count * CALLS, min(count, CONCURRENCY))
    yield (
        "its calls; most in flight",
        f"{expected[0]:,}; {expected[1]}",
        f"{calls:,}; {in_flight}",
        (calls, in_flight) == expected,
    )
    yield (
        "its processor time per call, including the start and exit of the command",
        "",
        f"{1000 * ended.processor / calls:.2f} ms ({ended.processor:.1f} s in total)",
        None,
    )


def time_upstreams_arrangement(server: Server, count: int) -> float:
    """Seconds for all plans and then all texts, each by processes that make one call at a time."""
    numbers = range(count)
    with get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(_nothing, range(PROCESSES))  # start the processes before the measurement
        start = time.perf_counter()
        plans = pool.starmap(_plan, [(server.url, instruction(n)) for n in numbers], chunksize=1)
        chunks = [
            (server.url, instruction(n), plan) for n, plan in zip(numbers, plans, strict=True)
        ]
        pool.starmap(_write, chunks, chunksize=1)
        return time.perf_counter() - start


def _nothing(_number: int) -> None:
    """What each process does while all of them start."""


def _plan(url: str, instruction: str) -> Plan:
    prompt = Prompts.load().render("plan", inst=instruction, length="4000 words")
    plan = read_plan(_call(url, prompt))
    assert isinstance(plan, Plan)
    return plan


def _write(url: str, instruction: str, plan: Plan) -> str:
    prompts, written = Prompts.load(), ""
    for step in plan.steps:
        prompt = prompts.render(
            "write", inst=instruction, plan=plan.text, text=written, step=step.line
        )
        written += f"{_call(url, prompt)}\n\n"
    return written


def _call(url: str, prompt: str) -> str:
    body = json.dumps({"model": WRITER, "messages": [{"role": "user", "content": prompt}]})
    request = urllib.request.Request(f"{url}/chat/completions", body.encode())
    with urllib.request.urlopen(request) as response:
        answer: Any = json.load(response)
    said: str = answer["choices"][0]["message"]["content"]
    return said


def measure_memory(folder: Path, count: int) -> Row:
    """The peak memory of a long run."""
    with serving(0.1) as server:
        ended = Job(folder, count, server).run()
    what = f"peak memory: {count:,} instructions, {CONCURRENCY} calls in flight"
    per_call = ended.processor * 1000 / (count * CALLS)
    measured = f"{ended.memory:.0f} MiB; {ended.wall:.0f} s, {per_call:.2f} ms a call"
    return what, "< 500 MB", measured, ended.memory * 1.048576 < 500


def measure_kills(folder: Path, count: int) -> Iterator[Row]:
    """The calls repeated after kills at random moments, and whether any text changes."""
    concurrency, dice = 64, random.Random(42)
    with serving(0.2) as server:
        undisturbed_job = Job(folder / "undisturbed", count, server, concurrency)
        undisturbed_job.run()
        undisturbed = server.calls()
    with serving(0.2) as server:
        job = Job(folder / "killed", count, server, concurrency)
        in_flight = kills = 0
        for _ in range(KILLS):
            begun = server.calls()
            process = job.begin()
            while server.calls() == begun and process.poll() is None:
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 0.6))
            if process.poll() is not None:
                break
            in_flight += server.stats()["in_flight"]
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        job.run()
        repeated = server.calls() - undisturbed
    what = f"kill −9 at a random moment, {KILLS} times, then a run to the end: repeated calls"
    goal = f"≤ {KILLS * concurrency}, {concurrency} in flight at each kill"
    measured = f"{repeated} ({in_flight} were in flight at the server; {undisturbed:,} undisturbed)"
    yield what, goal, measured, kills == KILLS and repeated <= KILLS * concurrency
    expected, texts = undisturbed_job.texts(), job.texts()
    differ = sum(texts.get(id) != hash for id, hash in expected.items())
    yield (
        "texts that differ from an undisturbed run's; texts",
        f"0; {count}",
        (f"{differ}; {len(texts)}"),
        not differ and len(texts) == count,
    )


def measure_length(folder: Path, lengths: Iterable[int]) -> Iterator[Row]:
    """Texts of writers that always write too much or too little."""
    for habit, factor in (("long", 1.4), ("short", 0.6)):
        for words in lengths:
            with MockServer(habits=[habit], keep_history=False) as mock:
                job = Job(folder / f"{habit} {words}", 1, Server(mock.base_url), words=words)
                job.run()
            (row,) = job.rows()
            asks = sum(section["asks"] for section in row["sections"])
            off = row["words"] / words - 1
            yield (
                f"length: {words:,} words of a writer that writes {factor} times its targets; "
                "calls per section",
                "within 5%; ≤ 1.1",
                f"{row['words']:,} ({off:+.1%}); {asks / len(row['sections']):.2f}",
                abs(off) <= 0.05 and asks <= 1.1 * len(row["sections"]),
            )


def measure_limited_server(folder: Path, count: int, per_second: int = 10) -> Row:
    """Many texts at a server that takes few requests a second."""
    with MockServer(calls_per_minute=per_second, minute=1.0, keep_history=False) as mock:
        job = Job(folder, count, Server(mock.base_url), words=800)
        ended = job.run()
        calls = job_calls(mock)
    failed = count - len(job.rows())
    return (
        f"{count} texts at a server of {per_second} requests a second: texts that failed",
        "0",
        f"{failed}; {calls} calls in {ended.wall:.0f} s (at best {calls / per_second:.0f} s)",
        not failed,
    )


def measure_hanging_url(folder: Path, count: int, timeout: float = 10.0) -> Row:
    """Texts at two URLs, of which the second accepts calls and never answers."""
    hang = MockReply(fault="hang")
    with (
        MockServer(delay=0.5, keep_history=False) as mock,
        MockServer(on_request=lambda _request: hang, keep_history=False) as hanging,
    ):
        alone = Job(folder / "alone", count, Server(mock.base_url)).run().wall
        more = ("--base-url", hanging.base_url, "--timeout", str(timeout))
        job = Job(folder / "both", count, Server(mock.base_url), more=more)
        wall = job.run().wall
    lost = wall - alone
    return (
        f"{count} texts at two URLs, of which the second hangs; --timeout {timeout:.0f}: time lost",
        f"one timeout: ≤ {timeout + 3:.0f} s",
        f"{lost:.1f} s ({job_calls(hanging)} calls reached it, all at the start)",
        lost <= timeout + 3 and len(job.rows()) == count,
    )


def job_calls(server: MockServer) -> int:
    """How many calls a server in this process has taken."""
    return sum(server.stats().calls.values())


def measure(folder: Path, quick: bool) -> Iterator[Row]:
    """All rows, as they are measured."""
    yield from measure_length(folder / "length", [5_000] if quick else [5_000, 20_000, 100_000])
    yield measure_limited_server(folder / "limited", 32 if quick else 256)
    yield measure_hanging_url(folder / "hanging", 16 if quick else 64)
    yield from measure_speed(folder / "speed", 64 if quick else 256, 8 if quick else 32)
    yield from measure_kills(folder / "kills", 128 if quick else 256)
    yield measure_memory(folder / "memory", 300 if quick else 6_000)
    if chromium := shutil.which("chromium"):
        yield from measure_page(folder / "studio", chromium, 20_000 if quick else 100_000)


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--quick", action="store_true", help="fewer instructions")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options.quick)
        return print_table(rows, machine(f"openai {version('openai')}"), options.output)


if __name__ == "__main__":
    sys.exit(main())
