"""Building a submission from what a run recorded and its submitter states, without secrets."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
from longwriter_eval.submission.public import public_endpoint, public_model, public_settings
from longwriter_eval.submission.rules import VERSIONS, judge_prompt, violations
from longwriter_eval.submission.verification import sample_scores, table_claims

_Fact = dict[str, Any] | None


@dataclass(frozen=True)
class StatedMetadata:
    """The submitter's statements about the model, for values that the run did not record."""

    model: str | None = None
    revision: str | None = None
    dtype: str | None = None
    backend_version: str | None = None
    chat_template_sha256: str | None = None
    context_length: int | None = None  # tokens
    parameters: int | None = None
    licence: str | None = None  # SPDX or hub identifier
    cost_usd: float | None = None  # of writing the responses
    minutes: float | None = None
    submitter: str | None = None


def build_submission(run: Run, stated: StatedMetadata) -> Submission:
    """The submission of a finished run.

    Raises InputError with every reason why the run cannot be submitted, or with the name of the
    secret that the submission would publish.
    """
    scores = _judged(run)
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


def _judged(run: Run) -> list[Score]:
    """The scores on the first benchmark that the run can submit, in order of prompt id."""
    scores = [score for score in score_samples(run.samples) if score.judgement]
    for benchmark in VERSIONS:
        if selected := [score for score in scores if score.benchmark == benchmark]:
            return selected
    raise InputError(
        f"{run.path} has no judged responses of {' or '.join(VERSIONS)}: judge them with "
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

    record = shared("judge and data", [c["metadata"]["longwriter"] for c in configs])
    judge, unpublished = judges.from_run(
        record["judge"], record["judge_prompt_sha256"], _answered(scores)
    )
    problems += unpublished
    generation = [_generation(score, results["configs"][score.sample.task]) for score in scores]
    settings, withheld = public_settings(shared("generation settings", generation))
    model, backend = _model_and_backend(results, stated, problems)
    return {
        "schema": SCHEMA,
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
            "model": _whole_number(_model_arguments(config).get("seed")),
            **{
                name: _whole_number(config.get(f"{name}_seed"))
                for name in ("random", "numpy", "torch", "fewshot")
            },
        },
        "judge": judge,
        "stated": {"cost_usd": stated.cost_usd, "minutes": stated.minutes},
        "scores": table_claims(score_table(scores)),
    }


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
    record = run.record(score.sample.task)["judge"]
    return {name: number for number, name in enumerate(judges.recorded_names(record))}


def _model_and_backend(
    results: Mapping[str, Any], stated: StatedMetadata, problems: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest's `model` and `backend`; contradictions are added to `problems`."""
    config = results.get("config") or {}
    arguments = _model_arguments(config)
    published, withheld = public_settings(arguments)
    name = str(config.get("model") or "unknown")
    is_endpoint = "base_url" in arguments or name.endswith("completions")
    served = str(results.get("model_name") or arguments.get("model") or arguments.get("pretrained"))
    # the name of a model at an endpoint, or of a local folder, can be anything
    is_alias = is_endpoint or public_model(served) != served
    is_other = bool(stated.model) and stated.model != public_model(served)

    def fact(option: str, recorded: Any, said: Any) -> _Fact:
        if recorded in ("", "None"):
            recorded = None
        is_open = recorded in (None, "main")  # "main" is a branch and does not identify a commit
        if not is_open and said not in (None, recorded):
            problems.append(
                f"--{option} {printable(said)} contradicts the run, which recorded {recorded}"
            )
        is_stated = is_open and said is not None
        value = said if is_stated else recorded
        if value is None:
            return None
        source = "submitter" if is_stated else "run"
        return {"value": value if isinstance(value, int) else printable(value), "source": source}

    revision = config.get("model_sha") or arguments.get("revision") or config.get("model_revision")
    dtype = str(config.get("model_dtype") or arguments.get("dtype") or "").removeprefix("torch.")
    context = next(
        (
            arguments[name]
            for name in ("max_model_len", "max_length")
            if _whole_number(arguments.get(name))
        ),
        # for an endpoint, lm-eval records a guess
        None if is_endpoint else results.get("max_length"),
    )
    versions = _libraries(results, is_endpoint=is_endpoint)
    environment = "" if is_endpoint else str(results.get("pretty_env_info") or "")
    model = {
        "id": fact("model", None if is_alias and is_other else public_model(served), stated.model),
        "served_as": public_model(served) if is_alias and is_other else None,
        "revision": fact("revision", public_model(revision) if revision else None, stated.revision),
        "dtype": fact("dtype", "" if dtype == "auto" else printable(dtype, 40), stated.dtype),
        "parameters": fact(
            "parameters", _whole_number(config.get("model_num_parameters")), stated.parameters
        ),
        "licence": fact("licence", None, stated.licence),
        "chat_template_sha256": fact(
            "chat-template", results.get("chat_template_sha"), stated.chat_template_sha256
        ),
        "context_length": fact("context-length", _whole_number(context), stated.context_length),
    }
    backend = {
        "name": fact("backend", public_model(name), None),
        "version": fact(
            "backend-version",
            versions.get("transformers") if name == "hf" else None,
            stated.backend_version,
        ),
        # null: the model ran in lm-eval's process
        "endpoint": public_endpoint(arguments.get("base_url") or "https://api.openai.com")
        if is_endpoint
        else None,
        "arguments": published,
        "withheld": withheld,
        "libraries": versions,
        "gpus": [
            printable(gpu, 60) for gpu in re.findall(r"\bGPU \d+: ([A-Za-z0-9 .-]+)", environment)
        ][:64],
    }
    return model, backend


def _libraries(results: Mapping[str, Any], *, is_endpoint: bool) -> dict[str, str]:
    torch = re.search(r"^PyTorch version: (\S+)", str(results.get("pretty_env_info")), re.MULTILINE)
    versions = {"lm_eval": results.get("lm_eval_version")}
    if not is_endpoint:  # an endpoint runs on another machine, with other versions
        versions["transformers"] = results.get("transformers_version")
        versions["torch"] = torch and torch[1]
    return {
        name: str(version)
        for name, version in versions.items()
        if re.fullmatch(r"\d[\w.+-]{0,40}", str(version))
    }


def _model_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The model's arguments, which lm-eval records as a mapping or as typed."""
    given = config.get("model_args") or {}
    if isinstance(given, str):
        pairs = (pair.partition("=")[::2] for pair in given.split(",") if pair)
        return {name: _typed(text) for name, text in pairs}
    return dict(given)


def _typed(text: str) -> Any:
    """The number, boolean or None that lm-eval parses an argument as; otherwise the text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _whole_number(value: Any) -> int | None:
    """`value` if it is an integer, otherwise None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


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
    assert judgement
    # a run with another prompt is refused later, by violations()
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
            for verdict in judgement.verdicts
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
