"""What a submission holds: its manifest and samples, and the run that they describe."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from longwriter_core import benchmarks
from longwriter_core.text.length import bucket
from longwriter_eval.runs import Run, Sample
from longwriter_eval.submission import judges

SCHEMA, SCHEMA_1 = "longwriter-submission/2", "longwriter-submission/1"


@dataclass(frozen=True)
class Submission:
    """A manifest and its samples, valid by the schema but with unverified claims.

    `path` and `sha256` belong to the zip file; both are empty before it is written.
    """

    manifest: Mapping[str, Any]
    samples: tuple[Mapping[str, Any], ...]
    path: Path = Path()
    sha256: str = ""

    @functools.cached_property
    def _judge_names(self) -> list[str | None]:
        """The name of each judge in the verdicts: none if there is only one."""
        names = judges.names(self.manifest["judge"])
        return [None] if len(names) == 1 else [*names]

    @functools.cached_property
    def prompts(self) -> dict[str, dict[str, Any]]:
        """The benchmark's prompts by id. Raises InputError if the upstream files are missing."""
        return {row["id"]: row for row in benchmarks.read_prompts(self.manifest["benchmark"])}

    def logged(self, sample: Mapping[str, Any]) -> Sample:
        """A sample as in the log of a run, with the benchmark's prompt. Raises KeyError."""
        row = self.prompts[sample["id"]]
        doc = {**row, "bucket": bucket(row["length"])}
        if self.manifest["judge"]:
            doc["judgement"] = self._judgement(sample)
        return Sample(
            task=sample["task"],
            id=sample["id"],
            prompt=row["prompt"],
            type=row["type"],
            required=row["length"],
            language=row["language"],
            response=sample["response"],
            row={"doc": doc, "cut_off": float(sample["cut_off"])},
            version=self.manifest["task_version"],
        )

    def _judgement(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """The record of a sample's verdicts, as in the log of a run."""
        return {
            "prompt_sha256": self.manifest["judge"]["prompt_sha256"],
            "response_sha256": sample["response_sha256"],
            "verdicts": [
                {name: value for name, value in verdict.items() if name != "asked_sha256"}
                | {"judge": self._judge_names[verdict["judge"]]}
                for verdict in sample["verdicts"]
            ],
        }

    def run(self) -> Run:
        """The submitted run, in the form of lm-eval's results."""
        manifest = self.manifest
        model, judge = manifest["model"], manifest["judge"]
        backend, generation = manifest["backend"], manifest["generation"]
        recorded = {
            "version": manifest["longwriter"],
            "data_sha256": manifest["data_sha256"],
        }
        if judge:
            recorded["judge"] = judges.record(judge)
            recorded["judge_prompt_sha256"] = judge["prompt_sha256"]
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
