"""Measure the judging: wall time, batches, limited accounts, faults, reruns, import, memory.

    python scripts/bench_judge.py [--output FILE.md]

Prints a Markdown table with a goal beside each number, and exits with 1 if a goal is missed. The
runs are real `lm_eval` runs of longbench_write, in a temporary folder and with an empty cache,
against mock servers for writer and judge. Needs the upstream files (`longwriter assets --fetch`, or
LONGWRITER_ASSETS) and Linux. Takes eight minutes on two cores, three of them for a judge that
may be asked 30 times a minute.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import openai
from bench_table import Row, machine, print_table

from longwriter_core import benchmarks
from longwriter_core.errors import InputError
from longwriter_core.llm import Store, run_async
from longwriter_core.mock_server import JUDGE, WRITER, Faults, MockServer
from longwriter_core.mock_server.server import THINKING_JUDGE
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.judge.settings import JudgeSettings
from longwriter_eval.judge.verdict import Item, Judgement
from longwriter_eval.runs import Sample, load_run

RESPONSES, DELAY, CONCURRENCY = 120, 2.0, 32  # delay: seconds per verdict
# HTML pages are left out: they mean that the URL is wrong, so such a call is not retried.
FAULTS = Faults(0.2, ("429", "500", "reset", "empty", "refusal", "broken_json"))
LONG_RESPONSES, LONG_WORDS = 1_000, 20_000
THINKING_DELAY, THOUGHT = 5.0, 500  # seconds and tokens of a thinking judge
BATCH_SECONDS = 10.0
CALLS_PER_MINUTE = 30


@dataclass(frozen=True)
class Evaluation:
    """`lm_eval` runs of longbench_write that share an output folder."""

    folder: Path
    writer: MockServer
    judge: MockServer
    cache: str = "cache"

    def evaluate(self) -> None:
        """Generate, judge and log."""
        url = f"{self.writer.base_url}/chat/completions"
        self.python(
            "-m", "lm_eval", "run", "--tasks", "longbench_write",
            "--model", "local-chat-completions", "--apply_chat_template",
            "--model_args", f"model={WRITER},base_url={url},num_concurrent=32,timeout=600",
            "--log_samples", "--output_path", str(self.folder / "run"),
        )  # fmt: skip

    def python(self, *arguments: str) -> str:
        """The output of this Python with `arguments`; ends the benchmark if it fails."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGWRITER_")}
        environment |= {
            "LONGWRITER_ASSETS": str(benchmarks.location("judge.txt").parent.resolve()),
            "LONGWRITER_CACHE": str(self.folder / self.cache),
            "LONGWRITER_JUDGE_BASE_URL": self.judge.base_url,
            "LONGWRITER_JUDGE_MODEL": JUDGE,
            "LONGWRITER_JUDGE_CONCURRENCY": str(CONCURRENCY),
            **{f"LONGWRITER_JUDGE_{name.upper()}": THINKING_JUDGE[name] for name in THINKING_JUDGE},
        }
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{command} exited with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout

    def scores(self) -> dict[str, tuple[str, float]]:
        """Prompt id -> response and S_q, of the newest results."""
        samples = load_run(self.folder / "run").samples
        return {sample.id: (sample.response, sample.row["quality_score"]) for sample in samples}


def measure_speed(undisturbed: Evaluation, log: Path) -> Iterator[Row]:
    """The judging phase of a run, and the same calls arranged as in upstream's script."""
    undisturbed.evaluate()
    stats = undisturbed.judge.stats()
    _check, start, *_ = (json.loads(line)["time"] for line in log.read_text().splitlines())
    # Time until the last verdict is on disk, and time until lm_eval has written its results.
    ends = [
        (undisturbed.folder / undisturbed.cache / "calls", "*.json"),
        (undisturbed.folder / "run", "results_*"),
    ]
    phase, outside = (max(p.stat().st_mtime for p in at.rglob(name)) - start for at, name in ends)
    what = f"judging phase of `lm_eval`: {RESPONSES} responses, {DELAY:.0f} s a call"
    ideal = -(-RESPONSES // CONCURRENCY) * DELAY
    goal = f"< {1.1 * ideal:.1f} s (ideal: {ideal:.0f} s)"
    yield what, goal, f"{phase:.2f} s; results written after {outside:.2f} s", phase < 1.1 * ideal
    goal, measured = f"{RESPONSES + 1}; ≤ {CONCURRENCY}", f"{stats.finished}; {stats.max_in_flight}"
    met = stats.finished == RESPONSES + 1 and stats.max_in_flight <= CONCURRENCY
    yield "its calls, including the preflight request; most in flight", goal, measured, met
    seconds = time_eight_workers(load_run(undisturbed.folder / "run").samples, undisturbed.judge)
    yield (
        "the same in upstream's arrangement: 8 workers, one call each",
        "",
        f"{seconds:.2f} s",
        None,
    )


def time_eight_workers(samples: list[Sample], judge: MockServer) -> float:
    """Seconds that upstream's arrangement of the calls takes."""
    prompt = JudgePrompt.load("official")
    client = openai.OpenAI(base_url=judge.base_url, api_key="none", max_retries=0)

    def ask(sample: Sample) -> None:
        text, _ = prompt.render(sample.prompt, sample.response)
        client.chat.completions.create(model=JUDGE, messages=[{"role": "user", "content": text}])

    start = time.perf_counter()
    with client, ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, samples))
    return time.perf_counter() - start


def measure_reruns(undisturbed: Evaluation) -> Iterator[Row]:
    """The calls that are paid for again when a finished run is scored or repeated."""
    first, before = undisturbed.scores(), undisturbed.judge.stats().finished
    command = [
        str(Path(sys.executable).with_name("longwriter")),
        "score",
        str(undisturbed.folder / "run"),
    ]
    for cache in (undisturbed.cache, "empty cache"):
        replace(undisturbed, cache=cache).python(*command)
    scored, scores = undisturbed.judge.stats().finished - before, undisturbed.scores()
    what = (
        "judge calls of `longwriter score` on it, with its cache and with none; scores that change"
    )
    moved = sum(scores[name] != first[name] for name in first)
    yield what, "0; 0", f"{scored}; {moved}", scored == moved == 0
    undisturbed.evaluate()
    calls = undisturbed.judge.stats().finished - before - scored
    yield (
        "judge calls of the same `lm_eval` command",
        "1, the preflight request",
        f"{calls}",
        calls == 1,
    )


def measure_faults(folder: Path, undisturbed: Evaluation) -> Row:
    """A run whose judge often fails, compared with one whose judge never fails."""
    with MockServer(delay=0.2, faults=FAULTS) as judge:
        disturbed = Evaluation(folder, undisturbed.writer, judge)
        disturbed.evaluate()
    expected, scores, failed = undisturbed.scores(), disturbed.scores(), judge.stats().faults
    judged = sum(not math.isnan(quality) for _, quality in scores.values())
    differ = sum(scores[name] != expected[name] for name in expected)
    what = f"{FAULTS.share:.0%} of the calls fail: responses judged; scores that differ"
    measured = f"{judged}; {differ} ({', '.join(f'{kind} × {n}' for kind, n in failed.items())})"
    met = judged == RESPONSES and not differ and set(failed) == set(FAULTS.kinds)
    return what, f"{RESPONSES}; 0", measured, met


def judge_directly(
    judge: MockServer, store: Path, **settings: object
) -> tuple[float, dict[str, Judgement]]:
    """Seconds to judge 120 short responses in this process, and the judgements by id."""
    given: dict[str, object] = {"model": JUDGE, "base_url": judge.base_url, "prompt": "longwriter"}
    given |= {**THINKING_JUDGE, **settings}
    resolved = JudgeSettings.resolve({f"judge_{name}": given[name] for name in given}, {})
    items = [Item(f"{n}", "Write about tea.", f"Text {n}. " * 300) for n in range(RESPONSES)]
    judgements: dict[str, Judgement] = {}
    judging = Judge(resolved, "none", Store(store))
    start = time.perf_counter()
    run_async(judging.judge(items, lambda item, found: judgements.update({item.id: found})))
    return time.perf_counter() - start, judgements


def measure_thinking(folder: Path) -> Row:
    """A judge that thinks for long."""
    with MockServer(delay=THINKING_DELAY, judge_reasoning_tokens=THOUGHT) as judge:
        seconds, found = judge_directly(judge, folder / "thinking")
    ideal = -(-RESPONSES // CONCURRENCY) * THINKING_DELAY
    judged = sum(judgement.status == "judged" for judgement in found.values())
    return (
        f"a thinking judge, {THINKING_DELAY:.0f} s a call: {RESPONSES} responses",
        f"< {1.1 * ideal:.0f} s (ideal: {ideal:.0f} s); {RESPONSES} judged",
        f"{seconds:.2f} s; {judged} judged",
        seconds < 1.1 * ideal and judged == RESPONSES,
    )


def measure_batch(folder: Path) -> Row:
    """The same verdicts by the batch API and directly."""
    with MockServer(batch_seconds=BATCH_SECONDS) as judge:
        seconds, batched = judge_directly(judge, folder / "batch", batch=True)
        calls = sum(request.is_chat for request in judge.history)
        _, direct = judge_directly(judge, folder / "direct")
        paid = judge.stats().finished - calls
        judge_directly(judge, folder / "batch")  # directly, with the store of the batch
        again = judge.stats().finished - calls - paid
    differ = sum(batched[id].quality != direct[id].quality for id in direct)
    return (
        f"`--batch`, where a batch takes {BATCH_SECONDS:.0f} s: {RESPONSES} responses; direct "
        "calls; verdicts that differ from direct ones; calls paid again without `--batch`",
        f"< {BATCH_SECONDS + 10:.0f} s; 1; 0; 0",
        f"{seconds:.2f} s; {calls}; {differ}; {again}",
        seconds < BATCH_SECONDS + 10 and (calls, differ, again) == (1, 0, 0),
    )


def measure_limited_account(folder: Path) -> Row:
    """An account that may make 30 calls a minute."""
    with MockServer(calls_per_minute=CALLS_PER_MINUTE) as judge:
        seconds, found = judge_directly(judge, folder / "limited")
        refused = sum(request.is_chat for request in judge.history) - judge.stats().finished
    ideal = (RESPONSES / CALLS_PER_MINUTE - 1) * 60
    judged = sum(judgement.status == "judged" for judgement in found.values())
    return (
        f"an account of {CALLS_PER_MINUTE} calls a minute: {RESPONSES} responses; judged; "
        "refused calls",
        f"< {1.1 * ideal:.0f} s (ideal: {ideal:.0f} s); {RESPONSES}; few",
        f"{seconds:.2f} s; {judged}; {refused}",
        seconds < 1.1 * ideal and judged == RESPONSES,
    )


def measure_import() -> Row:
    """The time that the import adds to a bare interpreter, best of five."""

    def best(code: str) -> float:
        command = [sys.executable, "-c", code]
        return min(timeit.repeat(lambda: subprocess.run(command, check=True), number=1, repeat=5))

    added = (best("import longwriter_eval") - best("")) * 1000
    return "`import longwriter_eval`", "< 50 ms", f"{added:.1f} ms", added < 50


def judge_long_responses(source: str) -> str:
    """Judge very long responses in this process; return a sentence about its memory use."""
    numbers = range(LONG_RESPONSES)  # each response repeats its own word
    drawn = (Item(f"{n}", "Write.", f"{n:05} " * LONG_WORDS) for n in numbers)
    items = drawn if source == "generator" else list(drawn)
    judge, before = Judge(JudgeSettings.resolve({}, os.environ), "none"), peak_memory()
    judgements: list[Judgement] = []
    run_async(judge.judge(items, lambda _, judgement: judgements.append(judgement)))
    judged = sum(judgement.status == "judged" for judgement in judgements)
    return f"{before:.0f} MiB before, peak {peak_memory():.0f} MiB ({judged} judged)"


def peak_memory() -> float:
    """This process's peak resident memory in MiB. Not ru_maxrss, which may be the parent's."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def measure(folder: Path) -> Iterator[Row]:
    """All rows, as they are measured."""
    log = folder / "judge.jsonl"
    with MockServer() as writer:
        with MockServer(delay=DELAY, log=log) as judge:
            undisturbed = Evaluation(folder / "undisturbed", writer, judge)
            yield from measure_speed(undisturbed, log)
            yield from measure_reruns(undisturbed)
        yield measure_faults(folder / "disturbed", undisturbed)
    yield measure_thinking(folder)
    yield measure_batch(folder)
    yield measure_limited_account(folder)
    yield measure_import()
    for source in ("generator", "list"):
        with MockServer() as judge:
            memory = Evaluation(folder / source, judge, judge).python(__file__, "--memory", source)
        what = f"memory: judging {LONG_RESPONSES:,} responses of {LONG_WORDS:,} words, a {source}"
        yield what, "", memory.strip(), None


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--memory", choices=("generator", "list"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        print(judge_long_responses(options.memory))
        return 0
    try:
        benchmarks.read_prompts("longbench_write")
    except InputError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as folder:
        return print_table(measure(Path(folder)), machine(), options.output)


if __name__ == "__main__":
    sys.exit(main())
