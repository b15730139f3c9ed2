"""`longwriter annotate`: people choose between the responses of two runs."""

import asyncio
import contextlib
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from longwriter_core.errors import InputError


def command(
    a: Annotated[Path, typer.Argument(metavar="A", help="a run")],
    b: Annotated[Path, typer.Argument(metavar="B", help="another run")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="JSONL file that gets the choices"),
    ] = Path("choices.jsonl"),
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0 takes a free one")] = 8020,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="name or address, beside local ones, under which others reach the page; can be "
            "repeated; '*' for any",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="seed of the order of the pairs and of their sides")
    ] = 0,
) -> int:
    """Let people choose which of two responses is better, without knowing whose they are.

    Serves a page that shows the two runs' responses to a prompt side by side, in random order. Each
    choice is in FILE before the next pair appears, and several people can choose at the same time.
    `longwriter compare A B --people FILE` reports the result.
    """
    from longwriter_core.files import locked
    from longwriter_eval import __version__
    from longwriter_eval.people.choices import Choices, pairs_of
    from longwriter_eval.people.server import AnnotationServer
    from longwriter_eval.runs import load_run

    if output.is_dir() or not output.absolute().parent.is_dir():
        raise InputError(f"--output {output} must name a file in an existing folder")
    pairs = pairs_of(load_run(a), load_run(b))

    async def serve() -> None:
        async with AnnotationServer(
            choices, host=host, port=port, allow_hosts=allow_host or (), version=__version__
        ) as server:
            print(
                f"{len(pairs)} pairs to judge at {server.url} (Ctrl-C stops the page)",
                file=sys.stderr,
                flush=True,
            )
            await asyncio.Event().wait()

    try:
        with locked(output.with_name(f".{output.name}.lock")):
            choices = Choices(pairs, output, seed)
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(serve())
            people = "person" if choices.people == 1 else "people"
            print(f"{len(choices):,} choices by {choices.people} {people} are in {output}")
            compare = ["longwriter", "compare", str(a), str(b), "--people", str(output)]
            print(f"to see what they say: {shlex.join(compare)}")
    except BlockingIOError as error:
        raise InputError(f"another `longwriter annotate` writes to {output}") from error
    return 0
