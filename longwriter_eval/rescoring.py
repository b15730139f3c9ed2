"""Judging the samples of a finished run: fill its gaps, or judge it anew with another model."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table

from longwriter_core.errors import InputError
from longwriter_core.llm import Store, run_async
from longwriter_core.text.special_tokens import strip_special_tokens
from longwriter_eval.judge.judge import Item, Judge
from longwriter_eval.judge.prompt import BUILT_IN
from longwriter_eval.judge.settings import JudgeSettings, api_key
from longwriter_eval.lm_eval_task.lm_eval_internals import RecordedAnswers
from longwriter_eval.runs import Run, load_run, load_runs, save_run, task_hash

_TASKS = Path(str(find_spec("harness_tasks").origin)).parent  # type: ignore[union-attr]

# What an evaluation says of its tasks; the rest of a results file tells of model and machine.
_RESULT_KEYS = (
    "results", "groups", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples",
)  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """What scoring a run came to."""

    source: Path  # the results file that was scored
    path: Path  # the new one
    table: str
    verdicts: int  # that there should be
    missing: Counter[str]  # reason -> verdicts without scores


def score(folder: Path, overrides: Mapping[str, Any]) -> Scored:
    """Judge what has no verdict in the newest run below `folder`, and write new results beside it.

    `overrides` are judge settings by metadata name (judge_model, …); what they and the environment
    leave open is as the run had it. The tasks, prompts and aggregation are lm-eval's own, with the
    recorded answers in the model's place. Raises InputError.
    """
    run = load_run(folder)
    judged = _judged_tasks(run)
    metadata = _settings(judged, overrides)
    _prepare_judge(run, judged, metadata)
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for sample in run.samples:
        rows[sample.task][sample.row["doc_id"]] = sample.row
    evaluated = simple_evaluate(
        model=RecordedAnswers(
            {(s.task, s.id): s.response for s in run.samples},
            {(s.task, s.id) for s in run.samples if s.row.get("cut_off")},
        ),
        tasks=_roots(set(rows)),
        samples={task: sorted(of_task) for task, of_task in rows.items()},
        # ours alone: to index all of lm-eval's tasks takes it many seconds
        task_manager=TaskManager(
            include_path=str(_TASKS), include_defaults=False, metadata=metadata
        ),
        metadata=metadata,
    )
    merged = {
        task: [_merge(rows[task][new["doc_id"]], new) for new in evaluated["samples"][task]]
        for task in rows
    }
    try:
        path = save_run(run.folder, _merge_results(run.results, evaluated, merged), merged)
    except OSError as error:
        raise InputError(
            f"cannot write to {run.folder} ({error.strerror}): make room and run the same command "
            f"again; the verdicts are kept in {Store().folder}"
        ) from error
    verdicts = [
        verdict
        for task in judged
        for row in merged[task]
        for verdict in row["doc"]["judgement"]["verdicts"]
    ]
    return Scored(
        source=run.path,
        path=path,
        # make_table takes the rows' names out of what it is given
        table=make_table(deepcopy(evaluated))
        + ("\n" + make_table(deepcopy(evaluated), "groups") if "groups" in evaluated else ""),
        verdicts=len(verdicts),
        missing=Counter(verdict["reason"] for verdict in verdicts if not verdict["scores"]),
    )


def _judged_tasks(run: Run) -> dict[str, dict[str, Any]]:
    """Task -> what the run recorded of it (judge, judge_prompt_sha256), for the judged tasks."""
    recorded = {sample.task: run.record(sample.task) for sample in run.samples}
    judged = {task: record for task, record in recorded.items() if "judge" in record}
    if not judged:
        raise InputError(f"{run.folder} holds no task that a judge scores")
    return judged


def _settings(
    judged: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """As metadata: the overrides, and the settings of the run, less what the environment sets.

    A prompt is among them if all tasks share it; else each task has its own by default. The path
    of a prompt file is not on record: it must be named again.
    """
    judges = [record["judge"] for record in judged.values()]
    settings = {name: judges[0][name] for name in ("model", "base_url", "repeats")}
    prompts = {judge["prompt"] for judge in judges}
    if len(prompts) == 1:
        settings["prompt"] = prompts.pop()
    settings = {
        f"judge_{name}": value
        for name, value in settings.items()
        if value is not None and not os.environ.get(f"LONGWRITER_JUDGE_{name.upper()}")
    }
    settings.update(overrides)
    if "judge_prompt" not in overrides and settings.get("judge_prompt", "official") not in BUILT_IN:
        raise InputError(
            f"the run was judged with a prompt of its own, {settings['judge_prompt']}: name that "
            "file, or another prompt, by --judge-prompt"
        )
    return settings


def _prepare_judge(
    run: Run, judged: Mapping[str, Mapping[str, Any]], metadata: Mapping[str, Any]
) -> None:
    """Keep the verdicts that the run already has, and check the judge if others are missing.

    The folder may hold verdicts of this judge in older results, where another came in between.
    """
    Store().check()
    judges = {}
    for task, record in judged.items():
        settings = JudgeSettings.resolve(metadata, os.environ, prompt=record["judge"]["prompt"])
        judges[task] = Judge(settings, api_key(settings, os.environ))
    incomplete = None
    others = [each for each in load_runs(run.folder) if each.path != run.path]
    for source in (*others, run):
        for sample in source.samples:
            if judge := judges.get(sample.task):
                item = Item(sample.id, sample.prompt, strip_special_tokens(sample.response))
                try:
                    judge.adopt(item, sample.judgement or {})
                except (KeyError, TypeError) as error:
                    raise InputError(
                        f"{source.path}: the judgement of {sample.id} in {sample.task} is "
                        f"malformed ({error!r})"
                    ) from error
                except OSError as error:
                    raise InputError(
                        f"cannot keep verdicts in {Store().folder}: {error}"
                    ) from error
                if source is run and not judge.has_verdicts(item):
                    incomplete = judge
    if incomplete:
        run_async(incomplete.check())


def _roots(tasks: set[str]) -> list[str]:
    """`tasks`, with a group in the place of its members where all of them are there."""
    roots = set(tasks)
    for path in _TASKS.glob("*/_group.yaml"):
        group = yaml.safe_load(path.read_text(encoding="utf-8"))
        if roots.issuperset(group["task"]):
            roots = roots.difference(group["task"]) | {group["group"]}
    return sorted(roots)


def _merge_results(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    rows: Mapping[str, Iterable[Mapping[str, Any]]],
) -> dict[str, Any]:
    """The old results with the new scores; how the answers were generated stays on record."""
    results = {**old, "configs": {**old["configs"]}}
    for key in _RESULT_KEYS:
        if key in new:
            results[key] = {**old.get(key, {}), **new[key]}
    for task, config in new["configs"].items():
        recorded = old["configs"][task]
        judged = {**recorded["metadata"], "longwriter": config["metadata"]["longwriter"]}
        results["configs"][task] = {**recorded, "metadata": judged}
    hashes = {task: task_hash(of_task) for task, of_task in rows.items()}
    return {**results, "task_hashes": {**old.get("task_hashes", {}), **hashes}}


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The old sample row with the new scores; what was asked and answered stays as it was."""
    if old["doc"]["prompt"] != new["doc"]["prompt"]:
        raise InputError(f"{new['doc']['id']}: the run was made with another version of the data")
    kept: dict[str, Any] = {
        key: old[key] for key in ("arguments", "resps", "prompt_hash") if key in old
    }
    return {**old, **new, **kept}
