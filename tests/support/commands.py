"""Run the real commands in subprocesses, and read their output."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwriter_core.mock_server import JUDGE, WRITER, MockServer
from longwriter_core.mock_server.server import THINKING_JUDGE
from longwriter_eval.runs import Run, load_run

KEY = "sk-never-to-be-written-anywhere"  # the judge's key in these tests


@dataclass(frozen=True)
class Ended:
    """A finished command."""

    code: int
    out: str  # stdout and stderr


def command(name: str, *arguments: str) -> list[str]:
    """The command line of an installed command, or of quick_lm_eval."""
    if name == "quick_lm_eval":
        return [sys.executable, str(Path(__file__).with_name("quick_lm_eval.py")), *arguments]
    return [str(Path(sys.executable).parent / name), *arguments]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment as if its venv were activated, offline, with `changes`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {**os.environ, "PATH": path, **offline, **changes}


def run(name: str, *arguments: str, **changes: str) -> Ended:
    """Run a command and wait until it exits."""
    ended = subprocess.run(
        command(name, *arguments),
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=240,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout)


def lm_eval_arguments(
    writer: MockServer,
    judge: MockServer,
    output: Path,
    tasks: str,
    *more: str,
    judge_settings: Mapping[str, Any] = THINKING_JUDGE,
) -> list[str]:
    """lm_eval arguments for a writer at an endpoint and a judge, set by metadata.

    Without `judge_settings`, the judge is asked by the paper's protocol.
    """
    settings = {f"judge_{name}": value for name, value in judge_settings.items()}
    metadata = {"judge_model": JUDGE, "judge_base_url": judge.base_url, **settings}
    return [
        "run", "--tasks", tasks, "--model", "local-chat-completions",
        "--model_args",
        f"model={WRITER},base_url={writer.base_url}/chat/completions,num_concurrent=16",
        "--apply_chat_template", "--log_samples", "--output_path", str(output),
        "--metadata", json.dumps(metadata), *more,
    ]  # fmt: skip


def judged(run: Run) -> dict[str, Mapping[str, Any]]:
    """task:id -> the scores of its sample."""
    return {
        f"{sample.task}:{sample.id}": {
            name: value
            for name, value in sample.row.items()
            if name.startswith(("quality", "length_"))
        }
        for sample in run.samples
    }


__all__ = [
    "KEY",
    "Ended",
    "command",
    "environment",
    "judged",
    "lm_eval_arguments",
    "load_run",
    "run",
]
