"""The task classes that harness_tasks/ names: LongBench-Write, LongWrite-Ruler, and the demo.

lm-eval builds one task per YAML file, generates for all of them, and then filters, scores and
aggregates task by task. All judging happens in the first task's filter step, for every task of
the run at once, so that no task waits for the slowest verdict of the one before it.
"""

import logging
import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from longwriter_eval import __version__, assets, samples
from longwriter_eval.aggregation import MIN_COVERAGE, Max, Mean, teach_lm_eval
from longwriter_eval.diagnostics import METRICS as DIAGNOSTICS
from longwriter_eval.diagnostics import diagnose
from longwriter_eval.errors import InputError
from longwriter_eval.judge import Item, Judge
from longwriter_eval.judge_prompt import JudgePrompt
from longwriter_eval.judge_settings import JudgeSettings, api_key
from longwriter_eval.length import bucket, count_words, length_score
from longwriter_eval.llm import run_async
from longwriter_eval.lm_eval_seams import (
    RecordedAnswers,
    caller,
    count_tokens,
    one_clear_line,
    output_folder,
)
from longwriter_eval.quality import DIMENSIONS
from longwriter_eval.special_tokens import strip_special_tokens
from longwriter_eval.verdict import Judgement

_log = logging.getLogger("lm_eval.longwriter")  # lm-eval shows its own loggers only

_KEPT_RUNS = 20  # how many runs' responses to keep in the cache


class LengthTask(ConfigurableTask):  # type: ignore[misc]
    """Writing prompts scored by length and diagnostics alone. Needs no judge.

    The YAML's `dataset_kwargs` name the `benchmark` and, beside it, the values that a row must
    have (bucket, language, length) to belong to the task.
    """

    _predict_only: bool = False

    def __init__(self, config: dict[str, Any], **_: Any) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        # lm-eval 0.4.11 does not hand --metadata to tasks with a class; the manager has it.
        manager = caller("self", TaskManager)
        given = {**(config.get("metadata") or {}), **(getattr(manager, "metadata", None) or {})}
        with one_clear_line():
            own = self._configure(given, config["dataset_kwargs"]["benchmark"])
            config["metadata"] = {**given, "longwriter": own}
            super().__init__(config=config)
        teach_lm_eval()
        self._lm: Callable[[], Any] = lambda: None

    def _configure(self, metadata: Mapping[str, Any], benchmark: str) -> dict[str, Any]:  # noqa: ARG002
        """What results must say of the task: versions, hashes, settings."""
        return {"version": __version__, "data_sha256": assets.data_sha256(benchmark)}

    def download(self, dataset_kwargs: Mapping[str, Any], **_: Any) -> None:
        """Put the task's rows into the test split."""
        wanted = dict(dataset_kwargs)
        rows = [
            {**row, "bucket": bucket(row["length"])}
            for row in assets.read_prompts(wanted.pop("benchmark"))
        ]
        rows = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
        self.dataset = {"test": datasets.Dataset.from_list(rows)}

    def override_metric(self, metric_name: str) -> None:
        """lm-eval calls this with "bypass" for --predict_only."""
        self._predict_only = True
        super().override_metric(metric_name)

    def build_all_requests(self, **options: Any) -> None:
        """Build the requests, and refuse a backend that would cut a prompt."""
        super().build_all_requests(**options)
        lm = caller("lm")
        if lm is not None:
            self._lm = weakref.ref(lm)
        with one_clear_line():
            self._check_context(lm)

    def _max_gen_toks(self) -> int:
        kwargs = self.config.generation_kwargs
        names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        return int(next((kwargs[name] for name in names if name in kwargs), 0))

    def _check_context(self, lm: Any) -> None:
        """Raise InputError where prompt and answer do not fit the model's context together.

        Backends that tokenize would then cut the prompt from the left, down to nothing, and the
        model would answer something that nobody asked.
        """
        if lm is None or getattr(lm, "tokenized_requests", True) is False:
            return  # a chat endpoint checks its own limit, and says so
        context = getattr(lm, "max_length", None)
        lengths = [count_tokens(lm, instance.args[0]) for instance in self.instances]
        longest = max((length for length in lengths if length), default=None)
        if not isinstance(context, int) or longest is None:
            return
        answer = self._max_gen_toks()
        if longest + answer > context:
            raise InputError(
                f"{self.config.task}: a prompt of {longest} tokens and max_gen_toks={answer} do "
                f"not fit the model's context of {context} tokens, so the backend would cut the "
                f"prompt to {max(0, context - answer)}: set --gen_kwargs max_gen_toks="
                f"{max(1, context - longest)}, or raise max_length (vllm: max_model_len) in "
                "--model_args where the model allows it"
            )

    def apply_filters(self) -> None:
        """Remove special tokens, keeping each response with its own prompt."""
        for instance in self.instances:
            instance.filtered_resps["none"] = strip_special_tokens(instance.resps[0])
        empty = sum(not instance.filtered_resps["none"] for instance in self.instances)
        if empty:
            _log.warning(
                "%s: %d of %d responses are empty and score 0 for length; see the log above for "
                "failed requests",
                self.config.task,
                empty,
                len(self.instances),
            )

    def process_results(self, doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
        """Metric values of one response."""
        if self._predict_only:
            return super().process_results(doc, results)  # type: ignore[no-any-return]
        response = results[0]
        words = count_words(response)
        limit = self._reached_limit(doc, response)
        return {
            "length_score": length_score(doc["length"], words),
            "output_words": float(words),
            **diagnose(doc["prompt"], response, reached_limit=limit).as_dict(),
        }

    def _reached_limit(self, doc: Mapping[str, Any], response: str) -> bool:
        """Whether the backend stopped at its token limit, as far as its tokenizer can tell."""
        lm = self._lm()
        if isinstance(lm, RecordedAnswers):
            return (self.config.task, doc["id"]) in lm.cut_off
        tokens, limit = count_tokens(lm, response), self._max_gen_toks()
        # decoding and encoding again may lose a token or two
        return bool(tokens and limit and tokens >= limit - 2)

    def metrics(self) -> dict[str, bool]:
        """Metric -> whether higher is better, for everything that process_results returns."""
        return {"length_score": True, "output_words": True, **dict.fromkeys(DIAGNOSTICS, False)}

    def aggregation(self) -> dict[str, Any]:
        """Metric -> how its values over documents become one."""
        if self._predict_only:
            return super().aggregation()  # type: ignore[no-any-return]
        return {name: Max if name.startswith("max_") else Mean for name in self.metrics()}

    def higher_is_better(self) -> dict[str, bool]:
        """Metric -> direction."""
        if self._predict_only:
            return super().higher_is_better()  # type: ignore[no-any-return]
        return self.metrics()


class RulerTask(LengthTask):
    """LongWrite-Ruler: how much a model writes when asked for more and more."""

    def process_results(self, doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
        """The length metrics, and the words once more for the longest output."""
        values = super().process_results(doc, results)
        return (
            values if self._predict_only else {**values, "max_output_words": values["output_words"]}
        )

    def metrics(self) -> dict[str, bool]:
        """Metric -> whether higher is better."""
        return {**super().metrics(), "max_output_words": True}


@dataclass
class _JudgedRun:
    """The tasks of one evaluation that one judge judges together."""

    judge: Judge
    tasks: list["JudgedTask"] = field(default_factory=list)
    ranks: int = 1


# The evaluations under way: model -> judge settings -> run. Gone once judged, or with the model.
_RUNS: weakref.WeakKeyDictionary[Any, dict[JudgeSettings, _JudgedRun]] = weakref.WeakKeyDictionary()


class JudgedTask(LengthTask):
    """LongBench-Write: length, and quality as an LLM judge sees it."""

    judge_prompt = "official"  # where neither metadata nor environment choose one

    def _configure(self, metadata: Mapping[str, Any], benchmark: str) -> dict[str, Any]:
        self._settings = JudgeSettings.resolve(metadata, os.environ, prompt=self.judge_prompt)
        self._judgements: dict[str, Judgement] | None = None
        prompt = JudgePrompt.load(self._settings.prompt)
        return {
            **super()._configure(metadata, benchmark),
            "judge": self._settings.record(),
            "judge_prompt_sha256": prompt.sha256,
        }

    def build_all_requests(self, **options: Any) -> None:
        """Build the requests, and see that the judge answers before anything is generated."""
        super().build_all_requests(**options)
        if self._predict_only:
            return
        lm = self._lm()
        runs = _RUNS.setdefault(lm, {}) if lm is not None else {}
        if self._settings not in runs:
            with one_clear_line():
                judge = Judge(self._settings, api_key(self._settings, os.environ))
                if not isinstance(lm, RecordedAnswers):
                    run_async(judge.check())
            runs[self._settings] = _JudgedRun(judge, ranks=options.get("world_size", 1))
        self._run = runs[self._settings]
        self._run.tasks.append(self)

    def apply_filters(self) -> None:
        """Clean the responses of every judged task of the run, and judge them all at once."""
        if self._predict_only:
            super().apply_filters()
        elif self._judgements is None:
            run = self._run
            tasks = [task for task in run.tasks if all(i.resps for i in task.instances)]
            for task in tasks:
                LengthTask.apply_filters(task)
            is_recorded = isinstance(self._lm(), RecordedAnswers)
            kept = None if is_recorded else _keep_responses(tasks)
            judgements = _judge(run, tasks)
            for task in tasks:
                task._judgements = judgements[task.config.task]
            run.tasks.clear()
            _RUNS.get(self._lm(), {}).pop(self._settings, None)
            if not is_recorded:
                _report_gaps([j for of in judgements.values() for j in of.values()], kept)

    def process_results(self, doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
        """Metric values of one response; the judge's record goes into the logged document."""
        values = super().process_results(doc, results)
        if self._predict_only:
            return values
        assert self._judgements is not None
        judgement = self._judgements[doc["id"]]
        doc["judgement"] = judgement.record()
        quality = judgement.quality
        score = quality.get("score", math.nan)
        return {
            **values,
            "quality_score": score,
            "overall_score": (values["length_score"] + score) / 2,
            **{f"quality_{name}": quality.get(name, math.nan) for name in DIMENSIONS},
            "judge_coverage": float(bool(quality)),
        }

    def metrics(self) -> dict[str, bool]:
        """Metric -> whether higher is better."""
        judged = ["quality_score", "overall_score", *(f"quality_{name}" for name in DIMENSIONS)]
        return {**super().metrics(), **dict.fromkeys([*judged, "judge_coverage"], True)}


class DemoTask(JudgedTask):
    """Prompts of this project's own, judged with its own prompt: nothing is downloaded."""

    judge_prompt = "longwriter"


def _judge(run: _JudgedRun, tasks: Sequence[JudgedTask]) -> dict[str, dict[str, Judgement]]:
    """Judge the responses of all `tasks` together: task -> prompt id -> judgement.

    Ctrl-C ends the judging, not the run; what has no verdict by then says so.
    """
    judge, pairs = run.judge, [(task, instance) for task in tasks for instance in task.instances]
    items = {
        (task.config.task, instance.doc["id"]): Item(
            f"{task.config.task}:{instance.doc['id']}",
            instance.doc["prompt"],
            instance.filtered_resps["none"],
        )
        for task, instance in pairs
    }
    found: dict[tuple[str, str], Judgement] = {}
    keys = {item.id: key for key, item in items.items()}
    with tqdm(total=len(items), desc=f"Judging with {judge.settings.model}") as bar:

        def done(item: Item, judgement: Judgement) -> None:
            found[keys[item.id]] = judgement
            bar.update()

        try:
            concurrency = max(1, judge.settings.concurrency // run.ranks)
            run_async(judge.judge(items.values(), done, concurrency))
        except KeyboardInterrupt:
            _log.warning("judging stopped by Ctrl-C: results follow, without the other verdicts")
    judgements: dict[str, dict[str, Judgement]] = {task.config.task: {} for task in tasks}
    for key, item in items.items():
        judgements[key[0]][key[1]] = found.get(key) or judge.judgement(item)
    return judgements


def _report_gaps(judgements: Sequence[Judgement], kept: Path | None) -> None:
    """Warn of responses without a verdict, with the command that asks for the missing ones."""
    reasons = [judgement.status for judgement in judgements if judgement.status != "judged"]
    if not reasons:
        return
    counts = ", ".join(f"{name} {reasons.count(name)}" for name in sorted(set(reasons)))
    share = 1 - len(reasons) / len(judgements)
    _log.warning(
        "%d of %d responses have no verdict (%s)%s; to ask again: longwriter score %s",
        len(reasons),
        len(judgements),
        counts,
        f": under {MIN_COVERAGE:.0%}, so quality_score and overall_score are NaN"
        if share < MIN_COVERAGE
        else "",
        output_folder() or kept or "RUN_DIR (the run's --output_path)",
    )


def _keep_responses(tasks: Sequence[JudgedTask]) -> Path | None:
    """Write the responses where `longwriter score` can read them, as a run that is not judged.

    They cost GPU hours, and lm-eval writes them only after the judging, which may be killed.
    """
    parent = assets.cache_dir() / "responses"
    folder = parent / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    rows = {
        task.config.task: [
            {
                "doc_id": instance.doc_id,
                "doc": instance.doc,
                "resps": [instance.resps],
                "filtered_resps": [instance.filtered_resps["none"]],
                "arguments": {"gen_args_0": {"arg_1": instance.args[1]}},
            }
            for instance in task.instances
        ]
        for task in tasks
    }
    try:
        samples.save_run(
            folder, {"configs": {task.config.task: task.dump_config() for task in tasks}}, rows
        )
        for old in sorted(parent.iterdir())[:-_KEPT_RUNS]:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
    except OSError as error:
        _log.warning("cannot keep the responses in %s while judging: %s", folder, error.strerror)
        return None
    _log.info("the responses are kept in %s while they are judged", folder)
    return folder
