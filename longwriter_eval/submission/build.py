"""Building a submission from what a run recorded and its submitter states, without secrets."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from longwriter_core import files
from longwriter_core.errors import InputError
from longwriter_core.redact import has_key, secrets_in
from longwriter_core.text.printable import printable
from longwriter_core.text.special_tokens import encodable
from longwriter_eval.judge.prompt import JudgePrompt
from longwriter_eval.runs import Run
from longwriter_eval.scoring import Score, score_samples
from longwriter_eval.stats.score_table import score_table
from longwriter_eval.submission import judges
from longwriter_eval.submission.archive import check_shape, dump, dump_lines
from longwriter_eval.submission.contents import SCHEMA, Submission
from longwriter_eval.submission.facts import (
    StatedMetadata,
    model_and_backend,
    model_arguments,
    whole_number,
)
from longwriter_eval.submission.public import public_model, public_settings
from longwriter_eval.submission.rules import RULER, VERSIONS, judge_prompt, violations
from longwriter_eval.submission.verification import sample_scores, table_claims


def build_submission(run: Run, stated: StatedMetadata, benchmark: str | None = None) -> Submission:
    """The submission of a finished run: of `benchmark`, by default the first that it can submit.

    Raises InputError with every reason why the run cannot be submitted, or with the name of the
    secret that the submission would publish.
    """
    scores = _submittable(run, benchmark)
    problems = list(_problems(run, scores))
    try:
        manifest = _manifest(run, scores, stated, problems)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(
            f"{run.path}: malformed, or not from a longwriter task ({error!r})"
        ) from error
    prompt, numbers = judge_prompt(manifest), _judge_numbers(run, scores[0])
    samples = tuple(_sample(score, prompt, numbers) for score in scores)
    text = dump_lines(samples)
    submission = Submission({**manifest, "samples_sha256": files.sha256(text)}, samples)
    problems += violations(submission)
    if problems:
        raise InputError(f"{run.path} cannot be submitted: {'; '.join(dict.fromkeys(problems))}")
    _check_secrets(dump(submission.manifest), text)
    check_shape(submission.manifest, "manifest", "the manifest")
    for sample in samples:
        check_shape(sample, "sample", sample["id"])
    return submission


def _submittable(run: Run, benchmark: str | None) -> list[Score]:
    """The scores on `benchmark`, or on the first that the run can submit, in order of prompt id."""
    if benchmark not in (None, *VERSIONS):
        raise InputError(f"--benchmark {benchmark}: choose from {', '.join(VERSIONS)}")
    scores = [s for s in score_samples(run.samples) if s.judgement or s.benchmark == RULER]
    for name in [benchmark] if benchmark else VERSIONS:
        if selected := [score for score in scores if score.benchmark == name]:
            return selected
    if benchmark == RULER:
        raise InputError(f"{run.path} has no responses of {RULER}: run lm_eval on it")
    judged = [benchmark] if benchmark else [name for name in VERSIONS if name != RULER]
    raise InputError(
        f"{run.path} has no judged responses of {' or '.join(judged)}: judge them with "
        "`longwriter score`, or run lm_eval on longbench_write"
    )


def _problems(run: Run, scores: Iterable[Score]) -> Iterable[str]:
    """Problems that are visible in the run but not in the submission."""
    if run.gap:
        yield run.gap
    repeats = max(score.sample.repeats for score in scores)
    if repeats > 1:
        yield (
            f"the run has {repeats} responses to each prompt, and a submission holds one: run "
            "lm_eval with repeats: 1"
        )
    if (limit := (run.results.get("config") or {}).get("limit")) is not None:
        yield f"the run used --limit {printable(limit)}"
    changed = [s.sample.id for s in scores if s.status == "response_changed"]
    if changed:
        yield f"{len(changed)} responses changed after they were judged, such as {changed[0]}"


def _manifest(
    run: Run, scores: list[Score], stated: StatedMetadata, problems: list[str]
) -> dict[str, Any]:
    results, tasks = run.results, sorted({score.sample.task for score in scores})
    config = results.get("config") or {}
    configs = [results["configs"][task] for task in tasks]

    def shared(what: str, values: Iterable[Any]) -> Any:
        """The common value of all tasks. If they differ, notes a problem and returns the first."""
        first, *others = values
        if any(value != first for value in others):
            problems.append(f"not all responses have the same {what}")
        return first

    record = shared(
        "judge and data", [_shared_record(c["metadata"]["longwriter"]) for c in configs]
    )
    judge = None
    if scores[0].judgement:
        judge, unpublished = judges.from_run(
            record["judge"], record["judge_prompt_sha256"], _answered(scores)
        )
        problems += unpublished
    generation = [_generation(score, results["configs"][score.sample.task]) for score in scores]
    settings, withheld = public_settings(shared("generation settings", generation))
    model, backend = model_and_backend(results, stated, problems)
    return {
        "schema": SCHEMA,
        "example": stated.example,
        "longwriter": printable(record["version"]),
        "benchmark": scores[0].benchmark,
        "task_version": shared("task version", [c["metadata"]["version"] for c in configs]),
        "tasks": tasks,
        "data_sha256": record["data_sha256"],
        "task_hashes": {
            task: sha for task, sha in (results.get("task_hashes") or {}).items() if task in tasks
        },
        "date": f"{datetime.fromtimestamp(int(results.get('date') or 0), UTC):%Y-%m-%dT%H:%M:%SZ}",
        "submitter": printable(stated.submitter) if stated.submitter else None,
        "model": model,
        "backend": backend,
        "generation": {
            "settings": settings,
            "withheld": withheld,
            "num_fewshot": shared(
                "number of examples", [c.get("num_fewshot") or 0 for c in configs]
            ),
            "system_instruction": results.get("system_instruction"),
        },
        "seeds": {
            "model": whole_number(model_arguments(config).get("seed")),
            **{
                name: whole_number(config.get(f"{name}_seed"))
                for name in ("random", "numpy", "torch", "fewshot")
            },
        },
        "judge": judge,
        "stated": {"cost_usd": stated.cost_usd, "minutes": stated.minutes},
        "scores": table_claims(score_table(scores)),
    }


def _shared_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A task's record without what the judges of a panel found in its own responses."""
    judge = record.get("judge", {})
    shared = {name: value for name, value in judge.items() if name != "agreement"}
    return {**record, **({"judge": shared} if judge else {})}


def _answered(scores: Iterable[Score]) -> dict[str | None, str]:
    """The model that answered most often for each judge, by the judge's name in the verdicts."""
    answered: dict[str | None, Counter[str]] = {}
    for score in scores:
        for verdict in score.judgement.verdicts if score.judgement else ():
            if verdict.model and verdict.scores:
                answered.setdefault(verdict.judge, Counter())[verdict.model] += 1
    return {name: models.most_common(1)[0][0] for name, models in answered.items()}


def _judge_numbers(run: Run, score: Score) -> dict[str | None, int]:
    """The number of each judge in the manifest, by its name in the verdicts."""
    record = run.record(score.sample.task).get("judge", {})
    return {name: number for number, name in enumerate(judges.recorded_names(record))}


def _generation(score: Score, config: Mapping[str, Any]) -> Any:
    """The generation settings of a response."""
    try:
        return score.sample.row["arguments"]["gen_args_0"]["arg_1"]
    except (KeyError, TypeError):
        return config["generation_kwargs"]


def _sample(
    score: Score, prompt: JudgePrompt | None, numbers: Mapping[str | None, int]
) -> dict[str, Any]:
    sample, judgement = score.sample, score.judgement
    # a run with another prompt is refused later, by violations()
    asked = files.sha256(prompt.render(sample.prompt, score.text)[0]) if prompt else ""
    return {
        "id": sample.id,
        "task": sample.task,
        "prompt_sha256": files.sha256(sample.prompt),
        "sent_sha256": sample.row.get("prompt_hash"),
        "response": encodable(sample.response),
        "response_sha256": judgement.response_sha256 if judgement else files.sha256(score.text),
        "words": score.words,
        "cut_off": bool(score.diagnostics.cut_off),
        "verdicts": [
            {
                "judge": numbers[verdict.judge],
                "repeat": verdict.repeat,
                "asked_sha256": asked,
                "raw": encodable(verdict.raw),
                "scores": verdict.scores,
                "reason": verdict.reason,
                "model": public_model(verdict.model) if verdict.model else None,
                **{
                    name: getattr(verdict, name)
                    for name in ("asks", "retries", "prompt_tokens", "completion_tokens")
                },
                "defused": verdict.escaped,
            }
            for verdict in (judgement.verdicts if judgement else ())
        ],
        "scores": sample_scores(score),
    }


def _check_secrets(manifest: str, samples: str) -> None:
    """Raise InputError if the text that is published verbatim contains a secret."""
    if names := secrets_in(manifest + samples, os.environ):
        raise InputError(
            f"the value of {names[0]} occurs in a response, a verdict or a setting of the run, and "
            "the submission would publish it"
        )
    home = str(Path.home())
    if has_key(manifest) or (home != "/" and home in manifest):
        raise InputError("the system instruction contains a key or a local path")
