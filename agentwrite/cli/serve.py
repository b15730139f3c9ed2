"""`agentwrite serve`: AgentWrite as a model behind an OpenAI-compatible endpoint."""

import argparse
import os
import sys
from typing import Any

from agentwrite.cli.options import (
    add_endpoint_options,
    add_writing_options,
    positive,
    writing_settings,
)
from longwriter_core.errors import InputError

_KEY = "AGENTWRITE_SERVE_KEY"
_LOCAL = ("127.0.0.1", "::1", "localhost")


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "serve",
        help="answer chat requests with planned, long texts",
        description="An OpenAI-compatible endpoint (POST /v1/chat/completions, also streamed) for "
        "the model agentwrite/MODEL: what asks for --from words or more is planned and written, "
        f"anything else goes to MODEL as it is. {_KEY} is the key that clients must send.",
    )
    command.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine")
    command.add_argument("--port", type=int, default=8010, help="default: 8010; 0 takes a free one")
    command.add_argument(
        "--from", type=positive, dest="plan_from", metavar="WORDS", default=2000,
        help="plan and write requests that name so many words or more (default: 2000)",
    )  # fmt: skip
    add_writing_options(command)
    add_endpoint_options(command, dry_run=False)
    command.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    import asyncio

    from agentwrite.server.serve import Server

    settings = writing_settings(options)
    key = os.environ.get(_KEY, "").strip()
    if options.host not in _LOCAL and not key:
        raise InputError(
            f"other machines can reach {options.host}, and write at your cost: set {_KEY} to the "
            "key that they must send"
        )

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    async def serve() -> None:
        async with Server(
            settings,
            host=options.host,
            port=options.port,
            plan_from=options.plan_from,
            key=key,
            log=say,
        ) as server:
            say(f"{server.model} answers at {server.base_url} (Ctrl-C ends it)")
            await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        say("stopped; finished calls are kept, and the next start goes on with them")
    return 0
