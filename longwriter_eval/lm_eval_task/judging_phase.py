"""The judging phase of an evaluation: every response of all its judged tasks, at once."""

import logging
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from longwriter_core import files
from longwriter_core.llm import run_async
from longwriter_eval import runs as samples
from longwriter_eval.judge.judge import Item, Judge
from longwriter_eval.judge.judgement import Judgement
from longwriter_eval.judge.prompt import BUILT_IN
from longwriter_eval.lm_eval_task.lm_eval_internals import model_record, output_folder
from longwriter_eval.stats.thresholds import MIN_COVERAGE

_log = logging.getLogger("lm_eval.longwriter")  # lm-eval shows its own loggers only

_KEPT_RUNS = 20  # how many runs' responses to keep in the cache


def item_id(task: str, prompt_id: str) -> str:
    """What ties a judgement to its response: the same prompt may stand in several tasks."""
    return f"{task}:{prompt_id}"


class Judging:
    """The tasks of one evaluation that one judge judges together.

    `is_recorded` says that the answers are on disk already, and that whoever runs the evaluation
    reports its gaps. `ranks` processes share the judge's calls in flight.
    """

    def __init__(self, judge: Judge, *, ranks: int, is_recorded: bool) -> None:
        self.judge = judge
        self.tasks: list[Any] = []
        self._concurrency = max(1, judge.settings.concurrency // ranks)
        self._is_recorded = is_recorded

    def run(self) -> Mapping[str, Judgement]:
        """Judge the filtered responses of `tasks`; item_id -> judgement.

        Ctrl-C ends the judging, not the evaluation; what has no verdict by then says so.
        """
        kept = None if self._is_recorded else self._keep_responses()
        items = list(self._items())
        found: dict[str, Judgement] = {}
        with tqdm(total=len(items), desc=f"Judging with {self.judge.settings.model}") as bar:

            def done(item: Item, judgement: Judgement) -> None:
                found[item.id] = judgement
                bar.update()

            try:
                run_async(self.judge.judge(items, done, self._concurrency))
            except KeyboardInterrupt:
                _log.warning("judging stopped by Ctrl-C: the results follow without the rest")
        for item in items:
            found.setdefault(item.id, self.judge.judgement(item))
        if not self._is_recorded:
            self._report_gaps(found.values(), kept)
        return found

    def _items(self) -> Iterator[Item]:
        for task in self.tasks:
            for instance in task.instances:
                doc, response = instance.doc, instance.filtered_resps["none"]
                yield Item(item_id(task.config.task, doc["id"]), doc["prompt"], response)

    def _keep_responses(self) -> Path | None:
        """Write the responses where `longwriter score` can read them, as a run not yet judged.

        They cost GPU hours, and lm-eval writes them only after the judging, which may be killed.
        """
        parent = files.cache_dir() / "responses"
        folder = parent / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
        configs = {task.config.task: task.dump_config() for task in self.tasks}
        rows = {
            task.config.task: [
                {
                    "doc_id": instance.doc_id,
                    "doc": instance.doc,
                    "arguments": {"gen_args_0": {"arg_1": instance.args[1]}},
                    "resps": [instance.resps],
                    "filtered_resps": [instance.filtered_resps["none"]],
                }
                for instance in task.instances
            ]
            for task in self.tasks
        }
        try:
            samples.save_run(folder, {**model_record(), "configs": configs}, rows)
        except OSError as error:
            _log.warning("cannot keep the responses in %s meanwhile: %s", folder, error.strerror)
            return None
        for old in sorted(parent.iterdir())[:-_KEPT_RUNS]:
            if len(list(old.glob("results_*"))) == 1:  # else somebody has scored it
                shutil.rmtree(old, ignore_errors=True)
        _log.info("the responses are kept in %s while they are judged", folder)
        return folder

    def _report_gaps(self, judgements: Collection[Judgement], kept: Path | None) -> None:
        """Warn of missing verdicts, with the command that asks for them again."""
        missing = Counter(reason for judgement in judgements for reason in judgement.missing)
        if not missing:
            return
        judged = sum(bool(judgement.quality) for judgement in judgements)
        command = ["longwriter", "score", str(output_folder() or kept or "OUTPUT_PATH")]
        if self.judge.settings.prompt not in BUILT_IN:  # a file's path is not on record
            command += ["--judge-prompt", self.judge.settings.prompt]
        _log.warning(
            "%d of %d verdicts are missing (%s)%s; to ask again: %s",
            missing.total(),
            len(judgements) * self.judge.settings.repeats,
            ", ".join(f"{reason} {number}" for reason, number in sorted(missing.items())),
            f": under {MIN_COVERAGE:.0%} of the responses are judged, so the quality scores are NaN"
            if judged < MIN_COVERAGE * len(judgements)
            else "",
            shlex.join(command),
        )
