"""The files of an lm-eval run: sample logs in, typed rows out; and the same shape written back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from longwriter_eval.assets import write_atomically
from longwriter_eval.errors import InputError


@dataclass(frozen=True)
class Sample:
    """One answered prompt. `row` is the log's own line, with everything else that it holds."""

    task: str
    id: str
    prompt: str
    type: str
    required: int  # words
    language: str
    response: str
    row: dict[str, Any]

    @property
    def judgement(self) -> dict[str, Any] | None:
        """The record of the judge's verdicts, or None where nothing was judged."""
        judgement: dict[str, Any] | None = self.row["doc"].get("judgement")
        return judgement


@dataclass(frozen=True)
class Run:
    """The newest results of a run folder, and the samples that belong to them."""

    folder: Path
    results: dict[str, Any]
    samples: list[Sample]


def load_run(folder: Path) -> Run:
    """Read the newest results_*.json below `folder` and the samples_*.jsonl beside it.

    Only this package's tasks are read. Raises InputError that names the file and the line.
    """
    found = sorted(folder.rglob("*results_*.json"), key=lambda path: path.stem[-26:])
    if not found:
        hint = "" if folder.is_dir() else " (there is no such folder)"
        raise InputError(f"no results_*.json in {folder}{hint}: name the --output_path of a run")
    newest = found[-1]
    date = newest.stem.partition("results_")[2] or newest.stem[-26:]
    results = _parse(newest, newest.read_text(encoding="utf-8"))
    if not isinstance(results, dict) or not isinstance(results.get("configs"), dict):
        raise InputError(f"{newest} is not a results file of lm-eval: it has no configs")
    samples = [
        sample
        for task, config in results["configs"].items()
        if "longwriter" in (config.get("metadata") or {})
        for sample in _read_samples(newest.parent / f"samples_{task}_{date}.jsonl", task)
    ]
    if not samples:
        raise InputError(f"{newest} holds no task of longwriter")
    return Run(newest.parent, results, samples)


def save_run(
    folder: Path, results: Mapping[str, Any], rows: Mapping[str, Iterable[Mapping[str, Any]]]
) -> Path:
    """Write results and sample rows (by task) as lm-eval names them; return the results' path.

    The samples come first: a results file is never without them. Raises OSError.
    """
    date = datetime.now().isoformat().replace(":", "-")
    for task, lines in rows.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomically(folder / f"samples_{task}_{date}.jsonl", _encode(text))
    path = folder / f"results_{date}.json"
    write_atomically(path, _encode(json.dumps(results, indent=2, ensure_ascii=False, default=str)))
    return path


def _encode(text: str) -> bytes:
    # half a surrogate pair in a response must not lose the run
    return text.encode("utf-8", "backslashreplace")


def _read_samples(path: Path, task: str) -> Iterable[Sample]:
    if not path.is_file():
        raise InputError(f"{path} is missing: the run must be made with --log_samples")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            row = _parse(path, line, number)
            try:
                doc = row["doc"]
                yield Sample(
                    task=task,
                    id=doc["id"],
                    prompt=doc["prompt"],
                    type=doc["type"],
                    required=doc["length"],
                    language=doc["language"],
                    response=row["resps"][0][0],
                    row=row,
                )
            except (KeyError, IndexError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number}: not a sample of {task} ({error!r} is missing)"
                ) from error


def _parse(path: Path, text: str, line: int | None = None) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        place = f"{path}, line {line}" if line else str(path)
        raise InputError(f"{place}: not JSON ({error})") from error
