"""`longwriter demo`: the real lm_eval on 12 prompts."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    base_url: Annotated[
        str | None,
        typer.Option(
            envvar="BASE_URL", metavar="URL", help="OpenAI-compatible endpoint of the writer (…/v1)"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(envvar="MODEL", metavar="NAME", help="name of the writer at its endpoint"),
    ] = None,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="folder for the results and the report")
    ] = Path("runs/demo"),
) -> int:
    """Run lm_eval on 12 prompts and write an HTML report.

    Without --base-url and --model, a local mock server writes and judges, and the scores mean
    nothing.
    """
    from longwriter_eval import demo
    from longwriter_eval.cli import report

    if code := demo.run(base_url, model, output):
        return code
    report.command([output], output / "report.html")
    if not base_url:
        print(demo.MOCK_SCORES)
    return 0
