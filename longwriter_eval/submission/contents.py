"""What a submission holds, its schema, and its bytes."""

import functools
import io
import itertools
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema

from longwriter_core import benchmarks
from longwriter_core.errors import InputError
from longwriter_core.text.length import bucket
from longwriter_core.text.printable import printable
from longwriter_eval.runs import Run, Sample

SCHEMA = "longwriter-submission/1"
MANIFEST, SAMPLES = "manifest.json", "samples.jsonl"


@dataclass(frozen=True)
class Submission:
    """A manifest and its samples, of the schema's shape but not yet believed.

    `path` and `sha256` are the zip's; both are empty for one that is being made.
    """

    manifest: Mapping[str, Any]
    samples: tuple[Mapping[str, Any], ...]
    path: Path = Path()
    sha256: str = ""

    @functools.cached_property
    def prompts(self) -> dict[str, dict[str, Any]]:
        """The benchmark's own rows by id. Raises InputError where upstream's files are missing."""
        return {row["id"]: row for row in benchmarks.read_prompts(self.manifest["benchmark"])}

    def logged(self, sample: Mapping[str, Any]) -> Sample:
        """A sample as a run's log has it, with the benchmark's own prompt. Raises KeyError."""
        row = self.prompts[sample["id"]]
        judgement = {
            "prompt_sha256": self.manifest["judge"]["prompt_sha256"],
            "response_sha256": sample["response_sha256"],
            "verdicts": [
                {name: value for name, value in verdict.items() if name != "asked_sha256"}
                for verdict in sample["verdicts"]
            ],
        }
        doc = {**row, "bucket": bucket(row["length"]), "judgement": judgement}
        return Sample(
            task=sample["task"],
            id=sample["id"],
            prompt=row["prompt"],
            type=row["type"],
            required=row["length"],
            language=row["language"],
            response=sample["response"],
            row={"doc": doc, "cut_off": float(sample["cut_off"])},
        )

    def run(self) -> Run:
        """The run that the submission tells of, under the names that lm-eval's results have."""
        manifest = self.manifest
        model, judge = manifest["model"], manifest["judge"]
        backend, generation = manifest["backend"], manifest["generation"]
        recorded = {
            "version": manifest["longwriter"],
            "data_sha256": manifest["data_sha256"],
            "judge": {
                "model": judge["requested"],
                **{name: judge[name] for name in ("temperature", "max_tokens", "repeats")},
                "base_url": None,
                "prompt": judge["prompt"],
            },
            "judge_prompt_sha256": judge["prompt_sha256"],
        }
        config = {
            "num_fewshot": generation["num_fewshot"],
            "generation_kwargs": generation["settings"],
            "metadata": {"version": manifest["task_version"], "longwriter": recorded},
        }
        value_of = {
            name: fact and fact["value"] for name, fact in model.items() if name != "served_as"
        }
        results = {
            "config": {
                "model": backend["name"]["value"],
                "model_args": backend["arguments"],
                "model_revision": value_of["revision"],
                "model_dtype": value_of["dtype"],
                "model_num_parameters": value_of["parameters"],
                "limit": None,
                **{f"{name}_seed": seed for name, seed in manifest["seeds"].items()},
            },
            "configs": {task: {"task": task, **config} for task in manifest["tasks"]},
            "date": datetime.fromisoformat(manifest["date"]).timestamp(),
            "versions": dict.fromkeys(manifest["tasks"], manifest["task_version"]),
            "task_hashes": manifest["task_hashes"],
            "model_name": value_of["id"],
            "chat_template_sha": value_of["chat_template_sha256"],
            "max_length": value_of["context_length"],
            "system_instruction": generation["system_instruction"],
            **{f"{name}_version": version for name, version in backend["libraries"].items()},
        }
        return Run(self.path, results, [self.logged(sample) for sample in self.samples])


def pack(submission: Submission) -> bytes:
    """The zip: the same submission has the same bytes, whoever packs it and when."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in (
            (MANIFEST, dump(submission.manifest, indent=2)),
            (SAMPLES, dump_lines(submission.samples)),
        ):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, also where Windows packs it
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text.encode())
    return buffer.getvalue()


def dump(value: Any, indent: int | None = None) -> str:
    """JSON with its keys in order. Raises ValueError for NaN and infinity."""
    return json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)


def dump_lines(samples: Iterable[Mapping[str, Any]]) -> str:
    """The text of samples.jsonl."""
    return "".join(dump(sample) + "\n" for sample in samples)


def check_shape(value: Any, kind: str, where: str) -> None:
    """Raise InputError unless `value` is a "manifest" or a "sample", as the schema has it."""
    # the first alone: what is hostile may have any number of them; sizes are looked at first
    first = itertools.islice(_validator(kind).iter_errors(value), 1)
    problem = jsonschema.exceptions.best_match(first)
    if problem:
        place = ".".join(str(step) for step in problem.absolute_path)
        what = problem.message  # begins with the value, however long, and ends with its fault
        if len(what) > 200:
            what = f"{what[:80]} … {what[-100:]}"
        raise InputError(f"{where}: {printable(place)}: {printable(what)}".replace(": :", ":"))


@functools.cache
def _validator(kind: str) -> Any:
    text = (files("longwriter_eval.submission") / "schema-1.json").read_text(encoding="utf-8")
    schema = {**json.loads(text), "$ref": f"#/$defs/{kind}"}
    base = jsonschema.Draft202012Validator
    # to JSON Schema 1.0 is an integer; to our code it is not
    types = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(base, type_checker=types)(schema)
