"""The judging phase of an evaluation, which judges the responses of all tasks at once."""

import logging
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from longwriter_core import files
from longwriter_core.redact import redact_arguments
from longwriter_eval.judge.judge import Item
from longwriter_eval.judge.panel import Panel
from longwriter_eval.judge.prompt import BUILT_IN
from longwriter_eval.judge.verdict import Judgement
from longwriter_eval.lm_eval_task.lm_eval_internals import model_record, output_folder
from longwriter_eval.runs import row_hashes, save_run, task_hash
from longwriter_eval.stats.agreement import judge_scores, pair_agreements
from longwriter_eval.stats.thresholds import MIN_COVERAGE

_log = logging.getLogger("lm_eval.longwriter")  # lm-eval shows only its own loggers

_KEPT_RUNS = 20  # how many runs' responses to keep in the cache


def item_id(task: str, prompt_id: str) -> str:
    """The id that links a judgement to its response; a prompt can occur in several tasks."""
    return f"{task}:{prompt_id}"


class Judging:
    """The tasks of one evaluation that the same judge, or panel of judges, judges together.

    The limit on concurrent judge calls is divided among `ranks` processes.
    """

    def __init__(self, panel: Panel, ranks: int) -> None:
        self.panel = panel
        self.tasks: list[Any] = []
        self._concurrency = max(1, panel.judges[0].concurrency // ranks)

    def run(self) -> Mapping[str, Judgement]:
        """Judge the filtered responses of `tasks`; item_id -> judgement."""
        kept = self._keep_responses()
        judgements = self.panel.judge_with_progress(list(self._items()), self._concurrency)
        for found in pair_agreements(judge_scores(judgements)):
            _log.info("%s", found)
        self._report_gaps(judgements.values(), kept)
        return judgements

    def _items(self) -> Iterator[Item]:
        for task in self.tasks:
            for instance in task.instances:
                doc, response = instance.doc, instance.filtered_resps["none"]
                yield Item(item_id(task.config.task, doc["id"]), doc["prompt"], response)

    def _keep_responses(self) -> Path | None:
        """Write the responses as an unjudged run, for `longwriter score`.

        Responses cost GPU hours, but lm-eval writes them only after judging. Without this copy,
        killing the process while it judges would lose them.
        """
        parent = files.cache_dir() / "responses"
        folder = parent / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
        configs = {task.config.task: _public_config(task.dump_config()) for task in self.tasks}
        rows = {
            task.config.task: [
                {
                    "doc_id": instance.doc_id,
                    "doc": instance.doc,
                    "target": "",
                    "arguments": {"gen_args_0": {"arg_1": instance.args[1]}},
                    "resps": [instance.resps],
                    "filtered_resps": [instance.filtered_resps["none"]],
                    "filter": "none",
                    "metrics": [],
                    "cut_off": float(task.reached_limit(instance.filtered_resps["none"])),
                    **row_hashes(instance.doc, str(instance.args[0])),
                }
                for instance in task.instances
            ]
            for task in self.tasks
        }
        try:
            hashes = {task: task_hash(of_task) for task, of_task in rows.items()}
            results = {**model_record(), "configs": configs, "task_hashes": hashes}
            save_run(folder, results, rows)
        except OSError as error:
            _log.warning("cannot keep a copy of the responses in %s: %s", folder, error.strerror)
            return None
        for old in sorted(parent.iterdir())[:-_KEPT_RUNS]:
            if (
                len(list(old.glob("results_*"))) == 1
            ):  # more results files mean that the user has scored this run
                shutil.rmtree(old, ignore_errors=True)
        _log.info("a copy of the responses is kept in %s", folder)
        return folder

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
            "%d of %d verdicts are missing (%s)%s; to retry: %s",
            missing.total(),
            sum(len(judgement.verdicts) for judgement in judgements),
            ", ".join(f"{reason} {number}" for reason, number in sorted(missing.items())),
            f": under {MIN_COVERAGE:.0%} of the responses are judged, so the quality scores are NaN"
            if judged < MIN_COVERAGE * len(judgements)
            else "",
            shlex.join(command),
        )


def _public_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A task's configuration without secrets; its metadata contains the model's arguments."""
    metadata = config.get("metadata") or {}
    own = {"longwriter": metadata["longwriter"]} if "longwriter" in metadata else {}
    return {**config, "metadata": {**redact_arguments(metadata), **own}}
