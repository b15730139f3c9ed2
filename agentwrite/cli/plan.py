"""`agentwrite plan`: only the plan of a text, to be edited."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from agentwrite.cli import options
from agentwrite.settings import Settings
from longwriter_core.errors import InputError


def command(
    ctx: typer.Context,
    instruction: Annotated[str, typer.Argument(metavar="INSTRUCTION", help="what to write")],
    model: options.ModelName,
    base_url: options.BaseUrls = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="file for the plan; default: stdout")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, metavar="WORDS", help="required length")
    ] = None,
    prompts: options.PromptSet = options.DEFAULTS["prompts"],
    max_tokens: options.MaxTokens = options.DEFAULTS["max_tokens"],
    temperature: options.Temperature = options.DEFAULTS["temperature"],
    extra: options.Extra = "{}",
    timeout: options.Timeout = None,
    max_cost: options.MaxCost = None,
    seed: options.Seed = None,
    fresh: options.Fresh = False,
    dry_run: options.DryRun = False,
) -> int:
    """Plan a text, as YAML to read and edit.

    Then write it with `agentwrite write --plan FILE`.
    """
    from agentwrite.book import plan_yaml
    from agentwrite.errors import WriteError
    from agentwrite.write import plan_text
    from agentwrite.writing.writer import MAX_TEXT_WORDS
    from longwriter_core.files import write_atomically
    from longwriter_core.text.required_length import required_length

    if not instruction.strip():
        raise InputError("the instruction is empty")
    options.check_output(output, "the plan")
    settings = Settings.resolve(
        model=model,
        base_urls=base_url,
        prompts=prompts,
        max_tokens=max_tokens,
        temperature=temperature,
        extra=extra,
        timeout=timeout,
        max_cost=max_cost,
    )
    required = length or required_length(instruction)
    if (required or 0) > MAX_TEXT_WORDS:
        raise InputError(f"{required:,} words are asked for, and {MAX_TEXT_WORDS:,} are the most")
    seed = options.chosen_seed(seed, fresh)
    if dry_run:
        from agentwrite.estimate import estimate_text
        from agentwrite.writing.state import Instruction
        from longwriter_core.llm import Store

        to_plan = Instruction("", instruction, required)
        expected = estimate_text(to_plan, settings, Store(), seed=seed, only_plan=True)
        options.print_estimate(expected, settings)
        return 0
    try:
        plan = plan_text(instruction, settings, length=required, seed=seed)
    except WriteError as error:
        if error.is_fatal and error.reason != "max_cost":
            raise InputError(
                f"{settings.model} at {settings.where} cannot be used: {error.detail}"
            ) from error
        print(f"agentwrite: not planned: {error}; to resume: {ctx.obj}", file=sys.stderr)
        return 1
    text = plan_yaml(instruction, plan)
    if not output:
        print(text, end="")
        return 0
    write_atomically(output, text.encode("utf-8", "backslashreplace"))
    print(
        f"wrote {output}: {len(plan.steps)} steps, {plan.words:,} words; to write the text: "
        f"agentwrite write --plan {output} --model {model} -o NAME.md",
        file=sys.stderr,
    )
    return 0
