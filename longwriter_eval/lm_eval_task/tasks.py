"""The task classes for the YAML files in harness_tasks/.

lm-eval builds one task per YAML file, generates for all of them, and then filters, scores and
aggregates task by task. The filter step of the first task judges the responses of all tasks, so
that no task waits for the slowest verdict of the previous one.
"""

import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets

from longwriter_core import benchmarks
from longwriter_core.errors import InputError
from longwriter_core.llm import Budget
from longwriter_core.text.length import bucket
from longwriter_core.text.special_tokens import encodable
from longwriter_eval.judge.panel import Panel, PanelSettings
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.judge.verdict import Judgement
from longwriter_eval.lm_eval_task.aggregation import aggregation
from longwriter_eval.lm_eval_task.judging_phase import (
    Judging,
    Process,
    item_id,
    items_of,
    texts_of,
)
from longwriter_eval.lm_eval_task.lm_eval_internals import (
    CutText,
    check_internals,
    count_tokens,
    find_in_lm_eval_stack,
    metadata_of,
    note_cut_texts,
    one_clear_line,
    patch_lm_eval,
)
from longwriter_eval.runs import Sample, response_id
from longwriter_eval.scoring import (
    JUDGED_METRICS,
    LENGTH_METRICS,
    RULER_METRICS,
    Score,
    clean_response,
    judged_metrics,
    prompt_values,
    score_response,
    with_spreads,
)
from longwriter_eval.stats.agreement import recorded_agreement
from longwriter_eval.version import __version__

with one_clear_line():
    check_internals()  # before subclassing an lm-eval class
from lm_eval.api.task import ConfigurableTask

_log = logging.getLogger("lm_eval.longwriter")  # lm-eval shows its own loggers only


class LengthTask(ConfigurableTask):  # type: ignore[misc]
    """Writing prompts scored only by length and diagnostics, without a judge.

    The YAML's `dataset_kwargs` name the `benchmark` and the values (bucket, language, length) that
    select the task's rows.
    """

    metrics = LENGTH_METRICS  # metric -> whether higher is better
    _predict_only: bool = False

    def __init__(self, config: dict[str, Any], **_: Any) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        given = metadata_of(config)
        with one_clear_line():
            patch_lm_eval()
            self.record = self._configure(given, config["dataset_kwargs"]["benchmark"])
            config["metadata"] = {**given, "longwriter": self.record}
            super().__init__(config=config)
            self._check_repeats()
        self._lm: Callable[[], Any] = lambda: None

    def dump_config(self) -> dict[str, Any]:
        """The configuration for the results, whose record may still change while the task runs."""
        config: dict[str, Any] = super().dump_config()
        return {**config, "metadata": {**config["metadata"], "longwriter": self.record}}

    def _configure(self, metadata: Mapping[str, Any], benchmark: str) -> dict[str, Any]:  # noqa: ARG002
        """The task's record in the results: versions, hashes and settings."""
        return {"version": __version__, "data_sha256": benchmarks.data_sha256(benchmark)}

    def _check_repeats(self) -> None:
        """Set the metrics for the number of responses to a prompt. Raises InputError."""
        repeats = self.config.repeats
        if not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1:
            raise InputError(f"{self.config.task}: repeats is {repeats!r}, not a number from 1")
        self.metrics = with_spreads(self.metrics, repeats)

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
        """Build the requests. Raises InputError if the backend would truncate a prompt."""
        super().build_all_requests(**options)
        chosen = {name: options.get(name) for name in ("limit", "samples")}
        # of the whole run, while the requests are those of this process
        self.documents = {doc["id"]: doc["length"] for _, doc in self.doc_iterator(**chosen)}
        note_cut_texts()
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
        """Raise InputError if prompt and response together exceed the model's context.

        Backends that tokenize would truncate the prompt from the left, possibly to nothing, and
        the model would answer a different prompt.
        """
        if lm is None or getattr(lm, "tokenized_requests", True) is False:
            return  # a chat endpoint checks its limit and reports an error
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
            # a data-parallel rank repeats its last request, so that all ranks make equally many
            responses = instance.resps[: self.config.repeats]
            # lm-eval loses the whole log if a text cannot be encoded
            instance.resps[:] = map(encodable, responses)
            texts = [
                CutText(clean_response(response))
                if self._reached_limit(response)
                else clean_response(response)
                for response in responses
            ]
            instance.filtered_resps["none"] = texts if self.config.repeats > 1 else texts[0]
        if self.config.repeats > 1 and all(len(set(i.resps)) == 1 for i in self.instances):
            _log.warning(
                "%s: all %d responses to each prompt are equal, so their spread says nothing: the "
                "backend repeats its seed, or does not sample",
                self.config.task,
                self.config.repeats,
            )
        empty = sum(not text for instance in self.instances for text in texts_of(instance))
        if empty:
            _log.warning(
                "%s: %d of %d responses are empty and score 0 for length; see the log above for "
                "failed requests",
                self.config.task,
                empty,
                len(self.instances) * self.config.repeats,
            )

    def process_results(self, doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
        """Metric values of one response."""
        if self._predict_only:
            return super().process_results(doc, results)  # type: ignore[no-any-return]
        return dict(prompt_values(self._score(doc, results), self.metrics))

    def _score(
        self, doc: dict[str, Any], results: Sequence[Any], judgements: Sequence[Judgement] = ()
    ) -> list[Score]:
        """The scores of all responses to a prompt."""
        task, repeats = self.config.task, self.config.repeats
        texts = results[0] if repeats > 1 else results
        limits = [isinstance(text, CutText) for text in texts]
        if repeats > 1:
            doc["reached_limit"] = limits
        return [
            score_response(
                Sample.from_doc(task, doc, text, {"doc": doc}, repeat=repeat, repeats=repeats),
                text,
                reached_limit=limits[repeat],
                judgement=judgements[repeat] if judgements else None,
            )
            for repeat, text in enumerate(texts)
        ]

    def _reached_limit(self, response: str) -> bool:
        """Whether the backend stopped at its token limit: it says so, or its tokenizer does."""
        if isinstance(response, CutText):
            return True
        tokens, limit = count_tokens(self._lm(), response), self._max_gen_toks()
        # decoding and re-encoding may lose a token or two
        return bool(tokens and limit and tokens >= limit - 2)

    def aggregation(self) -> dict[str, Any]:
        """Metric -> its aggregation function."""
        if self._predict_only:
            return super().aggregation()  # type: ignore[no-any-return]
        return {metric: aggregation(metric) for metric in self.metrics}

    def higher_is_better(self) -> dict[str, bool]:
        """Metric -> direction."""
        if self._predict_only:
            return super().higher_is_better()  # type: ignore[no-any-return]
        return self.metrics


class RulerTask(LengthTask):
    """LongWrite-Ruler: how much a model writes as the required length grows."""

    metrics = RULER_METRICS


# Active evaluations: model -> judge settings -> judging. Removed after judging or with the model.
_UNDER_WAY: weakref.WeakKeyDictionary[Any, dict[PanelSettings, Judging]] = (
    weakref.WeakKeyDictionary()
)


class JudgedTask(LengthTask):
    """LongBench-Write: scored by length, and by quality with an LLM judge."""

    metrics = JUDGED_METRICS
    judge_prompt = "official"  # the default; metadata and environment override it

    def _configure(self, metadata: Mapping[str, Any], benchmark: str) -> dict[str, Any]:
        self._settings = PanelSettings.resolve(metadata, os.environ, prompt=self.judge_prompt)
        self._judgements: Mapping[str, Judgement] | None = None
        prompt = JudgePrompt.load(self._settings.first.prompt)
        self.metrics = judged_metrics(self._settings.first.segments)
        return {
            **super()._configure(metadata, benchmark),
            "judge": self._settings.record(),
            "judge_prompt_sha256": prompt.sha256,
        }

    def build_all_requests(self, **options: Any) -> None:
        """Build the requests, and check that the judge answers before generation starts."""
        super().build_all_requests(**options)
        self._judgements = None  # a loop over checkpoints may reuse this object
        if self._predict_only:
            return
        lm = self._lm()
        self._under_way = _UNDER_WAY.setdefault(lm, {}) if lm is not None else {}
        if self._settings not in self._under_way:
            with one_clear_line():
                panel = Panel(self._settings, os.environ, self._budget(lm))
                panel.check_once()
            self._under_way[self._settings] = Judging(panel, Process.of(lm))
        tasks = self._under_way[self._settings].tasks
        if (
            self not in tasks
        ):  # already there if an earlier evaluation with this model was interrupted
            tasks.append(self)

    def _budget(self, lm: Any) -> Budget | None:
        """This process's share of max_cost, which all judges of one evaluation share."""
        limit = self._settings.first.max_cost
        for judging in self._under_way.values():
            if judging.panel.settings.first.max_cost == limit:
                return judging.panel.budget
        return self._settings.first.budget(1 if lm is None else lm.world_size)

    def apply_filters(self) -> None:
        """Clean the responses of every judged task of the run, and judge them all at once."""
        if self._predict_only:
            super().apply_filters()
        elif self._judgements is None:
            judging = self._under_way.pop(self._settings)
            # without the tasks of an interrupted earlier evaluation with this model
            judging.tasks = [t for t in judging.tasks if all(i.resps for i in t.instances)]
            for task in judging.tasks:
                LengthTask.apply_filters(task)
            judgements = judging.run()
            for task in judging.tasks:
                task._judgements = judgements
                if judging.process.ranks > 1:
                    continue  # this rank's share would pass for the agreement on all responses
                ids = (id for each in task.instances for id, _ in items_of(task, each))
                agreement = recorded_agreement({id: judgements[id] for id in ids})
                # the preflight may have found that the endpoint refuses what the settings say
                task.record["judge"] = judging.panel.settings.record() | agreement

    def process_results(self, doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
        """Metric values of one response; the judge's record goes into the logged document."""
        if self._predict_only:
            return super().process_results(doc, results)
        assert self._judgements is not None
        repeats = self.config.repeats
        judgements = [
            self._judgements[item_id(self.config.task, response_id(doc["id"], repeat))]
            for repeat in range(repeats)
        ]
        records = [judgement.record() for judgement in judgements]
        doc["judgement"] = records if repeats > 1 else records[0]
        return dict(prompt_values(self._score(doc, results, judgements), self.metrics))


class DemoTask(JudgedTask):
    """This project's own prompts and judge prompt; downloads nothing."""

    judge_prompt = "longwriter"
