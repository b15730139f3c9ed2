"""Rescoring a finished run: judges responses without a verdict, and aggregates as lm-eval does."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from longwriter_core.errors import InputError
from longwriter_core.files import locked
from longwriter_core.llm import Store, run_async
from longwriter_eval.judge.panel import Panel, PanelSettings, VerdictKey
from longwriter_eval.judge.prompt import BUILT_IN
from longwriter_eval.judge.settings import request_of
from longwriter_eval.judge.verdict import Item, Judgement, Verdict
from longwriter_eval.lm_eval_task.aggregation import metric_rows, pool, pool_optional
from longwriter_eval.lm_eval_task.lm_eval_internals import tables
from longwriter_eval.runs import Run, Sample, load_run, load_runs, save_run
from longwriter_eval.scoring import (
    LENGTH_METRICS,
    RULER_METRICS,
    bucket_name,
    clean_response,
    is_ruler,
    judged_metrics,
    prompt_values,
    score_sample,
    with_spreads,
)
from longwriter_eval.stats.agreement import recorded_agreement
from longwriter_eval.stats.estimates import DocumentValue
from longwriter_eval.version import __version__

_TASKS = Path(str(find_spec("harness_tasks").origin)).parent  # type: ignore[union-attr]


@dataclass(frozen=True)
class Scored:
    """The result of scoring a run."""

    source: Path  # the results file that was scored
    path: Path  # the new results file
    table: str
    verdicts: int  # the expected number
    missing: Counter[str]  # reason -> verdicts without scores
    gap: str  # which responses the run lacks, and what to do; "" if none


def score(folder: Path, overrides: Mapping[str, Any]) -> Scored:
    """Judge responses without a verdict in the newest run below `folder`, and write new results.

    `overrides` are judge settings by metadata name (judge_model, …). The environment comes next,
    and then the run's own settings. Verdicts in this run's logs, including older ones, are reused.
    The new files lie beside the old ones, in lm-eval's format. Raises InputError.
    """
    run = load_run(folder)
    try:
        with locked(run.folder / ".score.lock"):
            return _score(run, overrides)
    except BlockingIOError as error:
        raise InputError(
            f"another `longwriter score` works on {run.folder}: wait until it has ended"
        ) from error


def _score(run: Run, overrides: Mapping[str, Any]) -> Scored:
    judges = _judges(run, overrides)
    judgements = _judge(run, judges)
    by_prompt: dict[tuple[str, str], list[Sample]] = {}
    for sample in run.samples:
        by_prompt.setdefault((sample.task, sample.prompt_id), []).append(sample)
    rows: dict[str, list[dict[str, Any]]] = {}
    for (task, _), samples in by_prompt.items():
        of_prompt = [j for s in samples if (j := judgements.get((task, s.id)))]
        metrics = _metrics(samples[0], judges.get(task))
        rows.setdefault(task, []).append(_score_row(samples, of_prompt, metrics))
    scored = _aggregate(run, rows, judges, judgements)
    try:
        path = save_run(run.folder, _merge(run.results, scored), rows)
    except OSError as error:
        raise InputError(
            f"cannot write to {run.folder} ({error.strerror}): free some space and rerun the same "
            f"command; the verdicts are stored in {Store().folder}"
        ) from error
    return Scored(
        source=run.path,
        path=path,
        table=tables(scored),
        verdicts=sum(
            len(judgement.verdicts) + len(judgement.segments) for judgement in judgements.values()
        ),
        missing=Counter(
            reason for judgement in judgements.values() for reason in judgement.missing
        ),
        gap=run.gap,
    )


def _judges(run: Run, overrides: Mapping[str, Any]) -> dict[str, Panel]:
    """The judges of every judged task. Raises InputError if there is no such task."""
    recorded = {sample.task: run.record(sample.task) for sample in run.samples}
    judged = {task: record for task, record in recorded.items() if "judge" in record}
    if not judged:
        raise InputError(f"{run.folder} holds no task that a judge scores")
    metadata = _settings(judged, overrides)
    panels: dict[PanelSettings, Panel] = {}
    by_task = {}
    for task, record in judged.items():
        settings = PanelSettings.resolve(metadata, os.environ, prompt=record["judge"]["prompt"])
        if settings not in panels:
            budget = next((panel.budget for panel in panels.values()), None)
            panels[settings] = Panel(settings, os.environ, budget)
        by_task[task] = panels[settings]
    return by_task


def _settings(
    judged: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Judge metadata: `overrides`, plus the run's settings that the environment does not set.

    The prompt is included if all tasks share it; otherwise each task has its own default. The path
    of a prompt file is not recorded, so it must be given again.
    """
    judges = [record["judge"] for record in judged.values()]
    first = judges[0]
    recorded = {"judge_repeats": first["repeats"]}
    prompts = {judge["prompt"] for judge in judges}
    if len(prompts) == 1:
        recorded["judge_prompt"] = prompts.pop()
    recorded["judge_segments"] = first.get("segments")

    def is_chosen(name: str) -> bool:
        return name in overrides or bool(os.environ.get(f"LONGWRITER_{name.upper()}"))

    if not is_chosen("judge"):  # a different profile replaces all settings
        recorded["judge_base_url"] = first["base_url"]
        if "judges" in first and not is_chosen("judge_model"):
            recorded["judge"] = first["profile"]
        elif not is_chosen(
            "judge_model"
        ):  # a different model without a profile uses the paper's constants
            recorded |= request_of(first)
    settings = {
        name: value for name, value in recorded.items() if value is not None and not is_chosen(name)
    }
    settings.update(overrides)
    if "judge_prompt" not in overrides and settings.get("judge_prompt", "official") not in BUILT_IN:
        raise InputError(
            f"the run was judged with a custom prompt, {settings['judge_prompt']}: name that file, "
            "or another prompt, by --judge-prompt"
        )
    return settings


def _judge(run: Run, judges: Mapping[str, Panel]) -> dict[tuple[str, str], Judgement]:
    """Judge the samples of the judged tasks; (task, prompt id) -> judgement.

    Each panel judges all its tasks at once. Before the first call, a preflight request checks each
    judge.
    """
    items = _items(run, judges)
    for panel, of_panel in items.items():
        panel.check_context(item for _, item in of_panel.values())
    has_changed = False
    for panel, of_panel in items.items():
        unjudged = [item for _, item in of_panel.values() if not panel.has_verdicts(item)]
        if unjudged and not (has_changed := run_async(panel.check(unjudged))):
            break  # the panels differ only in their prompt, so one check is enough
    if has_changed:
        items = _items(run, judges)  # by the settings that the endpoint accepts
    return {
        (sample.task, sample.id): judgement
        for panel, of_panel in items.items()
        for id, judgement in panel.judge_with_progress(
            [item for _, item in of_panel.values()]
        ).items()
        for sample, _ in [of_panel[id]]
    }


def _items(run: Run, judges: Mapping[str, Panel]) -> dict[Panel, dict[str, tuple[Sample, Item]]]:
    """The samples that each panel judges, with the verdicts that are known."""
    known = _known_verdicts(run, judges)
    items: dict[Panel, dict[str, tuple[Sample, Item]]] = {}
    for sample in run.samples:
        if panel := judges.get(sample.task):
            item = _item(sample, f"{sample.task}:{sample.id}", tuple(known[sample.task, sample.id]))
            items.setdefault(panel, {})[item.id] = (sample, item)
    return items


def _known_verdicts(
    run: Run, judges: Mapping[str, Panel]
) -> dict[tuple[str, str], Iterable[Verdict]]:
    """Verdicts of these judges on this run's responses, from all logs in its folder.

    Older logs matter if another judge was used in between. The newest verdict wins.
    """
    known: dict[tuple[str, str], dict[VerdictKey, Verdict]] = {
        (sample.task, sample.id): {} for sample in run.samples
    }
    samples = {(sample.task, sample.id): sample for sample in run.samples}
    for source in [run, *(older for older in load_runs(run.folder) if older.path != run.path)]:
        for logged in source.samples:
            place = (logged.task, logged.id)
            judge = judges.get(logged.task)
            if judge is None or place not in samples:
                continue
            try:
                recorded = judge.recorded_verdicts(
                    _item(samples[place], ""), logged.judgement or {}
                )
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise InputError(
                    f"{source.path}: the judgement of {logged.id} in {logged.task} is "
                    f"malformed ({error!r})"
                ) from error
            known[place] = {**recorded, **known[place]}
    return {place: verdicts.values() for place, verdicts in known.items()}


def _item(sample: Sample, id: str, verdicts: tuple[Verdict, ...] = ()) -> Item:
    return Item(id, sample.prompt, clean_response(sample.response, sample.version), verdicts)


def _score_row(
    samples: Sequence[Sample], judgements: Sequence[Judgement], metrics: Mapping[str, bool]
) -> dict[str, Any]:
    """The row of all responses to a prompt with new scores; prompt and responses stay the same."""
    old = samples[0].row
    doc = {key: value for key, value in old["doc"].items() if key != "judgement"}
    records = [judgement.record() for judgement in judgements]
    if records:
        doc["judgement"] = records if len(samples) > 1 else records[0]
    scores = [score_sample(replace(sample, row={**old, "doc": doc})) for sample in samples]
    texts = [score.text for score in scores]
    values = prompt_values(scores, metrics)
    return {
        **{key: old[key] for key in old if key not in old.get("metrics", ())},
        "doc": doc,
        "filtered_resps": [texts if len(texts) > 1 else texts[0]],
        "metrics": list(values),
        **values,
    }


def _metrics(sample: Sample, panel: Panel | None) -> dict[str, bool]:
    """The metrics of the sample's task with spreads, and whether higher is better."""
    unjudged = RULER_METRICS if is_ruler(sample) else LENGTH_METRICS
    metrics = judged_metrics(panel.settings.first.segments) if panel else unjudged
    return with_spreads(metrics, sample.repeats)


def _aggregate(
    run: Run,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    judges: Mapping[str, Panel],
    judgements: Mapping[tuple[str, str], Judgement],
) -> dict[str, Any]:
    """The scores of these tasks and their groups, under the keys of lm-eval's results."""
    old = run.results
    results: dict[str, dict[str, Any]] = {}
    directions: dict[str, dict[str, bool]] = {}
    for sample in run.samples:
        if (task := sample.task) not in results:
            metrics = _metrics(sample, judges.get(task))
            aggregated = metric_rows(
                {
                    name: [*(row[name] for row in rows[task]), *_absent(run, task, name)]
                    for name in metrics
                }
            )
            alias = old["configs"][task].get("task_alias", task)
            named = {"name": task, "alias": alias, "sample_len": len(rows[task])}
            results[task] = {**_names(old, "results", task, named), **aggregated}
            directions[task] = metrics
    versions = {task: old["configs"][task]["metadata"].get("version") for task in rows}
    groups: dict[str, dict[str, Any]] = {}
    subtasks: dict[str, list[str]] = {}
    for group in _groups(set(rows)):
        name, tasks = group["group"], group["task"]
        size = sum(len(rows[task]) for task in tasks)
        row = _names(old, "results", name, {"alias": name, "name": name, "sample_len": size})
        for metric in (entry["metric"] for entry in group["aggregate_metric_list"]):
            row |= pool([results[task] for task in tasks], metric)
        row |= pool_optional([results[task] for task in tasks])
        groups[name], subtasks[name] = row, tasks
        directions[name] = directions[tasks[0]]
        versions[name] = old.get("versions", {}).get(name, str(group["metadata"]["version"]))
    rows_by_name = {**results, **groups}
    scored = {
        # keep the old order, in which the table is printed
        "results": {
            name: rows_by_name[name]
            for name in dict.fromkeys([*old.get("results", {}), *rows_by_name])
            if name in rows_by_name
        },
        "group_subtasks": subtasks,
        "versions": versions,
        # lm-eval 0.4.11 does not record it for groups
        "n-shot": {
            **dict.fromkeys(results, 0),
            **{name: n for name, n in old.get("n-shot", {}).items() if name in groups},
        },
        "higher_is_better": directions,
        "n-samples": {
            task: old.get("n-samples", {}).get(
                task,
                {
                    "original": len(rows[task]) + len(run.missing.get(task, ())),
                    "effective": len(rows[task]),
                },
            )
            for task in rows
        },
        "configs": {task: _config(run, task, judges.get(task), judgements) for task in rows},
    }
    return {**scored, "groups": groups} if groups else scored


def _absent(run: Run, task: str, metric: str) -> Iterator[DocumentValue]:
    """The metric's values of prompts whose responses are missing: none, and not judged."""
    value = 0.0 if metric == "judge_coverage" else math.nan
    for id, required in run.missing.get(task, {}).items():
        yield DocumentValue(value, bucket=bucket_name(id, required))


def _names(
    results: Mapping[str, Any], key: str, name: str, default: Mapping[str, Any]
) -> dict[str, Any]:
    """The entries of a `results` row besides metrics, which depend on the version of lm-eval."""
    row = results.get(key, {}).get(name)
    return {k: v for k, v in row.items() if "," not in k} if row else dict(default)


def _config(
    run: Run, task: str, panel: Panel | None, judgements: Mapping[tuple[str, str], Judgement]
) -> dict[str, Any]:
    """The task's configuration with the current judge, or judges and how far they agree."""
    config = run.results["configs"][task]
    record = {**run.record(task), "version": __version__}
    if panel:
        judged = {id: judgements[of, id] for of, id in judgements if of == task}
        record |= {
            "judge": panel.settings.record() | recorded_agreement(judged),
            "judge_prompt_sha256": panel.prompt_sha256,
        }
    return {**config, "metadata": {**config["metadata"], "longwriter": record}}


def _groups(tasks: set[str]) -> list[dict[str, Any]]:
    """The configurations of groups all of whose tasks are among `tasks`."""
    paths = sorted(_TASKS.glob("*/_group.yaml"))
    groups = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths]
    return [group for group in groups if tasks.issuperset(group["task"])]


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The old results with the new scores; keeps the record of how responses were generated."""
    merged = {**old, **{key: {**old.get(key, {}), **new[key]} for key in new}}
    if "unfinished" in merged:  # the new results are no longer those of one process
        record = merged["unfinished"]
        merged["unfinished"] = {key: record[key] for key in record if key != "rank"}
    return merged
