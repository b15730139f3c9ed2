"""Judging the samples of a finished run: fill its gaps, or judge it anew with another model."""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwriter_eval.errors import InputError
from longwriter_eval.harness import RecordedAnswers
from longwriter_eval.judge import Item, Judge, JudgeSettings, api_key
from longwriter_eval.llm import run_async
from longwriter_eval.samples import Run, load_run, save_run
from longwriter_eval.special_tokens import strip_special_tokens

# What an evaluation says of its tasks; the rest of a results file tells of model and machine.
_RESULT_KEYS = (
    "results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better",
    "n-samples",
)  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """What scoring a run came to."""

    path: Path  # the new results file
    table: str
    responses: int
    unjudged: int


def score(folder: Path, overrides: Mapping[str, Any]) -> Scored:
    """Judge what has no verdict in the newest run below `folder`, and write new results beside it.

    `overrides` are judge settings by metadata name (judge_model, …); what they and the environment
    leave open is as the run had it. The tasks, prompts and aggregation are lm-eval's own, with the
    recorded answers in the model's place. Raises InputError.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table

    run = load_run(folder)
    metadata = {**_recorded_settings(run), **overrides}
    _prepare_judge(run, metadata)
    rows: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for sample in run.samples:
        rows[sample.task][sample.row["doc_id"]] = sample.row
    manager = TaskManager(metadata=metadata)
    evaluated = simple_evaluate(
        model=RecordedAnswers({(s.task, s.id): s.response for s in run.samples}),
        tasks=_roots(manager, set(rows)),
        samples={task: sorted(of_task) for task, of_task in rows.items()},
        task_manager=manager,
        metadata=metadata,
    )
    results = {**run.results}
    for key in _RESULT_KEYS:
        if key in evaluated:
            results[key] = {**run.results.get(key, {}), **evaluated[key]}
    merged = {
        task: [_merge(rows[task][new["doc_id"]], new) for new in evaluated["samples"][task]]
        for task in rows
    }
    statuses = [row["doc"].get("judgement", {}).get("status") for of in merged.values() for row in of]
    table = make_table(evaluated)
    if "groups" in evaluated:
        table += "\n" + make_table(evaluated, "groups")
    return Scored(
        save_run(run.folder, results, merged),
        table,
        len(statuses),
        sum(status not in ("judged", None) for status in statuses),
    )


def _recorded_settings(run: Run) -> dict[str, Any]:
    """The judge settings of the run, as metadata, less what the environment sets."""
    for config in run.results["configs"].values():
        judge = (config.get("metadata") or {}).get("longwriter", {}).get("judge")
        if judge:
            recorded = {
                name: judge[name]
                for name in ("model", "base_url", "repeats", "prompt")
                if judge.get(name)
            }
            return {
                f"judge_{name}": value
                for name, value in recorded.items()
                if f"LONGWRITER_JUDGE_{name.upper()}" not in os.environ
            }
    raise InputError(f"{run.folder} holds no task that a judge scores")


def _prepare_judge(run: Run, metadata: Mapping[str, Any]) -> None:
    """Keep the verdicts that the run already has, and check the judge if others are missing."""
    settings = JudgeSettings.resolve(metadata, os.environ)
    judge = Judge(settings, api_key(settings, os.environ))
    missing = False
    for sample in run.samples:
        item = Item(sample.id, sample.prompt, strip_special_tokens(sample.response))
        judge.adopt(item, sample.judgement or {})
        missing = missing or not judge.has_verdicts(item)
    if missing:
        run_async(judge.check())


def _roots(manager: Any, tasks: set[str]) -> list[str]:
    """`tasks`, with a group in the place of its members where all of them are there."""
    roots = set(tasks)
    for group in manager.all_groups:
        if not group.startswith("long"):
            continue
        members = set(manager.load(group)["tasks"]) if hasattr(manager, "load") else set()
        if members and members <= tasks:
            roots = roots - members | {group}
    return sorted(roots)


def _merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The old sample row with the new scores; what was asked and answered stays as it was."""
    if old["doc"]["prompt"] != new["doc"]["prompt"]:
        raise InputError(f"{new['doc']['id']}: the run was made with another version of the data")
    kept = {key: old[key] for key in ("arguments", "resps", "prompt_hash") if key in old}
    return {**old, **new, **kept}
