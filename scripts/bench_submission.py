"""Measure submissions: packing, verifying, and building a leaderboard.

    python scripts/bench_submission.py [--submissions 200] [--output FILE.md]

Prints a Markdown table with a goal beside each number, and exits with 1 if a goal is missed.
Responses to LongBench-Write's prompts are random sentences, and verdicts are random. Needs the
upstream files (`longwriter assets --fetch`, or LONGWRITER_ASSETS) and Linux. 200 submissions take
several minutes.
"""

import argparse
import itertools
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench_table import Row, machine, print_table

from longwriter_core import benchmarks
from longwriter_core.mock_server.prose import prose
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.judge.settings import JudgeSettings
from longwriter_eval.judge.verdict import DIMENSIONS, Judgement, Verdict, read_verdict
from longwriter_eval.runs import Run, Sample
from longwriter_eval.submission.archive import pack
from longwriter_eval.submission.build import build_submission
from longwriter_eval.submission.facts import StatedMetadata
from longwriter_eval.version import TASK_VERSION, __version__

LONG = 10_000  # words per response in the long submission
GOAL = 10.0  # seconds to verify it
GOAL_OF_BOARD = 60.0  # seconds
TASK, JUDGE = "longbench_write_0000_0500", "bench-judge"


def make_run(model: str, length: Callable[[int], int], seed: int) -> Run:
    """A run whose responses have `length(required)` words."""
    dice = random.Random(seed)
    prompt = JudgePrompt.load("official").sha256
    samples = []
    for row in benchmarks.read_prompts("longbench_write"):
        response = prose(length(row["length"]), dice.randrange(2**32), row["language"])
        mean = 3 + seed % 7 / 4
        grades = [min(5, max(1, round(dice.gauss(mean, 1)))) for _ in DIMENSIONS]
        raw = json.dumps({"Analysis": "…", **dict(zip(DIMENSIONS.values(), grades, strict=True))})
        verdict = Verdict(
            0, read_verdict(raw), None, raw=raw, model=JUDGE, asks=1, completion_tokens=90
        )
        record = Judgement.of([verdict], prompt, response).record()
        samples.append(
            Sample(
                TASK, row["id"], row["prompt"], row["type"], row["length"], row["language"],
                response, {"doc": {**row, "judgement": record}, "prompt_hash": "0" * 64},
            )
        )  # fmt: skip
    own = {
        "version": __version__,
        "data_sha256": benchmarks.data_sha256("longbench_write"),
        "judge": JudgeSettings.resolve({"judge_model": JUDGE}, {}).record(),
        "judge_prompt_sha256": prompt,
    }
    config = {
        "metadata": {"version": TASK_VERSION, "longwriter": own},
        "generation_kwargs": {"until": []},
    }
    results = {"model_name": model, "config": {"model": "hf"}, "configs": {TASK: config}}
    return Run(Path("bench"), results, samples)


def timed(*command: str) -> tuple[float, float]:
    """Seconds that a `longwriter` command takes, and its processor time, with its workers'.

    Raises if the command fails.
    """
    start, before = time.perf_counter(), _children_seconds()
    program = str(Path(sys.executable).with_name("longwriter"))
    subprocess.run([program, *command], stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - start, _children_seconds() - before


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_one(folder: Path) -> list[Row]:
    """Packing and verifying one long submission."""
    run = make_run("bench/model", lambda _: LONG, 1)
    start = time.perf_counter()
    data = pack(build_submission(run, StatedMetadata()))
    packing = time.perf_counter() - start
    path = folder / "long.zip"
    path.write_bytes(data)
    seconds, _ = timed("verify", str(path))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    what = f"{len(run.samples)} responses of {LONG:,} words"
    return [
        (f"make a submission of {what}", "", f"{packing:.1f} s, {len(data) / 1e6:.1f} MB", None),
        (
            "`longwriter verify` on it, from start to exit; its peak memory",
            f"< {GOAL:.0f} s",
            f"{seconds:.1f} s; {peak} MiB",
            seconds < GOAL,
        ),
    ]


def measure_many(folder: Path, number: int) -> list[Row]:
    """A leaderboard of `number` submissions whose responses have nearly the required length."""
    submissions, site = folder / "submissions", folder / "site"
    submissions.mkdir()
    for seed in range(number):
        run = make_run(f"bench/model-{seed:03d}", lambda required: required * 9 // 10, seed)
        (submissions / f"{seed:03d}.zip").write_bytes(pack(build_submission(run, StatedMetadata())))
        print(f"\rmaking submissions: {seed + 1} of {number}", end="", file=sys.stderr)
    print(file=sys.stderr)
    first, first_cpu = timed("leaderboard", str(submissions), "-o", str(site))
    again, again_cpu = timed("leaderboard", str(submissions), "-o", str(site))
    page, compare = ((site / name).stat().st_size for name in ("index.html", "compare.html"))
    reports = sum(path.stat().st_size for path in site.rglob("report.html"))
    return [
        (
            f"`longwriter leaderboard` of {number} submissions, with their reports",
            "< 60 s on 2 idle cores",
            f"{first:.0f} s; {first_cpu:.0f} s of processor time, {first_cpu / number:.2f} s each",
            first < GOAL_OF_BOARD,
        ),
        (
            "the same again, nothing changed",
            "3 s",
            f"{again:.1f} s; {again_cpu:.1f} s of processor time",
            None,
        ),
        (
            "its page; the page that compares models; a report, the mean",
            "",
            f"{page / 1e6:.1f} MB; {compare / 1e6:.1f} MB; {reports / number / 1e6:.1f} MB",
            None,
        ),
    ]


def main() -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--submissions", type=int, default=200)
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-submission-"))
    try:
        rows = itertools.chain(measure_one(folder), measure_many(folder, options.submissions))
        return print_table(rows, machine(), options.output)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
