"""The task classes that harness_tasks/ names: LongBench-Write, LongWrite-Ruler, and the demo.

lm-eval builds one task per YAML file, generates for all of them, and then filters, scores and
aggregates task by task. All judging happens in the first task's filter step, for every task of
the evaluation, so that none waits for the slowest verdict of the one before it.
"""

import logging
import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from longwriter_core import benchmarks
from longwriter_core.errors import InputError
from longwriter_core.llm import run_async
from longwriter_core.text.diagnostics import METRICS as DIAGNOSTICS
from longwriter_core.text.diagnostics import diagnose
from longwriter_core.text.length import bucket, count_words, length_score
from longwriter_core.text.special_tokens import encodable, strip_special_tokens
from longwriter_eval import __version__
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.judgement import Judgement
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.judge.settings import JudgeSettings, api_key
from longwriter_eval.judge.verdict import DIMENSIONS
from longwriter_eval.lm_eval_task.aggregation import Max, Mean, patch_lm_eval
from longwriter_eval.lm_eval_task.judging_phase import Judging, item_id
from longwriter_eval.lm_eval_task.lm_eval_internals import (
    RecordedAnswers,
    count_tokens,
    find_in_lm_eval_stack,
    one_clear_line,
)

_log = logging.getLogger("lm_eval.longwriter")  # lm-eval shows its own loggers only


class LengthTask(ConfigurableTask):  # type: ignore[misc]
    """Writing prompts scored by length and diagnostics alone. Needs no judge.

    The YAML's `dataset_kwargs` name the `benchmark` and, beside it, the values that a row must
    have (bucket, language, length) to belong to the task.
    """

    _predict_only: bool = False

    def __init__(self, config: dict[str, Any], **_: Any) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        # lm-eval 0.4.11 does not hand --metadata to tasks with a class; the manager has it.
        manager = find_in_lm_eval_stack("self", TaskManager)
        given = {**(config.get("metadata") or {}), **(getattr(manager, "metadata", None) or {})}
        with one_clear_line():
            own = self._configure(given, config["dataset_kwargs"]["benchmark"])
            config["metadata"] = {**given, "longwriter": own}
            super().__init__(config=config)
        patch_lm_eval()
        self._lm: Callable[[], Any] = lambda: None

    def _configure(self, metadata: Mapping[str, Any], benchmark: str) -> dict[str, Any]:  # noqa: ARG002
        """What results must say of the task: versions, hashes, settings."""
        return {"version": __version__, "data_sha256": benchmarks.data_sha256(benchmark)}

    def download(self, dataset_kwargs: Mapping[str, Any], **_: Any) -> None:
        """Put the task's rows into the test split."""
        wanted = dict(dataset_kwargs)
        rows = [
            {**row, "bucket": bucket(row["length"])}
            for row in benchmarks.read_prompts(wanted.pop("benchmark"))
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
        lm = find_in_lm_eval_stack("lm")
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
            # lm-eval loses the whole log over a text that cannot be encoded
            instance.resps[:] = [encodable(response) for response in instance.resps]
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


# Evaluations under way: model -> judge settings -> judging. Gone once judged, or with the model.
_UNDER_WAY: weakref.WeakKeyDictionary[Any, dict[JudgeSettings, Judging]] = (
    weakref.WeakKeyDictionary()
)


class JudgedTask(LengthTask):
    """LongBench-Write: length, and quality as an LLM judge sees it."""

    judge_prompt = "official"  # where neither metadata nor environment choose one

    def _configure(self, metadata: Mapping[str, Any], benchmark: str) -> dict[str, Any]:
        self._settings = JudgeSettings.resolve(metadata, os.environ, prompt=self.judge_prompt)
        self._judgements: Mapping[str, Judgement] | None = None
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
        self._under_way = _UNDER_WAY.setdefault(lm, {}) if lm is not None else {}
        if self._settings not in self._under_way:
            is_recorded = isinstance(lm, RecordedAnswers)
            with one_clear_line():
                judge = Judge(self._settings, api_key(self._settings, os.environ))
                if not is_recorded:
                    run_async(judge.check())
            ranks = options.get("world_size", 1)
            judging = Judging(judge, ranks=ranks, is_recorded=is_recorded)
            self._under_way[self._settings] = judging
        self._under_way[self._settings].tasks.append(self)

    def apply_filters(self) -> None:
        """Clean the responses of every judged task of the run, and judge them all at once."""
        if self._predict_only:
            super().apply_filters()
        elif self._judgements is None:
            judging = self._under_way.pop(self._settings)
            # without those of an earlier evaluation with this model that broke off
            judging.tasks = [t for t in judging.tasks if all(i.resps for i in t.instances)]
            for task in judging.tasks:
                LengthTask.apply_filters(task)
            judgements = judging.run()
            for task in judging.tasks:
                task._judgements = judgements

    def process_results(self, doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
        """Metric values of one response; the judge's record goes into the logged document."""
        values = super().process_results(doc, results)
        if self._predict_only:
            return values
        assert self._judgements is not None
        judgement = self._judgements[item_id(self.config.task, doc["id"])]
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
