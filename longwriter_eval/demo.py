"""The demo: the real lm_eval on longwrite_demo, with given models or with mock models."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from longwriter_core.errors import InputError
from longwriter_core.mock_server.server import (
    JUDGE,
    THINKING_JUDGE,
    WRITER,
    MockServer,
)

MOCK_SCORES = (
    f"{WRITER} and {JUDGE} answered at random: these scores mean nothing. They show that the "
    "pipeline works. Set BASE_URL and MODEL, and the judge's settings, to measure a model."
)


def run(base_url: str | None, model: str | None, output: Path) -> int:
    """Evaluate the model at `base_url`, by default a mock model; returns lm_eval's exit code.

    Raises InputError if only one of `base_url` and `model` is given.
    """
    if bool(base_url) != bool(model):
        raise InputError("BASE_URL and MODEL go together: set both, or neither for mock models")
    if base_url:
        return _evaluate(base_url, str(model), output, {})
    with MockServer() as server:
        print(f"No BASE_URL: {WRITER} and {JUDGE} answer at {server.base_url}.")
        judge = {"base_url": server.base_url, "model": JUDGE, **THINKING_JUDGE}
        environment = {f"LONGWRITER_JUDGE_{name.upper()}": judge[name] for name in judge}
        return _evaluate(server.base_url, WRITER, output, environment)


def _evaluate(base_url: str, model: str, output: Path, environment: Mapping[str, str]) -> int:
    """Run the lm_eval command and show its output; returns its exit code."""
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
