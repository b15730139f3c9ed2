"""The benchmark's rules for a submission, apart from its scores: prompts, names, judging."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from longwriter_core import benchmarks, files
from longwriter_core.text.printable import printable
from longwriter_eval.judge.prompt import BUILT_IN, JudgePrompt
from longwriter_eval.judge.settings import MAX_TOKENS, TEMPERATURE
from longwriter_eval.stats.thresholds import MIN_COVERAGE
from longwriter_eval.submission.contents import SCHEMA_1, Submission
from longwriter_eval.submission.judges import identity, members
from longwriter_eval.submission.names import name_problem
from longwriter_eval.version import TASK_VERSION

# Benchmark -> the task versions that this version of longwriter verifies, the newest first.
RULER = "longwrite_ruler"
VERSIONS = {
    "longbench_write": (TASK_VERSION, 1.0),
    "longwrite_demo": (TASK_VERSION, 1.0),
    RULER: (TASK_VERSION,),
}
_BUCKETS = ("0000_0500", "0500_2000", "2000_4000", "4000_20000")
TASKS = {
    "longbench_write": {f"longbench_write_{name}" for name in (*_BUCKETS, "en", "zh")},
    "longwrite_demo": {"longwrite_demo"},
    RULER: {f"{RULER}_{length:05d}" for length in (1000, 2000, 5000, 10000, 20000, 30000)},
}
_DATE = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8})")
_MAX_LISTED = 5  # ids in a message
# One text may answer at most this share of the prompts, such as the same refusal.
MAX_SAME_RESPONSE = 0.2


def violations(submission: Submission) -> list[str]:
    """Violations of the benchmark's rules, independent of the scores, one line each."""
    return [
        *_name_violations(submission.manifest),
        *_benchmark_violations(submission),
        *_prompt_violations(submission),
        *_judge_violations(submission),
    ]


def answers_to(requested: str, returned: str) -> bool:
    """Whether the model that answered is the requested one, or its dated version.

    OpenAI, for example, reports gpt-4.1-2025-04-14 for a call to gpt-4.1.
    """
    if returned == requested:
        return True
    return returned.startswith(requested) and bool(_DATE.fullmatch(returned[len(requested) :]))


def judge_prompt(manifest: Mapping[str, Any]) -> JudgePrompt | None:
    """The judge prompt, or None if it is not built in or there is no judge."""
    name = manifest["judge"] and manifest["judge"]["prompt"]
    return JudgePrompt.load(name) if name in BUILT_IN else None


def _name_violations(manifest: Mapping[str, Any]) -> Iterator[str]:
    names = {
        "the model's name": manifest["model"]["id"]["value"],
        "the name that the model was served as": manifest["model"]["served_as"],
        "the submitter's name": manifest["submitter"],
    }
    for number, judge in enumerate(members(manifest["judge"])):
        names[f"the name of judge {number}"] = judge["returned"]
        # what a judge was sent stands in the title of its ranking
        names[f"the request of judge {number}"] = json.dumps(
            judge["request"], ensure_ascii=False, sort_keys=True
        )
    for title, name in names.items():
        if problem := name_problem(name) if name else None:
            yield f"{title}, {printable(name)!r}, could be mistaken for another: {problem}"


def _benchmark_violations(submission: Submission) -> Iterator[str]:
    manifest = submission.manifest
    benchmark = manifest["benchmark"]
    if datetime.fromisoformat(manifest["date"]) > datetime.now(UTC) + timedelta(days=1):
        yield f"its date, {manifest['date']}, is in the future"
    if manifest["task_version"] not in VERSIONS[benchmark]:
        verified = " and ".join(f"{version:g}" for version in VERSIONS[benchmark])
        yield (
            f"it uses version {manifest['task_version']:g} of {benchmark}, but this version of "
            f"longwriter verifies {verified}"
        )
    if manifest["data_sha256"] != benchmarks.data_sha256(benchmark):
        yield f"its data is not that of {benchmark} (different SHA-256)"
    if examples := manifest["generation"]["num_fewshot"]:
        yield f"the model was shown {examples} few-shot examples, but the benchmark is zero-shot"
    if other := sorted(set(manifest["tasks"]) - TASKS[benchmark]):
        yield f"{_list(other)} are not tasks of {benchmark}"
    used = {sample["task"] for sample in submission.samples}
    if used != set(manifest["tasks"]):
        yield "its samples come from tasks other than those in the manifest"


def _prompt_violations(submission: Submission) -> Iterator[str]:
    prompts, samples = submission.prompts, submission.samples
    counted = Counter(sample["id"] for sample in samples)
    if missing := sorted(set(prompts) - set(counted)):
        yield (
            f"it is incomplete: {len(prompts) - len(missing)} of {len(prompts)} prompts have a "
            f"response (missing: {_list(missing)})"
        )
    if extra := sorted(set(counted) - set(prompts)):
        yield f"the benchmark has no {_list(extra)}"
    if duplicates := sorted(id for id, number in counted.items() if number > 1):
        yield f"more than one response to {_list(duplicates)}"
    texts = Counter(" ".join(sample["response"].split()) for sample in samples)
    text, number = max(texts.items(), key=lambda item: item[1] if item[0] else 0, default=("", 0))
    if text and number > max(1, MAX_SAME_RESPONSE * len(samples)):
        yield f"{number} of its responses are the same text: {text[:60]!r}"
    if wrong := sorted(
        sample["id"]
        for sample in samples
        if sample["id"] in prompts
        and sample["prompt_sha256"] != files.sha256(prompts[sample["id"]]["prompt"])
    ):
        yield f"the prompt differs from the benchmark's in {_list(wrong)}"


def _judge_violations(submission: Submission) -> Iterator[str]:
    benchmark, judge = submission.manifest["benchmark"], submission.manifest["judge"]
    if (benchmark == RULER) != (judge is None):
        yield f"{benchmark} is {'not ' if benchmark == RULER else ''}judged"
    elif judge:
        yield from _judging_violations(submission)


def _judging_violations(submission: Submission) -> Iterator[str]:
    manifest, judge = submission.manifest, submission.manifest["judge"]
    prompt = judge_prompt(manifest)
    if prompt is None:
        yield (
            f"the judge prompt {judge['prompt']!r} is not one of {', '.join(BUILT_IN)}: judge the "
            "run with `longwriter score RUN --judge-prompt official`"
        )
    elif prompt.sha256 != judge["prompt_sha256"]:
        yield f"its judge prompt is not the {judge['prompt']} prompt (different SHA-256)"
    judges: Sequence[Mapping[str, Any]] = judge["judges"]
    if len(set(identity(judge)[2:])) < len(judges):
        yield "two judges of its panel are the same (same model, same request)"
    for number, one in enumerate(judges):
        if manifest["schema"] == SCHEMA_1 and (
            (one["temperature"], one["max_tokens"]) != (TEMPERATURE, MAX_TOKENS)
        ):
            yield (
                f"the judge ran with temperature {one['temperature']} and {one['max_tokens']} "
                f"tokens, but {SCHEMA_1} requires {TEMPERATURE} and {MAX_TOKENS}"
            )
        if not answers_to(one["requested"], one["returned"]):
            yield (
                f"{one['requested']} was requested as judge, but {one['returned']} answered: use "
                "an endpoint that serves the requested model"
            )
        yield from _verdict_violations(submission, number)
    places = sorted((n, repeat) for n in range(len(judges)) for repeat in range(judge["repeats"]))
    if wrong := sorted(
        sample["id"]
        for sample in submission.samples
        if sorted((verdict["judge"], verdict["repeat"]) for verdict in sample["verdicts"]) != places
    ):
        of_each = " of each judge" if len(judges) > 1 else ""
        yield f"each response needs {judge['repeats']} verdicts{of_each}; wrong for {_list(wrong)}"
    judged = sum(
        {v["judge"] for v in sample["verdicts"] if v["scores"]} >= set(range(len(judges)))
        for sample in submission.samples
    )
    if judged < MIN_COVERAGE * len(submission.prompts):
        yield (
            f"{judged} of {len(submission.prompts)} responses are judged, but {MIN_COVERAGE:.0%} "
            "are required: run `longwriter score` on the run to judge the rest"
        )


def _verdict_violations(submission: Submission, number: int) -> Iterator[str]:
    """What is wrong with the verdicts of one judge, whose claims are in the manifest."""
    block = submission.manifest["judge"]
    judge = block["judges"][number]
    verdicts = [v for s in submission.samples for v in s["verdicts"] if v["judge"] == number]
    answered = Counter(verdict["model"] for verdict in verdicts if verdict["scores"])
    if set(answered) - {judge["returned"]}:
        named = ", ".join(f"{model or 'nobody'} {count}" for model, count in answered.most_common())
        yield f"more than one judge model answered as {judge['returned']} ({printable(named)})"
    longest = max((verdict["completion_tokens"] or 0 for verdict in verdicts), default=0)
    if longest > judge["max_tokens"]:
        yield (
            f"{judge['returned']} wrote a reply of {longest} tokens, but it was asked with "
            f"max_tokens {judge['max_tokens']}"
        )
    # otherwise a submitter could keep only the best verdict on each response
    scored, asked = answered.total(), block["repeats"] * len(submission.prompts)
    if answered and scored < MIN_COVERAGE * asked and block["repeats"] > 1:
        yield (
            f"{scored} of {asked} verdicts have scores, but {MIN_COVERAGE:.0%} are required: run "
            "`longwriter score` on the run to get the rest"
        )


def _list(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MAX_LISTED} more" if len(ids) > _MAX_LISTED else ""
    return printable(", ".join(ids[:_MAX_LISTED])) + more
