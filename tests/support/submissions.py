"""Runs with real prompts and chosen responses, and submissions of such runs."""

import json
import os
import random
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from support.logs import Answer, Log, words

from longwriter_core import benchmarks, files
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.runs import Run
from longwriter_eval.submission.archive import dump, dump_lines, pack
from longwriter_eval.submission.build import build_submission
from longwriter_eval.submission.facts import StatedMetadata
from longwriter_eval.submission.zip_file import MANIFEST, SAMPLES

Json = dict[str, Any]
RULER = "longwrite_ruler"
Grade = Callable[[int], int]


def log(
    benchmark: str = "longwrite_demo",
    grade: Grade = lambda number: 2 + number % 3,
    start: str = "",
    **changes: Any,
) -> Log:
    """A log over all prompts of a benchmark, each with a response of nearly the required length.

    Responses begin with `start`, and their words differ by `start` and prompt. Without `start`, all
    models have the same responses.
    """
    rows = benchmarks.read_prompts(benchmark)
    prompt = "official" if benchmark == "longbench_write" else "longwriter"
    first_task = {"longbench_write": "longbench_write_0000_0500", RULER: f"{RULER}_01000"}
    answers = {
        row["id"]: Answer(
            f"{start} {_words_of(start, number, row['length'] * 9 // 10 + number)}".strip(),
            None if benchmark == RULER else (grade(number),),
            row["prompt"],
            row["length"],
            row["type"],
            row["language"],
        )
        for number, row in enumerate(rows)
    }
    return Log(
        answers,
        # use one bucket's task for all buckets
        task=first_task.get(benchmark, benchmark),
        judge_prompt=JudgePrompt.load(prompt).sha256,
        data=benchmarks.data_sha256(benchmark),
    ).change(**changes)


def _words_of(start: str, prompt: int, number: int) -> str:
    """`number` words, which depend only on `start` and `prompt`."""
    if not start:
        return words(number)
    dice = random.Random(f"{start} {prompt}")
    return " ".join("".join(dice.choices("abcdefghij", k=4)) for _ in range(number)) + "."


def hand_in(run: Run, path: Path, **stated: Any) -> Path:
    """Write the submission of a run to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack(build_submission(run, StatedMetadata(**stated))))
    return path


def submitted(folder: Path, name: str = "mine", **changes: Any) -> Path:
    """The submission of a run of model `name`; `changes` are passed to `log`."""
    stated = {"submitter": changes.pop("submitter")} if "submitter" in changes else {}
    made = log(**{"start": name, **changes})
    run = made.load(folder / "runs" / name)
    if made.judge_prompt == JudgePrompt.load("official").sha256:
        run.results["configs"][made.task]["metadata"]["longwriter"]["judge"]["prompt"] = "official"
    return hand_in(run, folder / f"{name}.zip", **stated)


def unpacked(path: Path) -> tuple[Json, list[Json]]:
    """Manifest and samples of a submission."""
    with zipfile.ZipFile(path) as archive:
        lines = archive.read(SAMPLES).decode().split("\n")[:-1]
        return json.loads(archive.read(MANIFEST)), [json.loads(line) for line in lines]


def repacked(manifest: Json, samples: list[Json]) -> bytes:
    """A submission with any contents and the correct hash of its samples."""
    text = dump_lines(samples)
    return zipped(
        **{
            MANIFEST: dump({**manifest, "samples_sha256": files.sha256(text)}, indent=1),
            SAMPLES: text,
        }
    )


def zipped(**files: str | bytes) -> bytes:
    """A zip file of these files."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def deadly(path: Path, _: Path) -> Json:
    """Examine a submission; kill the process if the file's name is deadly.zip."""
    if path.name == "deadly.zip":
        os._exit(9)
    return {"reasons": ["examined"]}
