"""The judging phase of an evaluation, which judges the responses of all tasks at once."""

import logging
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from longwriter_core import files
from longwriter_core.redact import redact_arguments
from longwriter_eval.judge.panel import Panel
from longwriter_eval.judge.prompt import BUILT_IN
from longwriter_eval.judge.verdict import Item, Judgement
from longwriter_eval.lm_eval_task.lm_eval_internals import (
    CutText,
    model_record,
    output_folder,
    shared_number,
)
from longwriter_eval.runs import response_id, row_hashes, save_run, task_hash
from longwriter_eval.stats.agreement import judge_scores, pair_agreements
from longwriter_eval.stats.thresholds import MIN_COVERAGE

_log = logging.getLogger("lm_eval.longwriter")  # lm-eval shows only its own loggers

_KEPT_RUNS = 20  # how many runs' responses to keep in the cache


def item_id(task: str, prompt_id: str) -> str:
    """The id that links a judgement to its response; a prompt can occur in several tasks."""
    return f"{task}:{prompt_id}"


@dataclass(frozen=True)
class Process:
    """This process among those that share a run's prompts. `run` is the same in all of them."""

    run: str
    rank: int = 0
    ranks: int = 1

    @property
    def name(self) -> str:
        """Begins the messages of one of several ranks; "" for a single process."""
        return f"rank {self.rank} of {self.ranks}: " if self.ranks > 1 else ""

    @classmethod
    def of(cls, lm: Any) -> "Process":
        """This process of a model's evaluation. All ranks must call it."""
        started = datetime.fromtimestamp(shared_number(lm, time.time_ns() // 1000) / 1e6, UTC)
        rank, ranks = (lm.rank, lm.world_size) if lm is not None else (0, 1)
        return cls(f"{started:%Y%m%d-%H%M%S-%f}", rank, ranks)


def texts_of(instance: Any) -> list[str]:
    """The cleaned responses to an instance of a task, of which there may be several."""
    filtered = instance.filtered_resps["none"]
    return filtered if isinstance(filtered, list) else [filtered]


def items_of(task: Any, instance: Any) -> Iterator[tuple[str, str]]:
    """Item id and text of each response to an instance."""
    for repeat, text in enumerate(texts_of(instance)):
        yield item_id(task.config.task, response_id(instance.doc["id"], repeat)), text


class Judging:
    """The tasks of one evaluation that the same judge, or panel of judges, judges together.

    The limit on concurrent judge calls is divided among the processes of the run.
    """

    def __init__(self, panel: Panel, process: Process) -> None:
        self.panel = panel
        self.process = process
        self.tasks: list[Any] = []
        self._concurrency = max(1, panel.judges[0].concurrency // process.ranks)

    def run(self) -> Mapping[str, Judgement]:
        """Judge the filtered responses of `tasks`; item_id -> judgement."""
        items = list(self._items())
        with self.panel.only_one(items) as is_first:
            kept = self._keep_responses() if is_first else None
            judgements = self.panel.judge_with_progress(items, self._concurrency, may_ask=is_first)
        if is_first:
            for found in pair_agreements(judge_scores(judgements)):
                _log.info("%s%s", self.process.name, found)
            self._report_gaps(judgements.values(), kept)
        return judgements

    def _items(self) -> Iterator[Item]:
        for task in self.tasks:
            for instance in task.instances:
                for id, response in items_of(task, instance):
                    yield Item(id, instance.doc["prompt"], response)

    def _keep_responses(self) -> Path | None:
        """Write the responses as an unjudged run, for `longwriter score`.

        Responses cost GPU hours, but lm-eval writes them only after judging. Without this copy,
        killing the process while it judges would lose them. If several processes share the
        prompts, each writes a folder of its own; runs.load_run reads them as one run.
        """
        parent, process = files.cache_dir() / "responses", self.process
        run = parent / process.run
        folder = run / f"rank-{process.rank}" if process.ranks > 1 else run
        configs = {task.config.task: _public_config(task.dump_config()) for task in self.tasks}
        rows = {
            task.config.task: [
                {
                    "doc_id": instance.doc_id,
                    "doc": {
                        **instance.doc,
                        "reached_limit": [isinstance(t, CutText) for t in texts_of(instance)],
                    },
                    "target": "",
                    "arguments": {"gen_args_0": {"arg_1": instance.args[1]}},
                    "resps": [instance.resps],
                    "filtered_resps": [instance.filtered_resps["none"]],
                    "filter": "none",
                    "metrics": [],
                    **row_hashes(instance.doc, str(instance.args[0])),
                }
                for instance in task.instances
            ]
            for task in self.tasks
        }
        try:
            hashes = {task: task_hash(of_task) for task, of_task in rows.items()}
            unfinished = {
                "run": process.run,
                "ranks": process.ranks,
                **({"rank": process.rank} if process.ranks > 1 else {}),
                "documents": {task.config.task: task.documents for task in self.tasks},
            }
            results = {**model_record(), "configs": configs, "task_hashes": hashes}
            save_run(folder, {**results, "unfinished": unfinished}, rows)
        except OSError as error:
            _log.warning("cannot keep a copy of the responses in %s: %s", folder, error.strerror)
            return None
        if process.rank == 0:
            for old in sorted(parent.iterdir())[:-_KEPT_RUNS]:
                if not _is_scored(old):
                    shutil.rmtree(old, ignore_errors=True)
        _log.info("a copy of the responses is kept in %s", folder)
        return run

    def _report_gaps(self, judgements: Collection[Judgement], kept: Path | None) -> None:
        """Warn about missing verdicts, with the command that retries them."""
        missing = Counter(reason for judgement in judgements for reason in judgement.missing)
        if not missing:
            return
        judged = sum(bool(judgement.quality) for judgement in judgements)
        command = ["longwriter", "score", str(output_folder() or kept or "OUTPUT_PATH")]
        prompt = self.panel.settings.first.prompt
        if prompt not in BUILT_IN:  # the path of a prompt file is not recorded
            command += ["--judge-prompt", prompt]
        _log.warning(
            "%s%d of %d verdicts are missing (%s)%s; to retry: %s",
            self.process.name,
            missing.total(),
            sum(len(judgement.verdicts) + len(judgement.segments) for judgement in judgements),
            ", ".join(f"{reason} {number}" for reason, number in sorted(missing.items())),
            f": under {MIN_COVERAGE:.0%} of the responses are judged, so the quality scores are NaN"
            if judged < MIN_COVERAGE * len(judgements) and self.process.ranks == 1
            else "",
            shlex.join(command),
        )


def _is_scored(kept: Path) -> bool:
    """Whether the user has scored the kept run, which adds a results file to its folder."""
    own = len(list(kept.glob("results_*")))
    return own > (0 if any(kept.glob("rank-*")) else 1)


def _public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A task's configuration without secrets; its metadata contains the model's arguments."""
    metadata = config.get("metadata") or {}
    own = {"longwriter": metadata["longwriter"]} if "longwriter" in metadata else {}
    return {**config, "metadata": {**redact_arguments(metadata), **own}}
