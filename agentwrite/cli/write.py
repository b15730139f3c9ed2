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
    model: options.ModelName,
    instruction: Annotated[
        str | None,
        typer.Argument(metavar="INSTRUCTION", help="what to write; with --plan, the plan's"),
    ] = None,
    base_url: options.BaseUrls = None,
    concurrency: options.Concurrency = options.DEFAULTS["concurrency"],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="file for the text: NAME.md, .html, .epub or .docx, with a folder NAME.book "
            "beside it; default: stdout",
        ),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write this plan, from `agentwrite plan`")
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(
            help="title of the text; default: the heading that it begins with, if that is not a "
            "chapter's, else the name of the file"
        ),
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, metavar="WORDS", help="required length")
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
    seed: options.Seed = None,
    fresh: options.Fresh = False,
    dry_run: options.DryRun = False,
) -> int:
    """Write one text.

    Rerun the same command after any interruption to resume. NAME.book holds the plan, the sections,
    the tokens spent, and what cleaning removed; `agentwrite rewrite` works on it.
    """
    from agentwrite.book import book_lock, book_path, load_book, read_plan_yaml, save_book
    from agentwrite.errors import WriteError
    from agentwrite.export import check_format
    from agentwrite.origin import Origin
    from agentwrite.pace import Pace, duration
    from agentwrite.write import write_text
    from agentwrite.writing.state import Instruction
    from agentwrite.writing.writer import MAX_TEXT_WORDS
    from longwriter_core.llm import Store, Usage
    from longwriter_core.llm.profiles import money
    from longwriter_core.text.required_length import required_length

    planned = read_plan_yaml(plan) if plan else None
    if planned and instruction and instruction.strip() != planned.instruction.strip():
        raise InputError(f"{plan} has an instruction of its own: change it there")
    instruction = planned.instruction if planned else instruction or ""
    if not instruction.strip():
        raise InputError("the instruction is empty")
    if planned and length not in (None, planned.plan.words):
        raise InputError(
            f"--length {length}: the word counts in {plan} decide the length, and add up to "
            f"{planned.plan.words:,}: change them, or leave --length out"
        )
    options.check_output(output, "the text")
    if output:
        check_format(output)
    if output and output.suffix == ".book":
        raise InputError(f"{output} would be the book's folder: name a file such as text.md")
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
    required = length or (planned.plan.words if planned else required_length(instruction))
    if (required or 0) > MAX_TEXT_WORDS:
        raise InputError(f"{required:,} words are asked for, and {MAX_TEXT_WORDS:,} are the most")
    seed = options.chosen_seed(seed, fresh)
    if not required:
        print("No length is named: the plan decides. --length WORDS sets one.", file=sys.stderr)
    origin = Origin(instruction, required, settings, seed, plan, planned)
    if output and origin.is_written(output):
        if dry_run:
            print("would make no call: the book holds this text")
            return 0
        with book_lock(book_path(output)):
            book = load_book(book_path(output))
            for name in sorted({output.name, *book.record.get("copies", [])} - {book.output}):
                check_format(Path(name))
            copies = sorted({output.name, *book.record.get("copies", [])})
            book.update(copies=copies, title=title or book.record.get("title"))
            book.save_text()
        print(
            f"wrote {output}: {book.record['words']:,} words, the text in {book.path}; no call was "
            "made",
            file=sys.stderr,
        )
        return 0
    if dry_run:
        from agentwrite.estimate import estimate_text

        if (required or 0) > 100_000:
            print("rehearsing a long text takes up to a minute …", file=sys.stderr, flush=True)
        expected = estimate_text(
            Instruction("", instruction, required), settings, Store(),
            plan=planned.plan if planned else None, seed=seed,
        )  # fmt: skip
        options.print_estimate(expected, settings)
        return 0
    words = calls = 0
    pace = Pace()
    usage = Usage()

    def on_usage(counted: Usage) -> None:
        nonlocal usage
        usage = counted
        if not planned:
            print("planning …", file=sys.stderr, flush=True)

    def on_plan(plan: "Plan") -> None:
        nonlocal calls
        calls = usage.calls
        pace.start()
        print(
            f"planned {len(plan.steps)} sections, {plan.words:,} words{spent()}",
            file=sys.stderr,
            flush=True,
        )

    def spent() -> str:
        price = money(usage.usd or None)
        return f"  {price}" if price else ""

    def progress(section: "Section", plan: "Plan") -> None:
        nonlocal words, calls
        is_stored, calls = usage.calls == calls, usage.calls
        words += section.words
        pace.add(section.words, is_stored=is_stored)
        goal = required or plan.words
        left = "stored" if is_stored else f"{duration(pace.seconds_left(goal - words))} left"
        print(
            f"section {section.number:>3} of {len(plan.steps)}  {section.words:>5,} words "
            f"(target {section.target:,})  {words:>7,} of {goal:,} words  "
            f"{left}{spent()}",
            file=sys.stderr,
            flush=True,
        )

    try:
        text = write_text(
            instruction,
            base_url=settings.base_urls,
            length=required,
            progress=progress,
            plan=planned.plan if planned else None,
            on_plan=on_plan,
            seed=seed,
            usage=on_usage,
            **settings.model_dump(exclude={"base_urls"}),
        )
    except WriteError as error:
        if error.is_fatal and not words and error.reason != "max_cost":
            raise InputError(
                f"{settings.model} at {settings.where} cannot be used: {error.detail}"
            ) from error
        print(f"agentwrite: not written: {error}; to resume: {ctx.obj}", file=sys.stderr)
        return 1
    if output:
        book_path(output).mkdir(exist_ok=True)
        with book_lock(book_path(output)):
            save_book(output, text, settings, title, origin.fields(output)).save_text()
    else:
        print(text.text)
    where = f"wrote {output}: " if output else ""
    print(
        f"{where}{text.words:,} words in {len(text.sections)} sections, {tokens(model, text)}",
        file=sys.stderr,
    )
    if not usage.calls:
        print(
            "The text comes from the store of finished calls, and no call was made. --fresh writes "
            "another text.",
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
