"""`longwriter assets`: the files of the benchmarks' authors."""

from typing import Annotated

import typer


def command(
    fetch: Annotated[
        bool, typer.Option("--fetch", help="download files that are missing or have a wrong hash")
    ] = False,
) -> int:
    """Show, download and verify the official benchmark files.

    Exits with 0 when the files that evaluation needs are present, and with 1 otherwise.
    """
    from longwriter_core import benchmarks

    wrong = optional = 0
    for name in benchmarks.ASSETS:
        if fetch and benchmarks.state(name) != "ok":
            benchmarks.fetch(name)
        state = benchmarks.state(name)
        is_optional = state == "missing" and not benchmarks.ASSETS[name].is_for_evaluation
        optional += is_optional
        wrong += state != "ok" and not is_optional
        print(f"{state:<10}  {name:<24}  {benchmarks.location(name)}")
    if wrong:
        total = len(benchmarks.ASSETS)
        print(f"{wrong} of {total} are missing or wrong; to download: longwriter assets --fetch")
    elif optional:
        print(
            "All that evaluation needs is here. The rest is for `agentwrite --prompts official`: "
            "longwriter assets --fetch"
        )
    return 1 if wrong else 0
