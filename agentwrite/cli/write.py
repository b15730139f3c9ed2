"""`agentwrite write`: one text."""

import argparse
import sys
from pathlib import Path
from typing import Any

from agentwrite.cli.options import (
    add_endpoint_options,
    add_writing_options,
    positive,
    print_counts,
    print_estimate,
    tokens,
    writing_settings,
)
from longwriter_core.errors import InputError


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "write",
        help="write one text",
        description="Plan and write one text. Stopped and run again, it goes on where it was.",
    )
    command.add_argument("instruction", metavar="INSTRUCTION", help="what to write")
    command.add_argument("-o", "--output", type=Path, help="file for the text; default: stdout")
    command.add_argument("--length", type=positive, metavar="WORDS", help="required length")
    add_writing_options(command)
    add_endpoint_options(command)
    command.set_defaults(run=_write)


def _write(options: argparse.Namespace) -> int:
    from agentwrite.batch.run import Estimate
    from agentwrite.errors import WriteError
    from agentwrite.writing.prompts import Prompts
    from agentwrite.writing.state import Instruction
    from agentwrite.writing.writer import MOST_WORDS, write_text
    from longwriter_core.files import write_atomically
    from longwriter_core.text.required_length import required_length

    if not options.instruction.strip():
        raise InputError("the instruction is empty")
    settings = writing_settings(options)
    required = options.length or required_length(options.instruction)
    if (required or 0) > MOST_WORDS:
        raise InputError(f"{required:,} words are asked for, and {MOST_WORDS:,} are the most")
    if not required:
        print("No length is named: the plan decides. --length WORDS sets one.", file=sys.stderr)
    if options.dry_run:
        Prompts.load(settings.prompts)
        found = Estimate()
        found.add(Instruction("", options.instruction, required), parallel=settings.parallel)
        print_estimate(found, settings)
        return 0
    if options.output and options.output.is_dir():
        raise InputError(f"{options.output} is a folder: name a file for the text")
    if options.output and not options.output.absolute().parent.is_dir():
        raise InputError(f"there is no folder {options.output.absolute().parent}")
    words = 0

    def progress(section: Any, plan: Any) -> None:
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
            options.instruction,
            model=settings.model,
            base_url=settings.base_urls,
            length=required,
            progress=progress,
            concurrency=settings.concurrency,
            parallel=settings.parallel,
            prompts=settings.prompts,
            context=settings.context,
        )
    except WriteError as error:
        if error.is_fatal and not words:
            raise InputError(
                f"{settings.model} at {settings.where} cannot be used: {error.detail}"
            ) from error
        print(f"agentwrite: not written: {error}; to go on: {options.again}", file=sys.stderr)
        return 1
    if options.output:
        data = f"{text.text}\n".encode("utf-8", "backslashreplace")
        write_atomically(options.output, data)
    else:
        print(text.text)
    where = f"wrote {options.output}: " if options.output else ""
    print(
        f"{where}{text.words:,} words in {len(text.sections)} sections, "
        f"{tokens(settings.model, text)}",
        file=sys.stderr,
    )
    print_counts("cleaned away", text.cleaned)
    print_counts("asked again", text.rejected)
    if text.folded:
        print(
            f"The text outgrew the context: the last steps saw its first {text.folded} sections as "
            "a summary.",
            file=sys.stderr,
        )
    return 0
