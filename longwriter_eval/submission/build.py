"""A submission out of a run: what the run recorded, what its submitter states, nothing secret."""

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
from longwriter_eval.submission.claims import sample_scores, table_claims
from longwriter_eval.submission.contents import SCHEMA, Submission, check_shape, dump, dump_lines
from longwriter_eval.submission.model import Stated, describe, model_arguments, whole
from longwriter_eval.submission.public import (
    public_model,
    public_settings,
)
from longwriter_eval.submission.verification import VERSIONS, judge_prompt, violations


def make(run: Run, stated: Stated) -> Submission:
    """The submission of a finished run.

    Raises InputError with every reason why the run cannot be submitted, or that names the secret
    which the submission would give away.
    """
    scores = _judged(run)
    problems = list(_problems(run, scores))
    try:
        manifest = _manifest(run, scores, stated, problems)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{run.path}: malformed, or not made by our tasks ({error!r})") from error
    prompt = judge_prompt(manifest)
    samples = tuple(_sample(score, prompt) for score in scores)
    text = dump_lines(samples)
    made = Submission({**manifest, "samples_sha256": files.sha256(text)}, samples)
    problems += violations(made)
    if problems:
        raise InputError(f"{run.path} cannot be submitted: {'; '.join(dict.fromkeys(problems))}")
    _check_secrets(dump(made.manifest), text)
    check_shape(made.manifest, "manifest", "the manifest")
    for sample in samples:
        check_shape(sample, "sample", sample["id"])
    return made


def _judged(run: Run) -> list[Score]:
    """The run's scores on the one benchmark that it can submit, by prompt."""
    scores = [score for score in score_samples(run.samples) if score.judgement]
    for benchmark in VERSIONS:
        if mine := [score for score in scores if score.benchmark == benchmark]:
            return mine
    raise InputError(
        f"{run.path} holds no judged responses of {' or '.join(VERSIONS)}: judge them by "
        "`longwriter score`, or run lm_eval on longbench_write"
    )


def _problems(run: Run, scores: Iterable[Score]) -> Iterable[str]:
    """What only the run itself can tell."""
    if (limit := (run.results.get("config") or {}).get("limit")) is not None:
        yield f"it was made with --limit {printable(limit)}"
    changed = [s.sample.id for s in scores if s.status == "response_changed"]
    if changed:
        yield f"{len(changed)} responses were changed after they were judged, {changed[0]} for one"


def _manifest(run: Run, scores: list[Score], stated: Stated, problems: list[str]) -> dict[str, Any]:
    results, tasks = run.results, sorted({score.sample.task for score in scores})
    config = results.get("config") or {}
    configs = [results["configs"][task] for task in tasks]

    def shared(what: str, values: Iterable[Any]) -> Any:
        """The value that all tasks share; the first, and a problem, where they do not."""
        found = list(values)
        if any(value != found[0] for value in found):
            problems.append(f"not all responses have the same {what}")
        return found[0]

    record = shared("judge and data", [each["metadata"]["longwriter"] for each in configs])
    judge = record["judge"]
    answered = Counter(
        verdict.model
        for score in scores
        for verdict in (score.judgement.verdicts if score.judgement else ())
        if verdict.model and verdict.scores
    )
    returned = answered.most_common(1)[0][0] if answered else judge["model"]
    generation = [_generation(score, results["configs"][score.sample.task]) for score in scores]
    settings, withheld = public_settings(shared("generation settings", generation))
    model, backend = describe(results, stated, problems)
    return {
        "schema": SCHEMA,
        "longwriter": printable(record["version"]),
        "benchmark": scores[0].benchmark,
        "task_version": shared("task version", [each["metadata"]["version"] for each in configs]),
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
                "number of examples", [each.get("num_fewshot") or 0 for each in configs]
            ),
            "system_instruction": results.get("system_instruction"),
        },
        "seeds": {
            "model": whole(model_arguments(config).get("seed")),
            **{
                name: whole(config.get(f"{name}_seed"))
                for name in ("random", "numpy", "torch", "fewshot")
            },
        },
        "judge": {
            "requested": public_model(judge["model"]),
            "returned": public_model(returned),
            **{name: judge[name] for name in ("temperature", "max_tokens", "repeats")},
            "prompt": public_model(judge["prompt"]),
            "prompt_sha256": record["judge_prompt_sha256"],
        },
        "scores": table_claims(score_table(scores)),
    }


def _generation(score: Score, config: Mapping[str, Any]) -> Any:
    """The settings that a response was generated with."""
    try:
        return score.sample.row["arguments"]["gen_args_0"]["arg_1"]
    except (KeyError, TypeError):
        return config["generation_kwargs"]


def _sample(score: Score, prompt: JudgePrompt | None) -> dict[str, Any]:
    sample, judgement = score.sample, score.judgement
    assert judgement
    # without a prompt of ours it is refused a little later
    asked = files.sha256(prompt.render(sample.prompt, score.text)[0]) if prompt else ""
    return {
        "id": sample.id,
        "task": sample.task,
        "prompt_sha256": files.sha256(sample.prompt),
        "sent_sha256": sample.row.get("prompt_hash"),
        "response": encodable(sample.response),
        "response_sha256": judgement.response_sha256,
        "words": score.words,
        "cut_off": bool(score.diagnostics.cut_off),
        "verdicts": [
            {
                "repeat": verdict.repeat,
                "asked_sha256": asked,
                "raw": encodable(verdict.raw),
                "scores": verdict.scores,
                "reason": verdict.reason,
                "model": public_model(verdict.model) if verdict.model else None,
                **{
                    name: getattr(verdict, name)
                    for name in ("asks", "retries", "prompt_tokens", "completion_tokens", "defused")
                },
            }
            for verdict in judgement.verdicts
        ],
        "scores": sample_scores(score),
    }


def _check_secrets(manifest: str, samples: str) -> None:
    """Raise InputError where a text that is published as it is gives something away."""
    if found := secrets_in(manifest + samples, os.environ):
        raise InputError(
            f"the value of {found[0]} stands in a response, a verdict or a setting of the run: the "
            "submission would publish it"
        )
    home = str(Path.home())
    if has_key(manifest) or (home != "/" and home in manifest):
        raise InputError("the system instruction holds a key or a path of this machine")
