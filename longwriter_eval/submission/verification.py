"""Recomputing what a submission claims from its responses and the judge's replies.

What this shows: the scores follow from the evidence, and the evidence keeps the benchmark's rules.
What it cannot show: that the model wrote the responses. Whether the judge said what it is said to
have said, `rejudging` can test.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longwriter_core import benchmarks, files
from longwriter_core.text.printable import printable
from longwriter_eval.judge.prompt import BUILT_IN, JudgePrompt
from longwriter_eval.judge.settings import MAX_TOKENS, TEMPERATURE
from longwriter_eval.judge.verdict import read_verdict
from longwriter_eval.scoring import Score, score_samples
from longwriter_eval.stats.score_table import TableRow, score_table
from longwriter_eval.stats.thresholds import MIN_COVERAGE
from longwriter_eval.submission.claims import bounds_tolerance, is_same, sample_scores, table_claims
from longwriter_eval.submission.contents import Submission

# Benchmark -> the version of its tasks whose scores this package computes.
VERSIONS = {"longbench_write": 1.0, "longwrite_demo": 1.0}
_BUCKETS = ("0000_0500", "0500_2000", "2000_4000", "4000_20000")
TASKS = {
    "longbench_write": {f"longbench_write_{name}" for name in (*_BUCKETS, "en", "zh")},
    "longwrite_demo": {"longwrite_demo"},
}
_DATE = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8})")
_NAMED = 5  # ids that a reason lists


@dataclass(frozen=True)
class Difference:
    """A claim that the evidence does not bear out."""

    where: str  # a sample's id, or a row of the table
    what: str
    claimed: Any
    found: Any

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.what}: claimed {_short(self.claimed)}, found {_short(self.found)}"
        )


@dataclass(frozen=True)
class Verification:
    """What came of recomputing a submission; the scores are ours, not the claimed ones."""

    submission: Submission
    violations: Sequence[str]  # rules of the benchmark that it breaks
    differences: Sequence[Difference]
    scores: Sequence[Score]
    rows: Sequence[TableRow]

    @property
    def problems(self) -> list[str]:
        """Every reason not to believe it, a line each."""
        return [*self.violations, *map(str, self.differences)]


def verify(submission: Submission) -> Verification:
    """Recompute `submission`. Raises InputError only where the benchmark's files cannot be had."""
    known = {sample["id"]: sample for sample in submission.samples}
    known = {id: known[id] for id in known if id in submission.prompts}
    scores = score_samples([submission.logged(sample) for sample in known.values()])
    rows = score_table(scores)
    differences = [
        *(
            difference
            for score in scores
            for difference in _of_sample(submission, known[score.sample.id], score)
        ),
        *_of_table(submission.manifest["scores"], table_claims(rows)),
    ]
    return Verification(submission, violations(submission), differences, scores, rows)


def violations(submission: Submission) -> list[str]:
    """The rules that a submission breaks whatever its scores are, a sentence each."""
    return [*_of_benchmark(submission), *_of_prompts(submission), *_of_judging(submission)]


def answers_to(requested: str, returned: str) -> bool:
    """Whether the model that answered is the one that was asked for, or its dated version.

    OpenAI answers a call of gpt-4.1 as gpt-4.1-2025-04-14.
    """
    if returned == requested:
        return True
    return returned.startswith(requested) and bool(_DATE.fullmatch(returned[len(requested) :]))


def judge_prompt(manifest: Mapping[str, Any]) -> JudgePrompt | None:
    """The judge's prompt, or None where it is not one of ours."""
    name = manifest["judge"]["prompt"]
    return JudgePrompt.load(name) if name in BUILT_IN else None


def _of_benchmark(submission: Submission) -> Iterator[str]:
    manifest = submission.manifest
    benchmark = manifest["benchmark"]
    if manifest["task_version"] != VERSIONS[benchmark]:
        yield (
            f"it was made with version {manifest['task_version']:g} of {benchmark}, and this "
            f"longwriter verifies version {VERSIONS[benchmark]:g}"
        )
    if manifest["data_sha256"] != benchmarks.data_sha256(benchmark):
        yield f"its data are not {benchmark}'s (another SHA-256)"
    if examples := manifest["generation"]["num_fewshot"]:
        yield f"the model was shown {examples} examples, and the benchmark has none"
    if other := sorted(set(manifest["tasks"]) - TASKS[benchmark]):
        yield f"{_list(other)} are not judged tasks of {benchmark}"
    used = {sample["task"] for sample in submission.samples}
    if used != set(manifest["tasks"]):
        yield "its samples come from other tasks than the manifest names"


def _of_prompts(submission: Submission) -> Iterator[str]:
    prompts, samples = submission.prompts, submission.samples
    counted = Counter(sample["id"] for sample in samples)
    if missing := sorted(set(prompts) - set(counted)):
        yield (
            f"it is partial: {len(prompts) - len(missing)} of {len(prompts)} prompts have a "
            f"response (missing: {_list(missing)})"
        )
    if extra := sorted(set(counted) - set(prompts)):
        yield f"the benchmark has no {_list(extra)}"
    if twice := sorted(id for id, number in counted.items() if number > 1):
        yield f"more than one response to {_list(twice)}"
    if wrong := sorted(
        sample["id"]
        for sample in samples
        if sample["id"] in prompts
        and sample["prompt_sha256"] != files.sha256(prompts[sample["id"]]["prompt"])
    ):
        yield f"another prompt than the benchmark's in {_list(wrong)}"


def _of_judging(submission: Submission) -> Iterator[str]:
    judge, samples = submission.manifest["judge"], submission.samples
    prompt = judge_prompt(submission.manifest)
    if prompt is None:
        yield (
            f"the judge's prompt {judge['prompt']!r} is none of {', '.join(BUILT_IN)}: judge it "
            "by `longwriter score RUN --judge-prompt official`"
        )
    elif prompt.sha256 != judge["prompt_sha256"]:
        yield f"its judge's prompt is not the {judge['prompt']} one (another SHA-256)"
    if (judge["temperature"], judge["max_tokens"]) != (TEMPERATURE, MAX_TOKENS):
        yield (
            f"the judge was asked at temperature {judge['temperature']:g} for "
            f"{judge['max_tokens']} tokens; the protocol has {TEMPERATURE} and {MAX_TOKENS}"
        )
    if not answers_to(judge["requested"], judge["returned"]):
        yield (
            f"{judge['requested']} was asked to judge, and {judge['returned']} answered: judge it "
            "by an endpoint that serves what it is asked for"
        )
    verdicts = [verdict for sample in samples for verdict in sample["verdicts"]]
    answered = Counter(verdict["model"] for verdict in verdicts if verdict["scores"])
    if set(answered) - {judge["returned"]}:
        named = ", ".join(
            f"{model or 'nobody'} {number}" for model, number in answered.most_common()
        )
        yield f"not one judge but several answered ({printable(named)})"
    wanted = list(range(judge["repeats"]))
    if wrong := sorted(
        sample["id"]
        for sample in samples
        if sorted(verdict["repeat"] for verdict in sample["verdicts"]) != wanted
    ):
        yield f"there should be {judge['repeats']} verdicts on each response: not on {_list(wrong)}"
    judged = sum(any(verdict["scores"] for verdict in s["verdicts"]) for s in samples)
    if judged < MIN_COVERAGE * len(submission.prompts):
        yield (
            f"{judged} of {len(submission.prompts)} responses are judged, and {MIN_COVERAGE:.0%} "
            "must be: `longwriter score` on the run asks for the rest"
        )
    # else a submitter could keep, of the repeats on a response, the kindest alone
    scored, asked = answered.total(), judge["repeats"] * len(submission.prompts)
    if judged and scored < MIN_COVERAGE * asked and judge["repeats"] > 1:
        yield (
            f"{scored} of {asked} verdicts have scores, and {MIN_COVERAGE:.0%} must: `longwriter "
            "score` on the run asks for the rest"
        )


def _of_sample(
    submission: Submission, sample: Mapping[str, Any], score: Score
) -> Iterator[Difference]:
    def differs(what: str, claimed: Any, found: Any) -> Iterator[Difference]:
        if claimed != found:
            yield Difference(sample["id"], what, claimed, found)

    yield from differs(
        "SHA-256 of the response", sample["response_sha256"], files.sha256(score.text)
    )
    yield from differs("words", sample["words"], score.words)
    yield from differs("cut_off", sample["cut_off"], bool(score.diagnostics.cut_off))
    prompt = judge_prompt(submission.manifest)
    if prompt:
        text, defused = prompt.render(score.sample.prompt, score.text)
        asked = files.sha256(text)
    for verdict in sample["verdicts"]:
        which = f"verdict {verdict['repeat']}"
        if prompt:
            yield from differs(f"what {which} was asked about", verdict["asked_sha256"], asked)
            yield from differs(f"{which}, defused", verdict["defused"], defused)
        # the judge's reply may look like a verdict and be cut off: then it has no scores
        is_cut = verdict["scores"] is None and _reached(verdict, submission.manifest["judge"])
        read = None if is_cut else read_verdict(verdict["raw"])
        yield from differs(f"scores of {which}, read from its reply", verdict["scores"], read)
        yield from differs(f"{which} has no reason", bool(verdict["reason"]), read is None)
    found = sample_scores(score)
    yield from differs("metrics", sorted(sample["scores"]), sorted(found))
    for metric, value in found.items():
        if metric in sample["scores"] and not is_same(sample["scores"][metric], value):
            yield Difference(sample["id"], metric, sample["scores"][metric], value)


def _reached(verdict: Mapping[str, Any], judge: Mapping[str, Any]) -> bool:
    tokens = verdict["completion_tokens"]
    return tokens is not None and tokens >= judge["max_tokens"]


def _of_table(
    claimed: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> Iterator[Difference]:
    ours = {(row["kind"], row["name"]): row for row in found}
    theirs = {(row["kind"], row["name"]): row for row in claimed}
    if sorted(ours) != sorted((row["kind"], row["name"]) for row in claimed):
        yield Difference("scores", "rows", [row["name"] for row in claimed], [n for _, n in ours])
    for key, mine in ours.items():
        if key in theirs:
            yield from _of_row(f"scores of {key[1]}", theirs[key], mine)


def _of_row(
    where: str, claimed: Mapping[str, Any], found: Mapping[str, Any]
) -> Iterator[Difference]:
    if claimed["n"] != found["n"]:
        yield Difference(where, "n", claimed["n"], found["n"])
    if not is_same(claimed["coverage"], found["coverage"]):
        yield Difference(where, "coverage", claimed["coverage"], found["coverage"])
    if sorted(claimed["metrics"]) != sorted(found["metrics"]):
        yield Difference(where, "metrics", sorted(claimed["metrics"]), sorted(found["metrics"]))
    for metric, interval in found["metrics"].items():
        for name, value in interval.items() if metric in claimed["metrics"] else ():
            said = claimed["metrics"][metric][name]
            tolerance = bounds_tolerance(interval) if name in ("low", "high") else 1e-6
            if not is_same(said, value, tolerance):
                yield Difference(where, f"{metric}, {name}", said, value)


def _list(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return printable(", ".join(ids[:_NAMED])) + more


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = printable(value, 80)
    return f"{text[:12]}…" if len(text) == 64 and text.isalnum() else text
