"""`longwriter submit`: a run as one file that others can verify."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    command = commands.add_parser(
        "submit",
        help="pack a run into one file that others can verify",
        description="Pack the newest lm_eval run below RUN_DIR: responses, verdicts, scores, and "
        "how they came about. Keys, private hosts and local paths stay out. What the run does not "
        "know of its model, the options state; it is marked as stated.",
    )
    command.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="lm_eval's --output_path")
    command.add_argument(
        "-o", "--output", type=Path, default=Path("submission.zip"), help="default: submission.zip"
    )
    command.add_argument(
        "--model", metavar="ID", help="the model, such as zai-org/glm-4-9b-chat-hf"
    )
    command.add_argument("--revision", help="its commit, tag or date")
    command.add_argument("--dtype", help="what it ran in, such as bfloat16")
    command.add_argument(
        "--backend-version", metavar="VERSION", help="what served it, such as 'vllm 0.11.0'"
    )
    command.add_argument(
        "--chat-template", metavar="FILE", type=Path, help="its template; only the hash goes in"
    )
    command.add_argument("--context-length", metavar="TOKENS", type=int, help="prompt and answer")
    command.add_argument("--submitter", metavar="NAME", help="who submits; published as given")
    command.set_defaults(run=_submit)


def _submit(options: argparse.Namespace) -> int:
    from longwriter_core.files import sha256, write_atomically
    from longwriter_eval.runs import load_run
    from longwriter_eval.submission.build import make
    from longwriter_eval.submission.contents import pack
    from longwriter_eval.submission.model import Stated

    template = options.chat_template
    stated = Stated(
        model=options.model,
        revision=options.revision,
        dtype=options.dtype,
        backend_version=options.backend_version,
        chat_template_sha256=sha256(template.read_bytes()) if template else None,
        context_length=options.context_length,
        submitter=options.submitter,
    )
    made = make(load_run(options.run_dir), stated)
    data = pack(made)
    write_atomically(options.output, data)
    manifest = made.manifest
    model, backend = manifest["model"], manifest["backend"]
    unknown = [
        f"--{name.removesuffix('-sha256')}"
        for name in ("revision", "dtype", "chat-template-sha256", "context-length")
        if model[name.replace("-", "_")] is None
    ]
    unknown += [] if backend["version"] else ["--backend-version"]
    if unknown:
        print(f"the run does not know, and you may state: {', '.join(unknown)}")
    if withheld := [*backend["withheld"], *manifest["generation"]["withheld"]]:
        print(f"left out, as they may hold secrets or paths: {', '.join(withheld)}")
    print(
        f"wrote {options.output} ({len(data) / 1e6:.1f} MB, SHA-256 {sha256(data)}): "
        f"{model['id']['value']}, {len(made.samples)} responses, judged by "
        f"{manifest['judge']['returned']}"
    )
    print(f"check it: longwriter verify {options.output}")
    return 0
