"""`longwriter demo`: the real lm_eval on longwrite_demo, and a report of what came out."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from longwriter_core.errors import InputError
from longwriter_core.mock_server.server import JUDGE, WRITER, MockServer
from longwriter_eval.runs import Run, load_run

_STANDS_IN = (
    "A local stand-in played writer and judge: **these scores mean nothing.** They show that the "
    "pipeline works. Set BASE_URL and MODEL, and the judge's settings, to measure a model."
)


def run(base_url: str | None, model: str | None, output: Path) -> int:
    """Evaluate, write `output`/report.md, say where; the exit code is lm_eval's.

    `base_url` and `model` default to BASE_URL and MODEL of the environment. Raises InputError
    where only one of the two is given.
    """
    base_url, model = base_url or os.environ.get("BASE_URL"), model or os.environ.get("MODEL")
    if bool(base_url) != bool(model):
        raise InputError("BASE_URL and MODEL go together: set both, or neither for the stand-in")
    stand_in = not base_url
    with MockServer() if stand_in else nullcontext() as server:
        if server:
            print(f"No BASE_URL: a stand-in plays writer and judge at {server.base_url}.")
            base_url, model = server.base_url, WRITER
            environment = {
                "LONGWRITER_JUDGE_BASE_URL": server.base_url,
                "LONGWRITER_JUDGE_MODEL": JUDGE,
            }
        else:
            environment = {}
        code = _evaluate(str(base_url), str(model), output, environment)
    if code:
        return code
    report = output / "report.md"
    report.write_text(_report(load_run(output), stand_in=stand_in), encoding="utf-8")
    if stand_in:
        print(_STANDS_IN.replace("**", ""))
    print(f"wrote {report}, with lm_eval's results and samples beside it")
    return 0


def _evaluate(base_url: str, model: str, output: Path, environment: Mapping[str, str]) -> int:
    """Run the lm_eval command, showing it; returns its exit code."""
    arguments = [
        "run", "--tasks", "longwrite_demo",
        "--model", "local-chat-completions",
        "--model_args",
        f"model={model},base_url={base_url.rstrip('/')}/chat/completions,"
        "num_concurrent=8,max_retries=10,timeout=3600,seed=42",
        "--apply_chat_template", "--log_samples", "--output_path", str(output),
    ]  # fmt: skip
    print("lm_eval", *arguments)
    command = [sys.executable, "-m", "lm_eval", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def _report(run: Run, *, stand_in: bool) -> str:
    """A page in Markdown: the scores, and a line for each prompt."""
    results = run.results["results"]["longwrite_demo"]
    settings = run.results["configs"]["longwrite_demo"]["metadata"]["longwriter"]
    scores = [
        (name.removesuffix(",none"), value, results[f"{name.removesuffix(',none')}_stderr,none"])
        for name, value in results.items()
        if name.endswith(",none") and "_stderr" not in name
    ]
    model = run.results["config"]["model_args"]["model"]
    lines = [
        "# longwrite_demo",
        "",
        *([_STANDS_IN, ""] if stand_in else []),
        f"Writer {model}, judge {settings['judge']['model']}, prompt "
        f"{settings['judge']['prompt']}, longwriter {settings['version']}.",
        "",
        "| metric | mean | stderr |",
        "|---|--:|--:|",
        *(f"| {name} | {value:.2f} | {error:.2f} |" for name, value, error in scores),
        "",
        "| prompt | language | required words | words | S_l | S_q | verdict |",
        "|---|---|--:|--:|--:|--:|---|",
        *(
            f"| {sample.id} | {sample.language} | {sample.required} "
            f"| {sample.row['output_words']:.0f} | {sample.row['length_score']:.1f} "
            f"| {sample.row['quality_score']:.1f} | {(sample.judgement or {})['status']} |"
            for sample in run.samples
        ),
    ]
    return "\n".join(lines) + "\n"
