"""The `agentwrite` command."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longwriter_eval.command import run_command
from longwriter_eval.errors import InputError

if TYPE_CHECKING:
    from agentwrite.run import Estimate, Tally
    from agentwrite.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 something is missing, 2 bad input."""
    return run_command(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentwrite", description="Write very long texts: plan, then write step by step."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    write = commands.add_parser(
        "write",
        help="write one text",
        description="Plan and write one text. Stopped and run again, it goes on where it was.",
    )
    write.add_argument("instruction", metavar="INSTRUCTION", help="what to write")
    write.add_argument("-o", "--output", type=Path, help="file for the text; default: stdout")
    write.set_defaults(run=_write)

    run = commands.add_parser(
        "run",
        help="write a text for every instruction of a file",
        description="Write a text for every row of a JSONL file with `instruction` (or `prompt`) "
        "and, if you like, `id` and `length` in words. Run again, it goes on where it was.",
    )
    run.add_argument("instructions", metavar="INSTRUCTIONS", type=Path, help="a JSONL file")
    run.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="run folder")
    run.add_argument("--limit", type=_positive, metavar="N", help="only the first N instructions")
    run.set_defaults(run=_run)

    for command in (write, run):
        command.add_argument(
            "--length", type=_positive, metavar="WORDS",
            help="required length" if command is write else "length where none is named",
        )  # fmt: skip
        command.add_argument(
            "--base-url", action="append", default=[], metavar="URL",
            help="OpenAI-compatible endpoint (…/v1); given more than once, they share the load",
        )  # fmt: skip
        command.add_argument("--model", required=True, help="the model's name at its endpoint")
        command.add_argument(
            "--concurrency", type=_positive, default=32, metavar="N",
            help="calls in flight (default: 32)",
        )  # fmt: skip
        command.add_argument(
            "--parallel", action="store_true",
            help="write all steps at once, without the text so far: faster, less coherent",
        )  # fmt: skip
        command.add_argument(
            "--prompts", default="longwriter", metavar="NAME",
            help="longwriter (ours, the default), official (the paper's), or a folder",
        )  # fmt: skip
        command.add_argument(
            "--context", type=_positive, metavar="TOKENS",
            help="what the model takes, prompt and answer; beyond it, the oldest text is summed up",
        )  # fmt: skip
        command.add_argument(
            "--dry-run", action="store_true", help="say what it would call, and call nothing"
        )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def _settings(options: argparse.Namespace) -> "Settings":
    from agentwrite.settings import Settings

    return Settings.resolve(
        model=options.model,
        base_urls=tuple(options.base_url),
        concurrency=options.concurrency,
        parallel=options.parallel,
        prompts=options.prompts,
        context=options.context,
    )


def _write(options: argparse.Namespace) -> int:
    from agentwrite.errors import WriteError
    from agentwrite.prompts import Prompts
    from agentwrite.required import required_length
    from agentwrite.run import Estimate
    from agentwrite.text import Instruction
    from agentwrite.write import write_text
    from longwriter_eval.assets import write_atomically

    if not options.instruction.strip():
        raise InputError("the instruction is empty")
    settings = _settings(options)
    required = options.length or required_length(options.instruction)
    if not required:
        print("No length is named: the plan decides. --length WORDS sets one.", file=sys.stderr)
    if options.dry_run:
        Prompts.load(settings.prompts)
        found = Estimate()
        found.add(Instruction("", options.instruction, required), parallel=settings.parallel)
        _print_estimate(found, settings)
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
        if error.is_vain and not words:
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
        f"{text.prompt_tokens:,} prompt and {text.completion_tokens:,} completion tokens",
        file=sys.stderr,
    )
    _print_counts("cleaned away", text.cleaned)
    _print_counts("asked again", text.rejected)
    if text.folded:
        print(
            f"The text outgrew the context: the last steps saw its first {text.folded} sections as "
            "a summary.",
            file=sys.stderr,
        )
    return 0


def _run(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from agentwrite.run import estimate, run

    settings = _settings(options)
    choice = {"limit": options.limit, "default_length": options.length}
    if options.dry_run:
        found = estimate(options.instructions, options.output, settings, **choice)
        _print_estimate(found, settings)
        return 0
    with ExitStack() as bars:
        bar: Any = None

        def progress(tally: "Tally") -> None:
            nonlocal bar
            if bar is None:  # only now that the input is known to be good
                total, done = tally.instructions, tally.skipped
                bar = bars.enter_context(
                    tqdm(desc="Writing", unit="text", total=total, initial=done)
                )
            bar.set_postfix(
                sections=tally.sections, words=tally.words, failed=tally.failed, refresh=False
            )
            bar.update(tally.skipped + tally.finished + tally.failed - bar.n)

        tally = run(options.instructions, options.output, settings, progress=progress, **choice)
    return _report(tally, options)


def _report(tally: "Tally", options: argparse.Namespace) -> int:
    """Print the summary; returns the exit code."""
    earlier = f" ({tally.skipped:,} were there already)" if tally.skipped else ""
    print(
        f"wrote {options.output / 'texts.jsonl'}: {tally.skipped + tally.finished:,} of "
        f"{tally.instructions:,} texts{earlier}, {tally.words:,} words in {tally.sections:,} "
        "sections, "
        f"{tally.prompt_tokens:,} prompt and {tally.completion_tokens:,} completion tokens",
        file=sys.stderr,
    )
    _print_counts("cleaned away", tally.cleaned)
    _print_counts("asked again", tally.rejected)
    if tally.planned:
        print(f"{tally.planned:,} name no length: the plan decided", file=sys.stderr)
    if tally.folded:
        print(f"{tally.folded:,} outgrew the context and used a summary", file=sys.stderr)
    if not tally.missing:
        return 0
    if tally.stopped:
        print(f"stopped: {tally.stopped}", file=sys.stderr)
    _print_counts(f"failed, see {options.output / 'failed.jsonl'}", tally.reasons)
    print(
        f"{tally.missing:,} of {tally.instructions:,} have no text; to go on: {options.again}",
        file=sys.stderr,
    )
    return 1


def _print_counts(what: str, counts: Mapping[str, int]) -> None:
    if counts:
        listed = ", ".join(f"{name} {n:,}" for name, n in Counter(counts).most_common())
        print(f"{what}: {listed}", file=sys.stderr)


def _print_estimate(found: "Estimate", settings: "Settings") -> None:
    print(
        f"would ask {settings.model} at {settings.where} for {found.texts:,} texts: about "
        f"{found.calls:,} calls, {found.prompt_tokens:,} prompt and "
        f"{found.completion_tokens:,} completion tokens"
    )
    if found.without_length:
        print(f"{found.without_length:,} name no length and count as 5,000 words")
