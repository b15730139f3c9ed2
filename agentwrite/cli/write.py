"""`agentwrite write`: one text."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentwrite.cli import options
from agentwrite.cli.options import print_counts, tokens
from agentwrite.settings import Settings
from longwriter_core.errors import InputError

if TYPE_CHECKING:
    from agentwrite.writing.plan import Plan
    from agentwrite.writing.state import Section


def command(
    ctx: typer.Context,
    instruction: Annotated[str, typer.Argument(metavar="INSTRUCTION", help="what to write")],
    model: options.ModelName,
    base_url: options.BaseUrls = None,
    concurrency: options.Concurrency = options.DEFAULTS["concurrency"],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="file for the text; default: stdout")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, metavar="WORDS", help="required length")
    ] = None,
    parallel: options.Parallel = options.DEFAULTS["parallel"],
    prompts: options.PromptSet = options.DEFAULTS["prompts"],
    context: options.Context = options.DEFAULTS["context"],
    dry_run: options.DryRun = False,
) -> int:
    """Write one text.

    Rerun the same command after any interruption to resume.
    """
    from agentwrite.batch.run import Estimate
    from agentwrite.errors import WriteError
    from agentwrite.writing.prompts import Prompts
    from agentwrite.writing.state import Instruction
    from agentwrite.writing.writer import MAX_TEXT_WORDS, write_text
    from longwriter_core.files import write_atomically
    from longwriter_core.text.required_length import required_length

    if not instruction.strip():
        raise InputError("the instruction is empty")
    settings = Settings.resolve(
        model=model,
        base_urls=base_url,
        concurrency=concurrency,
        parallel=parallel,
        prompts=prompts,
        context=context,
    )
    required = length or required_length(instruction)
    if (required or 0) > MAX_TEXT_WORDS:
        raise InputError(f"{required:,} words are asked for, and {MAX_TEXT_WORDS:,} are the most")
    if not required:
        print("No length is named: the plan decides. --length WORDS sets one.", file=sys.stderr)
    if dry_run:
        Prompts.load(settings.prompts)
        expected = Estimate()
        expected.add(Instruction("", instruction, required), parallel=settings.parallel)
        options.print_estimate(expected, settings)
        return 0
    if output and output.is_dir():
        raise InputError(f"{output} is a folder: name a file for the text")
    if output and not output.absolute().parent.is_dir():
        raise InputError(f"there is no folder {output.absolute().parent}")
    words = 0

    def progress(section: "Section", plan: "Plan") -> None:
        nonlocal words
        words += section.words
        print(
            f"section {section.number:>3} of {len(plan.steps)}  {section.words:>5,} words "
            f"(asked {section.target:,})  {words:>7,} of {required or plan.words:,} words",
            file=sys.stderr,
            flush=True,
        )

    try:
        text = write_text(
            instruction,
            base_url=settings.base_urls,
            length=required,
            progress=progress,
            **settings.model_dump(exclude={"base_urls"}),
        )
    except WriteError as error:
        if error.is_fatal and not words:
            raise InputError(
                f"{settings.model} at {settings.where} cannot be used: {error.detail}"
            ) from error
        print(f"agentwrite: not written: {error}; to resume: {ctx.obj}", file=sys.stderr)
        return 1
    if output:
        write_atomically(output, f"{text.text}\n".encode("utf-8", "backslashreplace"))
    else:
        print(text.text)
    where = f"wrote {output}: " if output else ""
    print(
        f"{where}{text.words:,} words in {len(text.sections)} sections, {tokens(model, text)}",
        file=sys.stderr,
    )
    print_counts("removed by cleaning", text.cleaned)
    print_counts("retried", text.rejected)
    if text.folded:
        print(
            "The text outgrew the context: the last steps saw its first "
            f"{text.folded} sections as a summary.",
            file=sys.stderr,
        )
    return 0
