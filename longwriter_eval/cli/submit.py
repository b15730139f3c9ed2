"""`longwriter submit`: a run as one file that others can verify."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="lm_eval's --output_path")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="the submission")
    ] = Path("submission.zip"),
    model: Annotated[
        str | None,
        typer.Option(metavar="ID", help="the model, for example zai-org/glm-4-9b-chat-hf"),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="commit, tag or date of the model")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="type of the weights when served, for example bfloat16")
    ] = None,
    backend_version: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="what served the model, for example 'vllm 0.11.0'"),
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="the model's chat template; only its hash is submitted"),
    ] = None,
    context_length: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="context length, prompt and answer")
    ] = None,
    parameters: Annotated[
        str | None, typer.Option(metavar="SIZE", help="parameters of the model, for example 9.4B")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(metavar="ID", help="SPDX or hub identifier, for example apache-2.0"),
    ] = None,
    cost_usd: Annotated[
        float | None,
        typer.Option(metavar="USD", help="what writing the responses cost, without the judge"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", help="how long writing the responses took, without the judge"),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="the benchmark to submit, if the run has several: longbench_write, "
            "longwrite_demo or longwrite_ruler [default: the first of these]",
        ),
    ] = None,
    example: Annotated[
        bool,
        typer.Option(
            "--example",
            help="mark the scores as meaningless, as those of the demo: the leaderboard lists the "
            "submission and never ranks it",
        ),
    ] = False,
    submitter: Annotated[
        str | None, typer.Option(metavar="NAME", help="your name; published as given")
    ] = None,
) -> int:
    """Pack a run into one file that others can verify.

    Packs the newest lm_eval run below RUN_DIR: responses, verdicts, scores, and how they were
    made. Keys, private hosts and local paths are left out. The options state what the run does not
    record about its model; such values are marked as stated.
    """
    from longwriter_core.files import sha256, write_atomically
    from longwriter_eval.runs import load_run
    from longwriter_eval.submission import facts, judges
    from longwriter_eval.submission.archive import pack
    from longwriter_eval.submission.build import build_submission
    from longwriter_eval.submission.facts import StatedMetadata

    stated = StatedMetadata(
        model=model,
        revision=revision,
        dtype=dtype,
        backend_version=backend_version,
        chat_template_sha256=sha256(chat_template.read_bytes()) if chat_template else None,
        context_length=context_length,
        parameters=facts.parameters(parameters) if parameters is not None else None,
        licence=facts.licence(licence) if licence is not None else None,
        cost_usd=facts.positive("cost-usd", cost_usd),
        minutes=facts.positive("minutes", minutes),
        example=example,
        submitter=submitter,
    )
    made = build_submission(load_run(run_dir), stated, benchmark)
    data = pack(made)
    write_atomically(output, data)
    manifest = made.manifest
    about, backend = manifest["model"], manifest["backend"]
    unknown = [
        f"--{name.removesuffix('-sha256')}"
        for name in (
            "revision", "dtype", "parameters", "licence", "chat-template-sha256", "context-length",
        )
        if about[name.replace("-", "_")] is None
    ]  # fmt: skip
    unknown += [] if backend["version"] else ["--backend-version"]
    if unknown:
        print(f"not recorded by the run; you may state: {', '.join(unknown)}")
    if withheld := [*backend["withheld"], *manifest["generation"]["withheld"]]:
        print(f"left out because they may hold secrets or paths: {', '.join(withheld)}")
    print(
        f"wrote {output} ({len(data) / 1e6:.1f} MB, SHA-256 {sha256(data)}): "
        f"{about['id']['value']}, {len(made.samples)} responses, "
        + (f"judged by {judges.shown(manifest['judge'])}" if manifest["judge"] else "no judge")
    )
    print(f"check it: longwriter verify {output}")
    return 0
