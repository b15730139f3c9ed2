"""Measure texts of up to a million words within a context of 128K tokens.

    python scripts/bench_long_texts.py [--output FILE.md] [--words 100000 …] [--points 18 …]

For each length and each length of the plan's main points: the calls, the tokens, and the largest
prompt of the real `agentwrite write` command against a mock server that refuses longer prompts and
has a prefix cache. The longest text is then written again, with 5 kills at random moments, and
compared. Exits with 1 if a goal is missed. Takes about 25 minutes on two cores.

Tokens are estimated as one for every four characters.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_table import Row, machine, print_table

from agentwrite.writing.context import estimate_tokens
from longwriter_core.files import sha256
from longwriter_core.mock_server import WRITER, MockReply, MockRequest, MockServer
from longwriter_core.mock_server.messages import error_reply
from longwriter_core.mock_server.prefix_cache import PrefixCache
from longwriter_core.mock_server.prose import prose

CONTEXT = 131_072  # tokens
MAX_TOKENS = 4_096
KILLS = 5


@dataclass
class Calls:
    """What the server has answered."""

    points: int  # words of each main point
    kinds: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    largest: int = 0  # prompt, in tokens
    prompt: int = 0  # tokens
    cached: int = 0
    completion: int = 0
    _prefixes: PrefixCache = field(default_factory=PrefixCache)

    def answer(self, request: MockRequest) -> MockReply | str | None:
        """The reply to a request: the mock writer's own, with longer main points in plans."""
        if not request.is_chat:
            return None
        tokens = estimate_tokens(request.prompt)
        if tokens + MAX_TOKENS > CONTEXT:
            self.refused += 1
            return error_reply(400, "context_length_exceeded", "The prompt is too long.")
        kind = "section"
        answer = request.answer()
        if request.schema:
            kind, answer = "plan", self._plan(answer)
        elif request.prompt.startswith("A long text is being written"):
            kind, answer = "summary", prose(random.Random(request.digest).randint(400, 500))
        self.kinds[kind] += 1
        self.largest = max(self.largest, tokens)
        self.prompt += tokens
        self.cached += self._prefixes.look_up(request.prompt) // 4
        self.completion += estimate_tokens(answer)
        return answer

    def _plan(self, answer: str) -> str:
        plan: dict[str, Any] = json.loads(answer)
        for number, step in enumerate(plan["steps"]):
            step["main_point"] = prose(self.points, seed=number).replace("\n", " ")
        return json.dumps(plan)


@dataclass(frozen=True)
class Job:
    """`agentwrite write` of one text."""

    folder: Path
    words: int
    base_url: str

    def begin(self) -> subprocess.Popen[str]:
        """Start it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            str(Path(sys.executable).with_name("agentwrite")), "write",
            f"Write a history of lighthouses in {self.words} words.",
            "-o", str(self.folder / "text.md"), "--model", WRITER, "--base-url", self.base_url,
            "--context", str(CONTEXT), "--max-tokens", str(MAX_TOKENS),
        ]  # fmt: skip
        environment = {**os.environ, "LONGWRITER_CACHE": str(self.folder / "cache")}
        with (self.folder / "log").open("w") as log:
            return subprocess.Popen(command, stderr=log, stdout=log, text=True, env=environment)

    def run(self) -> tuple[float, float]:
        """Run it to its end; returns its processor time in seconds and its peak memory in MiB."""
        process = self.begin()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log = (self.folder / "log").read_text(encoding="utf-8")
            sys.exit(f"agentwrite exited with {process.returncode}:\n{log[-3000:]}")
        return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024

    def text(self) -> str:
        """The text that it wrote."""
        return (self.folder / "text.md").read_text(encoding="utf-8")

    def written(self) -> int:
        """The words of the text, as its book counts them."""
        book = json.loads((self.folder / "text.book" / "book.json").read_text(encoding="utf-8"))
        return int(book["words"])


def measure(folder: Path, lengths: list[int], points: list[int]) -> Iterator[Row]:
    """All rows, as they are measured."""
    for words in lengths:
        for size in points:
            calls = Calls(size)
            with MockServer(on_request=calls.answer, keep_history=False) as server:
                job = Job(folder / f"{words} {size}", words, server.base_url)
                seconds, memory = job.run()
            yield from rows_of(job, size, calls, seconds, memory)
    yield from measure_kills(folder / "killed", max(lengths), points[-1], job)


def rows_of(job: Job, points: int, calls: Calls, seconds: float, memory: float) -> Iterator[Row]:
    """The rows of one text."""
    what = f"{job.words:,} words, main points of {points}"
    kinds, per_call = calls.kinds, 1000 * seconds / calls.kinds.total()
    yield (
        f"{what}: calls",
        "≤ 1.1 per section, besides plans and summaries",
        f"{kinds['section']:,} sections, {kinds['plan']} plans, {kinds['summary']} summaries",
        kinds["section"] <= 1.1 * len(list((job.folder / "text.book/sections").iterdir())),
    )
    goal = f"{CONTEXT - MAX_TOKENS:,}"
    measured = f"{calls.largest:,}; {calls.refused}"
    yield f"{what}: largest prompt; refused", f"≤ {goal}; 0", measured, not calls.refused
    fresh = calls.prompt - calls.cached
    measured = (
        f"{calls.prompt / 1e6:.1f}M prompt, of which {fresh / 1e6:.1f}M not cached; "
        f"{calls.completion / 1e6:.2f}M completion"
    )
    yield f"{what}: tokens", "", measured, None
    off = job.written() / job.words - 1
    measured = f"{job.written():,} ({off:+.1%}); {per_call:.1f} ms a call, {memory:.0f} MiB"
    yield f"{what}: words; processor time; memory", "within 5%", measured, abs(off) <= 0.05


def measure_kills(folder: Path, words: int, points: int, undisturbed: Job) -> Iterator[Row]:
    """The same text again, with kills at random moments."""
    calls, dice = Calls(points), random.Random(42)
    kills = 0
    with MockServer(on_request=calls.answer, keep_history=False) as server:
        job = Job(folder, words, server.base_url)
        for _ in range(KILLS):
            begun = calls.kinds.total()
            process = job.begin()
            while calls.kinds.total() == begun and process.poll() is None:
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 6))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.wait()
        job.run()
    own = len(list((undisturbed.folder / "text.book/sections").iterdir()))
    repeated = calls.kinds["section"] - own
    is_same = sha256(job.text()) == sha256(undisturbed.text())
    yield (
        f"{words:,} words, kill −9 at a random moment, {KILLS} times: text; repeated sections",
        f"the same; ≤ {KILLS}",
        f"{'the same' if is_same else 'another'}; {repeated}",
        kills == KILLS and is_same and repeated <= KILLS,
    )


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--words", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--points", type=int, nargs="+", default=[18, 45])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options.words, options.points)
        return print_table(rows, machine(), options.output)


if __name__ == "__main__":
    sys.exit(main())
