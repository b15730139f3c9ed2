"""Reads and writes the results and sample logs of an lm-eval run."""

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longwriter_core.errors import InputError
from longwriter_core.files import cache_dir, sha256, write_atomically
from longwriter_core.jsonl import read_jsonl, write_jsonl
from longwriter_eval.version import TASK_VERSION

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """A prompt and its response. `row` is the complete line of the sample log.

    If a prompt was answered several times, each response is a sample, and `id` ends in "#2" for the
    second, and so on.
    """

    task: str
    id: str
    prompt: str
    type: str
    required: int  # words
    language: str
    response: str
    row: dict[str, Any]
    version: float = TASK_VERSION  # of the task; selects the scoring rules
    repeat: int = 0  # the number of the response among all `repeats` to its prompt
    repeats: int = 1

    @classmethod
    def from_doc(
        cls,
        task: str,
        doc: Mapping[str, Any],
        response: str,
        row: dict[str, Any],
        version: float = TASK_VERSION,
        repeat: int = 0,
        repeats: int = 1,
    ) -> "Sample":
        """Build the sample of a task's document. Raises KeyError or TypeError if malformed."""
        for name in ("id", "type", "language"):
            if not isinstance(doc[name], str):
                raise TypeError(name)
        return cls(
            task=task,
            id=response_id(doc["id"], repeat),
            prompt=doc["prompt"],
            type=doc["type"],
            required=doc["length"],
            language=doc["language"],
            response=response,
            row=row,
            version=version,
            repeat=repeat,
            repeats=repeats,
        )

    @property
    def prompt_id(self) -> str:
        """The prompt's id, which all responses to it share."""
        return self.id.partition("#")[0]

    @property
    def judgement(self) -> dict[str, Any] | None:
        """The record of the judge's verdicts, or None if no judge was used."""
        judgement: dict[str, Any] | None = self._of_response("judgement")
        return judgement

    @property
    def reached_limit(self) -> bool:
        """Whether the log says that the backend stopped at its token limit."""
        recorded = self._of_response("reached_limit")
        return bool(self.row.get("cut_off") if recorded is None else recorded)

    def _of_response(self, name: str) -> Any:
        """An entry of the logged document: a list if there are several responses to the prompt."""
        entry = self.row["doc"].get(name)
        if not isinstance(entry, list):
            return entry
        return entry[self.repeat] if self.repeat < len(entry) else None


def response_id(prompt_id: str, repeat: int) -> str:
    """The id of one of several responses to a prompt; the first one's is the prompt's."""
    return f"{prompt_id}#{repeat + 1}" if repeat else prompt_id


class Unfinished(BaseModel):
    """What a process records about a run that did not end, beside the responses that it keeps."""

    model_config = ConfigDict(frozen=True)

    run: str
    ranks: int = Field(ge=1, le=100_000)
    rank: int | None = Field(None, ge=0)  # none in a run of one process, and in scored results
    kept: list[int] = []  # the ranks whose responses have been found
    documents: dict[str, dict[str, Annotated[int, Field(gt=0)]]]  # task, id, required length


@dataclass(frozen=True)
class Run:
    """The newest results of a run folder, and the samples that belong to them.

    The responses of a run that did not end are kept as results, too, by each of its processes.
    `missing` are the prompts of such a run whose responses no process kept.
    """

    path: Path  # of the results file
    results: dict[str, Any]
    samples: list[Sample]
    # task -> prompt id -> required length
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the run: of its results, or of the folders of its processes."""
        is_part = _unfinished_run(self.results) is not None
        return self.path.parent.parent if is_part else self.path.parent

    @property
    def gap(self) -> str:
        """How many responses the run lacks, which, and what to do, in one line; "" if none."""
        ids = sorted({id for of_task in self.missing.values() for id in of_task})
        if not ids:
            return ""
        record = self.results["unfinished"]
        number = len({id for of_task in record["documents"].values() for id in of_task})
        ranks = sorted(set(range(record["ranks"])) - set(record["kept"]))
        return (
            f"{len(ids)} of {number} responses are missing ({', '.join(ids[:3])}"
            f"{', …' if len(ids) > 3 else ''}): "
            + (
                f"rank {', '.join(map(str, ranks))} of {record['ranks']} has kept none here. If it "
                f"ran on another machine, copy responses/{record['run']} of that machine's cache "
                f"into {self.folder} and rerun this command; otherwise "
                if ranks
                else ""
            )
            + "run lm_eval again"
        )

    def record(self, task: str) -> dict[str, Any]:
        """The task's own record: version, data_sha256 and, if it was judged, the judge."""
        record: dict[str, Any] = self.results["configs"][task]["metadata"]["longwriter"]
        return record


# lm-eval writes results_DATE.json, or NAME_DATE.json for an --output_path NAME.json.
_DATE = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)$")


def load_run(place: Path) -> Run:
    """Read the newest results below a folder that hold this package's tasks, and their samples.

    `place` may also be a results file. Raises InputError, with file and line, if a file is
    malformed or samples are missing.
    """
    dated = _dated(place)
    for date, path in dated:
        if run := _load(date, path):
            return run
    if dated:
        raise InputError(f"none of the {len(dated)} results files in {place} holds our tasks")
    if place.exists():
        hint = "it holds no results" if place.is_dir() else "it is no results file"
        if kept := sorted((cache_dir() / "responses").glob("*")):
            hint += f" (the responses of interrupted runs are in {kept[-1].parent}, newest last)"
    else:
        hint = "there is no such folder"
    raise InputError(f"{place}: {hint}; name the --output_path of a run of lm_eval")


def load_runs(folder: Path) -> list[Run]:
    """All results below `folder` that hold this package's tasks, the newest first.

    If several judges scored a run, it has several results. Unreadable older results are skipped
    with a warning. Raises InputError as load_run does.
    """
    newest = load_run(folder)
    runs = [newest]
    parts = {_unfinished_run(newest.results)}
    for date, path in _dated(folder):
        try:
            if path == newest.path or not (run := _load(date, path)):
                continue
            part = _unfinished_run(run.results)
            if part not in parts or part is None:
                runs.append(run)
            parts.add(part)
        except InputError as error:
            _log.warning("left out: %s", error)
    return runs


def _dated(place: Path) -> list[tuple[str, Path]]:
    """Date and path of the results files at or below `place`, the newest first."""
    paths = [place] if place.is_file() else place.rglob("*.json")
    dated_paths = ((_DATE.search(path.stem), path) for path in paths)
    return sorted(((match[1], path) for match, path in dated_paths if match), reverse=True)


def _load(date: str, path: Path) -> Run | None:
    """The run of one results file; None if it holds none of this package's tasks."""
    results = _parse(path)
    if not isinstance(results, dict) or not isinstance(results.get("configs"), dict):
        raise InputError(f"{path} is not a results file of lm-eval: it has no configs")
    try:
        own_tasks = [
            task
            for task, config in results["configs"].items()
            if "longwriter" in (config.get("metadata") or {})
        ]
        for task in own_tasks:
            _check_record(results["configs"][task]["metadata"]["longwriter"])
        dict(results.get("task_hashes") or {})
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its configs or task_hashes are malformed ({error})") from error
    if not own_tasks:
        return None
    record = _unfinished(path, results)
    run = Run(path, results, _samples_beside(path, date, results, own_tasks))
    return _with_all_ranks(run, record) if record else run


def _unfinished(path: Path, results: Mapping[str, Any]) -> Unfinished | None:
    """The record in the results at `path` of a run that did not end, or None. Raises InputError."""
    if "unfinished" not in results:
        return None
    try:
        return Unfinished.model_validate(results["unfinished"], strict=True)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(
            f"{path}: its record of an unfinished run is malformed ({place or 'unfinished'}: "
            f"{error.errors()[0]['msg']})"
        ) from error


def _unfinished_run(results: Mapping[str, Any]) -> str | None:
    """The name of the unfinished run of which `results` are one process's part, or None."""
    record = results.get("unfinished")
    return str(record.get("run")) if isinstance(record, dict) and "rank" in record else None


def _with_all_ranks(run: Run, record: Unfinished) -> Run:
    """An unfinished run with the responses that all of its processes have kept.

    The files of each process lie in a folder of its own, and are one run together. Results that
    were written by `longwriter score` are completed, too: a folder may have been added since.
    """
    expected, parts = record.documents, [run.results]
    kept = {*record.kept, *([] if record.rank is None else [record.rank])}
    samples = {(sample.task, sample.id): sample for sample in run.samples}
    for date, path in _dated(run.folder):
        results = _parse(path) if path != run.path else {}
        if not isinstance(results, dict) or _unfinished_run(results) != record.run:
            continue
        part = _unfinished(path, results)
        if part is None or part.rank is None:
            continue
        if not isinstance(results.get("configs"), dict) or set(expected) - set(results["configs"]):
            raise InputError(f"{path}: its configs are not those of {run.path}")
        kept.add(part.rank)
        parts.append(results)
        for sample in _samples_beside(path, date, results, expected):
            samples.setdefault((sample.task, sample.id), sample)
    places = [(task, id) for task, ids in expected.items() for id in ids]
    order = {place: number for number, place in enumerate(places)}
    ordered = sorted(
        (sample for sample in samples.values() if (sample.task, sample.prompt_id) in order),
        key=lambda sample: (order[sample.task, sample.prompt_id], sample.repeat),
    )
    hashes = {}
    if all(set(expected) <= set(part.get("task_hashes") or ()) for part in parts):
        firsts = [sample for sample in ordered if not sample.repeat]
        hashes = {task: task_hash(s.row for s in firsts if s.task == task) for task in expected}
    missing = {
        task: {id: ids[id] for id in ids if (task, id) not in samples}
        for task, ids in expected.items()
    }
    completed = record.model_copy(update={"kept": sorted(kept)}).model_dump(exclude_none=True)
    results = {**run.results, "task_hashes": hashes, "unfinished": completed}
    return replace(run, results=results, samples=ordered, missing=missing)


def _samples_beside(
    path: Path, date: str, results: Mapping[str, Any], tasks: Iterable[str]
) -> list[Sample]:
    """The samples of `tasks` that belong to the results file at `path`."""
    hashes = results.get("task_hashes") or {}
    return [
        sample
        for task in tasks
        for sample in _read_samples(
            path.with_name(f"samples_{task}_{date}.jsonl"),
            task,
            hashes.get(task),
            _version(results["configs"][task]),
            _repeats(results["configs"][task]),
        )
    ]


def _check_record(record: Mapping[str, Any]) -> None:
    """Raise TypeError unless `record` has the shape that this package's tasks write."""
    for name, kind in (("data_sha256", str), ("judge_prompt_sha256", str), ("judge", dict)):
        if name in record and not isinstance(record[name], kind):
            raise TypeError(f"{name} is {record[name]!r}")


def task_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """lm-eval's hash over a task's samples in order, stored in the results as `task_hashes`."""
    hashes = (row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows)
    return sha256("".join(hashes))


def row_hashes(doc: Mapping[str, Any], prompt: str) -> dict[str, str]:
    """The hashes that lm-eval writes into the row of a document that has no target."""
    text = json.dumps(doc, indent=2, ensure_ascii=False)
    return {"doc_hash": sha256(text), "prompt_hash": sha256(prompt), "target_hash": sha256("")}


def save_run(
    folder: Path, results: Mapping[str, Any], rows: Mapping[str, Iterable[Mapping[str, Any]]]
) -> Path:
    """Write results and sample rows (by task) to lm-eval's file names; return the results' path.

    Samples are written first, so that no results file exists without them. Raises OSError.
    """
    date = datetime.now().isoformat().replace(":", "-")
    for task, lines in rows.items():
        write_jsonl(folder / f"samples_{task}_{date}.jsonl", map(_valid, lines))
    path = folder / f"results_{date}.json"
    text = json.dumps(_valid(results), indent=2, ensure_ascii=False, default=str, allow_nan=False)
    write_atomically(path, text.encode("utf-8", "backslashreplace"))  # responses: lone surrogates
    return path


def _valid(data: Any) -> Any:
    """`data` with None in place of NaN and infinity, which JSON cannot represent."""
    if isinstance(data, Mapping):
        return {key: _valid(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_valid(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _version(config: Mapping[str, Any]) -> float:
    """The version of a task, as its configuration states it."""
    version = config["metadata"].get("version")
    return float(version) if isinstance(version, int | float) else TASK_VERSION


def _repeats(config: Mapping[str, Any]) -> int:
    """How many responses to each prompt a task asks for."""
    repeats = config.get("repeats")
    return repeats if isinstance(repeats, int) and repeats > 0 else 1


def _read_samples(
    path: Path, task: str, expected_hash: str | None, version: float, repeats: int
) -> list[Sample]:
    if not path.is_file():
        raise InputError(f"{path} is missing: the run must be made with --log_samples")
    samples = []
    for number, row in read_jsonl(path):
        try:
            for repeat in range(repeats):
                response = row["resps"][0][repeat]
                samples.append(
                    Sample.from_doc(task, row["doc"], response, row, version, repeat, repeats)
                )
            if expected_hash:
                task_hash([row])
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(
                f"{path}, line {number}: not a sample of {task} ({error!r} is missing)"
            ) from error
    rows = [sample.row for sample in samples if not sample.repeat]
    if expected_hash and task_hash(rows) != expected_hash:
        raise InputError(
            f"{path}: its {len(rows)} samples are not the ones that the results count; lines "
            "are missing or edited"
        )
    return samples


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
