"""`transformers serve`: a real model behind an OpenAI-compatible endpoint, on a CPU."""

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from support.commands import environment

from longwriter_core.mock_server import MockServer


@contextlib.contextmanager
def transformers_serve(model: Path) -> Iterator[str]:
    """Serve the model in a folder; yields the base URL. The model's name is its path."""
    with MockServer() as free:  # finds a free port
        port = free.port
    arguments = [str(model), "--device", "cpu", "--dtype", "float32"]
    arguments += ["--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "transformers.cli.transformers", "serve", *arguments],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)
