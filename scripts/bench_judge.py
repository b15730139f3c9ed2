"""Measure the judging: wall time, calls in flight, faults, reruns, import time and memory.

    python scripts/bench_judge.py [--output FILE.md]

Prints a Markdown table with a goal beside each number; exits with 1 if a goal is missed. The runs
are real `lm_eval` runs of longbench_write, in a temporary folder and with an empty cache, against
local stand-ins for writer and judge. Upstream's files must be there: `longwriter assets --fetch`,
or LONGWRITER_ASSETS. Takes about four minutes on two cores.
"""

import argparse
import json
import os
import platform
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import openai

from longwriter_eval import assets
from longwriter_eval.judge import Item, Judge
from longwriter_eval.judge_prompt import JudgePrompt
from longwriter_eval.judge_settings import JudgeSettings
from longwriter_eval.llm import run_async
from longwriter_eval.samples import Sample, load_run
from longwriter_eval.standin import JUDGE, WRITER, Faults, StandIn
from longwriter_eval.verdict import Judgement

RESPONSES, DELAY, CONCURRENCY = 120, 2.0, 32  # seconds for a verdict; calls in flight
# A page of HTML is not among them: it speaks of a wrong URL, and is not asked for again.
FAULTS = Faults(0.2, ("429", "500", "reset", "empty", "refusal", "broken_json"))
LONG_RESPONSES, LONG_WORDS = 1_000, 20_000
VOCABULARY = ("archive", "bridge", "captain", "garden", "harbour", "lantern", "market", "river")
LONGWRITER = "import sys; from longwriter_eval.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Row:
    """One line of the table; `met` is None where there is no goal."""

    what: str
    goal: str
    measured: str
    met: bool | None = None

    def __str__(self) -> str:
        mark = {None: "", True: "yes", False: "**no**"}[self.met]
        return f"| {self.what} | {self.goal} | {self.measured} | {mark} |"


@dataclass(frozen=True)
class Evaluation:
    """Runs of longbench_write that share an output folder."""

    folder: Path
    writer: StandIn
    judge: StandIn
    cache: str = "cache"

    def evaluate(self) -> None:
        """Run `lm_eval`."""
        url = f"{self.writer.base_url}/chat/completions"
        self.python(
            "-m", "lm_eval", "run", "--tasks", "longbench_write",
            "--model", "local-chat-completions", "--apply_chat_template",
            "--model_args", f"model={WRITER},base_url={url},num_concurrent=32,timeout=600",
            "--log_samples", "--output_path", str(self.folder / "run"),
        )  # fmt: skip

    def python(self, *arguments: str) -> str:
        """What this Python prints for `arguments`. Raises RuntimeError with its last words."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGWRITER_")}
        environment |= {
            "LONGWRITER_ASSETS": str(assets.location("judge.txt").parent.resolve()),
            "LONGWRITER_CACHE": str(self.folder / self.cache),
            "LONGWRITER_JUDGE_BASE_URL": self.judge.base_url,
            "LONGWRITER_JUDGE_MODEL": JUDGE,
            "LONGWRITER_JUDGE_CONCURRENCY": str(CONCURRENCY),
        }
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command} exited with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout

    def judge_calls(self) -> int:
        """Calls that have reached the judge."""
        return self.judge.stats().calls.get(JUDGE, 0)

    def samples(self) -> list[Sample]:
        """The samples of the newest results."""
        return load_run(self.folder / "run").samples

    def scores(self) -> dict[str, tuple[str, float]]:
        """Prompt id -> response and S_q."""
        return {s.id: (s.response, s.row["quality_score"]) for s in self.samples()}


def measure_speed(calm: Evaluation, log: Path) -> Iterator[Row]:
    """The judging phase of a run, and the same calls arranged as upstream's script does."""
    calm.evaluate()
    calls, most = calm.judge_calls(), calm.judge.stats().max_in_flight
    _check, start, *_ = (json.loads(line)["time"] for line in log.read_text().splitlines())
    # Until the last verdict is on disk; and, from outside, until lm_eval has written its results.
    ends = [(calm.folder / calm.cache / "calls", "*.json"), (calm.folder / "run", "results_*")]
    phase, outside = (max(p.stat().st_mtime for p in at.rglob(name)) - start for at, name in ends)
    yield Row(
        f"judging phase of `lm_eval`: {RESPONSES} responses, {DELAY:.0f} s a call",
        f"< 11 s (ideal: {-(-RESPONSES // CONCURRENCY) * DELAY:.0f} s)",
        f"{phase:.2f} s; results written after {outside:.2f} s",
        phase < 11,
    )
    yield Row(
        "its calls, and most in flight",
        f"1 check and {RESPONSES}; ≤ {CONCURRENCY}",
        f"{calls}; {most}",
        calls == 1 + RESPONSES and most <= CONCURRENCY,
    )

    prompt = JudgePrompt.load("official")
    client = openai.OpenAI(base_url=calm.judge.base_url, api_key="none", max_retries=0)

    def ask(sample: Sample) -> None:
        text, _ = prompt.render(sample.prompt, sample.response)
        client.chat.completions.create(
            model=JUDGE, messages=[{"role": "user", "content": text}], temperature=0.5
        )

    samples, begin = calm.samples(), time.perf_counter()
    with client, ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, samples))
    seconds = time.perf_counter() - begin
    yield Row("the same, arranged as upstream: 8 workers, one call each", "", f"{seconds:.2f} s")


def measure_reruns(calm: Evaluation) -> Iterator[Row]:
    """What is paid again when a finished run is scored, or made, once more."""
    first, before = calm.scores(), calm.judge_calls()
    for cache in (calm.cache, "empty cache"):
        again = replace(calm, cache=cache)
        again.python("-c", LONGWRITER, "score", str(calm.folder / "run"))
    scored, same = calm.judge_calls() - before, calm.scores() == first
    yield Row(
        "judge calls of `longwriter score` on it, with its cache and with none",
        "0, same scores",
        f"{scored}, {'same' if same else 'other'} scores",
        scored == 0 and same,
    )
    calm.evaluate()
    calls = calm.judge_calls() - before - scored
    yield Row("judge calls of the same `lm_eval` command", "1 (the check)", f"{calls}", calls == 1)


def measure_faults(folder: Path, calm: Evaluation) -> Row:
    """A run whose judge often fails, against one whose judge does not.

    The stand-in's verdict depends on the prompt alone, so equal responses get equal scores.
    """
    with StandIn(delay=0.2, faults=FAULTS) as judge:
        disturbed = Evaluation(folder, calm.writer, judge)
        disturbed.evaluate()
    expected, found = calm.scores(), disturbed.scores()
    differ = sum(found[name] != expected[name] for name in expected)
    coverage = statistics.fmean(s.row["judge_coverage"] for s in disturbed.samples())
    failed = judge.stats().faults
    counts = ", ".join(f"{kind} {count}" for kind, count in failed.items())
    return Row(
        f"{FAULTS.share:.0%} of the calls fail: coverage, and scores unlike the first run's",
        "100%, 0",
        f"{coverage:.0%}, {differ} ({disturbed.judge_calls()} calls; failed: {counts})",
        coverage == 1 and not differ and set(failed) == set(FAULTS.kinds),
    )


def measure_import() -> Row:
    """What `import longwriter_eval` adds to a bare interpreter, best of five."""
    best = {"pass": 1e9, "import longwriter_eval": 1e9}
    for code in [*best] * 5:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        best[code] = min(best[code], time.perf_counter() - start)
    added = (best["import longwriter_eval"] - best["pass"]) * 1000
    return Row("`import longwriter_eval`", "< 50 ms", f"{added:.1f} ms", added < 50)


def judge_long_responses(source: str) -> str:
    """Judge very long responses in this process; what its memory came to."""

    def draw() -> Iterator[Item]:
        for number in range(LONG_RESPONSES):
            words = random.Random(number).choices(VOCABULARY, k=LONG_WORDS)
            yield Item(str(number), "Write.", " ".join(words))

    items = draw() if source == "generator" else list(draw())
    judge, before = Judge(JudgeSettings.resolve({}, os.environ), "none"), peak_memory()
    found: list[Judgement] = []
    run_async(judge.judge(items, lambda _, judgement: found.append(judgement)))
    judged = sum(judgement.status == "judged" for judgement in found)
    return f"{before:.0f} MiB before, peak {peak_memory():.0f} MiB ({judged} judged)"


def peak_memory() -> float:
    """This process's peak resident memory so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux hands ru_maxrss down from the process that started this one
        return int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def measure(folder: Path) -> Iterator[Row]:
    """All rows, as they are measured."""
    log = folder / "judge.jsonl"
    with StandIn() as writer:
        with StandIn(delay=DELAY, log=log) as judge:
            calm = Evaluation(folder / "calm", writer, judge)
            yield from measure_speed(calm, log)
            yield from measure_reruns(calm)
        yield measure_faults(folder / "disturbed", calm)
    yield measure_import()
    for source in ("generator", "list"):
        with StandIn() as judge:
            memory = Evaluation(folder / source, judge, judge).python(__file__, "--memory", source)
        what = f"memory: judging {LONG_RESPONSES:,} responses of {LONG_WORDS:,} words, a {source}"
        yield Row(what, "stated", memory.strip())


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--memory", choices=("generator", "list"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(judge_long_responses(options.memory))
        return 0
    assets.read_prompts("longbench_write")  # raises InputError where they cannot be had
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(Path(folder)):
            print(f"{row.what}: {row.measured}", file=sys.stderr, flush=True)
            rows.append(row)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    head = [machine, "", "| what | goal | measured | met |", "|---|---|---|---|"]
    table = "\n".join([*head, *map(str, rows)]) + "\n"
    print(table, end="")
    if options.output:
        options.output.write_text(table, encoding="utf-8")
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
