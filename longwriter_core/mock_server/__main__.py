"""`python -m longwriter_core.mock_server`."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from longwriter_core.command import new_app, run_command
from longwriter_core.errors import InputError
from longwriter_core.mock_server.habits import HABITS
from longwriter_core.mock_server.server import FAULT_CYCLE, THINKING, Faults, MockServer

app = new_app("A mock writer and judge. The judge's scores mean nothing.")
app.info.no_args_is_help = False


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="port; 0 takes a free one")] = 0,
    delay: Annotated[float, typer.Option(help="seconds that every call takes")] = 0.0,
    jitter: Annotated[float, typer.Option(help="at most so many seconds more, at random")] = 0.0,
    api_key: Annotated[str | None, typer.Option(help="require this key")] = None,
    fault_share: Annotated[float, typer.Option(help="share of judge calls that fail, 0 to 1")] = 0,
    fault_kinds: Annotated[str, typer.Option(help="kinds of failure; also: hang")] = ",".join(
        FAULT_CYCLE
    ),
    reasoning_tokens: Annotated[
        int, typer.Option(help="tokens that the writer spends on thinking")
    ] = 0,
    judge_reasoning_tokens: Annotated[
        int,
        typer.Option(help="tokens that the judge spends on thinking; 0: takes the paper's request"),
    ] = THINKING,
    calls_per_minute: Annotated[
        int | None, typer.Option(help="answer any further call with a 429")
    ] = None,
    habits: Annotated[
        str, typer.Option(help=f"the writer's habits, separated by commas: {', '.join(HABITS)}")
    ] = "",
    log: Annotated[Path | None, typer.Option(help="append one JSON line per chat call")] = None,
) -> None:
    """Serve a mock writer and a mock judge until SIGINT or SIGTERM.

    Prints the base URL once the server is ready. The judge's scores mean nothing.
    """
    try:
        faults = Faults(fault_share, tuple(fault_kinds.split(",")))
        server = MockServer(
            port, delay, api_key, faults, log, jitter, reasoning_tokens=reasoning_tokens,
            judge_reasoning_tokens=judge_reasoning_tokens, calls_per_minute=calls_per_minute,
            keep_history=False, habits=tuple(filter(None, habits.split(","))),
        )  # fmt: skip
        with server:
            stop = threading.Event()
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, lambda *_: stop.set())
            print(server.base_url, flush=True)
            stop.wait()
    except (OverflowError, ValueError) as error:
        raise InputError(str(error)) from error


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(app, "mock_server", arguments)


if __name__ == "__main__":
    sys.exit(main())
