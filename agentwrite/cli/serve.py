"""`agentwrite serve`: the studio, and an OpenAI-compatible endpoint."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from agentwrite.cli import options
from agentwrite.settings import Settings
from longwriter_core.errors import InputError

_KEY = "AGENTWRITE_SERVE_KEY"
_LOCAL = ("127.0.0.1", "::1", "localhost")


def command(
    model: options.ModelName,
    base_url: options.BaseUrls = None,
    concurrency: options.Concurrency = options.DEFAULTS["concurrency"],
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0 takes a free one")] = 8010,
    plan_from: Annotated[
        int,
        typer.Option(
            "--from",
            min=1,
            metavar="WORDS",
            help="plan and write requests that name at least this many words",
        ),
    ] = 2000,
    max_words: Annotated[
        int,
        typer.Option(min=1, metavar="WORDS", help="refuse requests for more words than this"),
    ] = 50_000,
    books: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="folder of the studio's texts: NAME.md and NAME.book"),
    ] = Path(),
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="name or address, beside local ones, under which clients reach this server; can "
            "be repeated; '*' for any",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="origin of a web page that may use this server from a browser (CORS), such as "
            "https://chat.example.com; can be repeated; '*' for any",
        ),
    ] = None,
    parallel: options.Parallel = options.DEFAULTS["parallel"],
    prompts: options.PromptSet = options.DEFAULTS["prompts"],
    context: options.Context = options.DEFAULTS["context"],
    max_tokens: options.MaxTokens = options.DEFAULTS["max_tokens"],
    temperature: options.Temperature = options.DEFAULTS["temperature"],
    extra: options.Extra = "{}",
    plan_model: options.PlanModel = None,
    summary_model: options.SummaryModel = None,
    story: options.Story = False,
    critic: options.Critic = False,
    timeout: options.Timeout = None,
    max_cost: options.MaxCost = None,
) -> int:
    """Serve a page for writing long texts, and answer chat requests with them.

    The studio, a page at /, plans texts, shows and edits the plan, writes, stops, resumes, rewrites
    sections and offers the files to download. Beside it, an OpenAI-compatible endpoint (POST
    /v1/chat/completions, streaming too) serves the model agentwrite/MODEL. Requests whose last
    message asks for at least --from words are planned and written; all others are passed on to
    MODEL. Set AGENTWRITE_SERVE_KEY to the key that clients must send.
    """
    import asyncio

    from agentwrite.server.serve import Server

    settings = Settings.resolve(
        model=model,
        base_urls=base_url,
        concurrency=concurrency,
        parallel=parallel,
        prompts=prompts,
        context=context,
        max_tokens=max_tokens,
        temperature=temperature,
        extra=extra,
        plan_model=plan_model,
        summary_model=summary_model,
        story=story,
        critic=critic,
        timeout=timeout,
        max_cost=max_cost,
    )
    key = os.environ.get(_KEY, "").strip()
    if host not in _LOCAL and not key:
        raise InputError(
            f"other machines can reach {host}, and write at your cost: set {_KEY} to the key that "
            "they must send"
        )

    if not books.is_dir():
        raise InputError(f"--books {books} is not a folder")

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    async def serve() -> None:
        async with Server(
            settings,
            host=host,
            port=port,
            plan_from=plan_from,
            max_words=max_words,
            key=key,
            books=books,
            allow_hosts=allow_host or (),
            allow_origins=allow_origin or (),
            log=log,
        ) as server:
            log(
                f"{server.model} answers at {server.base_url}; the studio is at {server.url}/ "
                "(Ctrl-C stops both)"
            )
            await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        log("stopped; finished calls are stored, and the next start reuses them")
    return 0
