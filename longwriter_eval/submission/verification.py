"""Recomputing the claims of a submission from its responses and the judge's replies.

Verification shows that the scores follow from the evidence, and that the evidence follows the
benchmark's rules. It cannot show that the model wrote the responses. Whether the judge gave these
replies can be tested by `rejudging`.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from longwriter_core import benchmarks, files
from longwriter_core.text.printable import printable
from longwriter_eval.judge.prompt import BUILT_IN, JudgePrompt
from longwriter_eval.judge.settings import MAX_TOKENS, TEMPERATURE
from longwriter_eval.judge.verdict import DIMENSIONS, read_by_version
from longwriter_eval.judge.version_1_0 import is_cut_off as is_cut_off_1_0
from longwriter_eval.scoring import Score, score_samples, value
from longwriter_eval.stats.score_table import TableRow, score_table
from longwriter_eval.stats.thresholds import MIN_COVERAGE
from longwriter_eval.submission.archive import Submission, read
from longwriter_eval.submission.limits import limited
from longwriter_eval.submission.names import name_problem
from longwriter_eval.version import TASK_VERSION

# Benchmark -> the task versions that this version of longwriter verifies, the newest first.
VERSIONS = {"longbench_write": (TASK_VERSION, 1.0), "longwrite_demo": (TASK_VERSION, 1.0)}
_BUCKETS = ("0000_0500", "0500_2000", "2000_4000", "4000_20000")
TASKS = {
    "longbench_write": {f"longbench_write_{name}" for name in (*_BUCKETS, "en", "zh")},
    "longwrite_demo": {"longwrite_demo"},
}
_DATE = re.compile(r"-(\d{4}-\d\d-\d\d|\d{8})")
_MAX_LISTED = 5  # ids in a message
# One text may answer at most this share of the prompts, such as the same refusal.
MAX_SAME_RESPONSE = 0.2
# The metrics that a submission claims. Diagnostics can be computed from its responses.
_METRICS = (
    "overall_score",
    "length_score",
    "quality_score",
    *(f"quality_{name}" for name in DIMENSIONS),
    "output_words",
)
_ROW_KINDS = ("all", "bucket", "language")


@dataclass(frozen=True)
class Discrepancy:
    """A claim that the evidence contradicts."""

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
    """The result of recomputing a submission. `scores` and `rows` are recomputed, not claimed."""

    submission: Submission
    violations: Sequence[str]  # of the benchmark's rules
    differences: Sequence[Discrepancy]
    scores: Sequence[Score]
    rows: Sequence[TableRow]

    @property
    def problems(self) -> list[str]:
        """Every reason to reject the submission, one line each."""
        return [*self.violations, *map(str, self.differences)]


def verify_file(path: Path) -> Verification:
    """Read and recompute a submission from others, with a limit on the time and memory it takes.

    Raises InputError with the reason if the file is refused.
    """
    with limited(path):
        return verify(read(path))


def verify(submission: Submission) -> Verification:
    """Recompute `submission`. Raises InputError only if the benchmark's files are missing."""
    known = {sample["id"]: sample for sample in submission.samples}
    known = {id: known[id] for id in known if id in submission.prompts}
    scores = score_samples([submission.logged(sample) for sample in known.values()])
    rows = score_table(scores)
    differences = [
        *(
            difference
            for score in scores
            for difference in _sample_discrepancies(submission, known[score.sample.id], score)
        ),
        *_table_discrepancies(submission.manifest["scores"], table_claims(rows)),
    ]
    return Verification(submission, violations(submission), differences, scores, rows)


def violations(submission: Submission) -> list[str]:
    """Violations of the benchmark's rules, independent of the scores, one line each."""
    return [
        *_name_violations(submission.manifest),
        *_benchmark_violations(submission),
        *_prompt_violations(submission),
        *_judging_violations(submission),
    ]


def answers_to(requested: str, returned: str) -> bool:
    """Whether the model that answered is the requested one, or its dated version.

    OpenAI, for example, reports gpt-4.1-2025-04-14 for a call to gpt-4.1.
    """
    if returned == requested:
        return True
    return returned.startswith(requested) and bool(_DATE.fullmatch(returned[len(requested) :]))


def judge_prompt(manifest: Mapping[str, Any]) -> JudgePrompt | None:
    """The judge prompt, or None if it is not built in."""
    name = manifest["judge"]["prompt"]
    return JudgePrompt.load(name) if name in BUILT_IN else None


def _name_violations(manifest: Mapping[str, Any]) -> Iterator[str]:
    names = {
        "the model's name": manifest["model"]["id"]["value"],
        "the name that the model was served as": manifest["model"]["served_as"],
        "the submitter's name": manifest["submitter"],
        "the judge's name": manifest["judge"]["returned"],
    }
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
        yield f"{_list(other)} are not judged tasks of {benchmark}"
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


def _judging_violations(submission: Submission) -> Iterator[str]:
    judge, samples = submission.manifest["judge"], submission.samples
    prompt = judge_prompt(submission.manifest)
    if prompt is None:
        yield (
            f"the judge prompt {judge['prompt']!r} is not one of {', '.join(BUILT_IN)}: judge the "
            "run with `longwriter score RUN --judge-prompt official`"
        )
    elif prompt.sha256 != judge["prompt_sha256"]:
        yield f"its judge prompt is not the {judge['prompt']} prompt (different SHA-256)"
    if (judge["temperature"], judge["max_tokens"]) != (TEMPERATURE, MAX_TOKENS):
        yield (
            f"the judge ran with temperature {judge['temperature']} and "
            f"{judge['max_tokens']} tokens; the protocol requires {TEMPERATURE} and {MAX_TOKENS}"
        )
    if not answers_to(judge["requested"], judge["returned"]):
        yield (
            f"{judge['requested']} was requested as judge, but {judge['returned']} answered: use "
            "an endpoint that serves the requested model"
        )
    verdicts = [verdict for sample in samples for verdict in sample["verdicts"]]
    answered = Counter(verdict["model"] for verdict in verdicts if verdict["scores"])
    if set(answered) - {judge["returned"]}:
        named = ", ".join(
            f"{model or 'nobody'} {number}" for model, number in answered.most_common()
        )
        yield f"more than one judge model answered ({printable(named)})"
    wanted = list(range(judge["repeats"]))
    if wrong := sorted(
        sample["id"]
        for sample in samples
        if sorted(verdict["repeat"] for verdict in sample["verdicts"]) != wanted
    ):
        yield f"each response needs {judge['repeats']} verdicts; wrong for {_list(wrong)}"
    judged = sum(any(verdict["scores"] for verdict in s["verdicts"]) for s in samples)
    if judged < MIN_COVERAGE * len(submission.prompts):
        yield (
            f"{judged} of {len(submission.prompts)} responses are judged, but {MIN_COVERAGE:.0%} "
            "are required: run `longwriter score` on the run to judge the rest"
        )
    # otherwise a submitter could keep only the best verdict on each response
    scored, asked = answered.total(), judge["repeats"] * len(submission.prompts)
    if judged and scored < MIN_COVERAGE * asked and judge["repeats"] > 1:
        yield (
            f"{scored} of {asked} verdicts have scores, but {MIN_COVERAGE:.0%} are required: run "
            "`longwriter score` on the run to get the rest"
        )


def _sample_discrepancies(
    submission: Submission, sample: Mapping[str, Any], score: Score
) -> Iterator[Discrepancy]:
    def differs(what: str, claimed: Any, found: Any) -> Iterator[Discrepancy]:
        if claimed != found:
            yield Discrepancy(sample["id"], what, claimed, found)

    yield from differs(
        "SHA-256 of the response", sample["response_sha256"], files.sha256(score.text)
    )
    yield from differs("words", sample["words"], score.words)
    version = submission.manifest["task_version"]
    is_cut_off = is_cut_off_1_0(score.text) if version < 1.1 else score.diagnostics.cut_off
    # the backend's token limit, which only the run knows, also counts as cut off
    yield from differs("cut_off", sample["cut_off"], sample["cut_off"] or bool(is_cut_off))
    prompt = judge_prompt(submission.manifest)
    if prompt:
        text, is_escaped = prompt.render(score.sample.prompt, score.text)
        asked = files.sha256(text)
    for verdict in sample["verdicts"]:
        which = f"verdict {verdict['repeat']}"
        if prompt:
            yield from differs(f"prompt of {which}", verdict["asked_sha256"], asked)
            yield from differs(f"{which}, escaped", verdict["defused"], is_escaped)
        # a reply that was cut off has no scores, even if it looks like a complete verdict
        is_cut = verdict["scores"] is None and _reached_limit(verdict, submission.manifest["judge"])
        read = None if is_cut else read_by_version(verdict["raw"], score.text, version)
        yield from differs(f"scores of {which}, parsed from its reply", verdict["scores"], read)
        yield from differs(f"{which} has no reason", bool(verdict["reason"]), read is None)
    recomputed = sample_scores(score)
    yield from differs("metrics", sorted(sample["scores"]), sorted(recomputed))
    for metric, number in recomputed.items():
        if metric in sample["scores"] and not _is_equal(sample["scores"][metric], number):
            yield Discrepancy(sample["id"], metric, sample["scores"][metric], number)


def _reached_limit(verdict: Mapping[str, Any], judge: Mapping[str, Any]) -> bool:
    tokens = verdict["completion_tokens"]
    return tokens is not None and tokens >= judge["max_tokens"]


def _table_discrepancies(
    claimed: Sequence[Mapping[str, Any]], recomputed: Sequence[Mapping[str, Any]]
) -> Iterator[Discrepancy]:
    found_rows = {(row["kind"], row["name"]): row for row in recomputed}
    claimed_rows = {(row["kind"], row["name"]): row for row in claimed}
    if sorted(found_rows) != sorted((row["kind"], row["name"]) for row in claimed):
        names = [[row["name"] for row in rows] for rows in (claimed, recomputed)]
        yield Discrepancy("scores", "rows", *names)
    for key, row in found_rows.items():
        if key in claimed_rows:
            yield from _row_discrepancies(f"scores of {key[1]}", claimed_rows[key], row)


def _row_discrepancies(
    where: str, claimed: Mapping[str, Any], recomputed: Mapping[str, Any]
) -> Iterator[Discrepancy]:
    if claimed["n"] != recomputed["n"]:
        yield Discrepancy(where, "n", claimed["n"], recomputed["n"])
    if not _is_equal(claimed["coverage"], recomputed["coverage"]):
        yield Discrepancy(where, "coverage", claimed["coverage"], recomputed["coverage"])
    if sorted(claimed["metrics"]) != sorted(recomputed["metrics"]):
        yield Discrepancy(
            where, "metrics", sorted(claimed["metrics"]), sorted(recomputed["metrics"])
        )
    for metric, interval in recomputed["metrics"].items():
        for name, number in interval.items() if metric in claimed["metrics"] else ():
            claim = claimed["metrics"][metric][name]
            tolerance = _bound_tolerance(interval) if name in ("low", "high") else 1e-6
            if not _is_equal(claim, number, tolerance):
                yield Discrepancy(where, f"{metric}, {name}", claim, number)


def _list(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MAX_LISTED} more" if len(ids) > _MAX_LISTED else ""
    return printable(", ".join(ids[:_MAX_LISTED])) + more


def _short(claim: Any) -> str:
    if isinstance(claim, float):
        return f"{claim:.6g}"
    text = printable(claim, 80)
    return f"{text[:12]}…" if len(text) == 64 and text.isalnum() else text


def sample_scores(score: Score) -> dict[str, float | None]:
    """Metric -> value of one response; None for no value."""
    return {metric: _known(value(score, metric)) for metric in _METRICS}


def table_claims(
    rows: Sequence[TableRow], kinds: Sequence[str] = _ROW_KINDS
) -> list[dict[str, Any]]:
    """The rows of `score_table` of these kinds, in the form of the manifest."""
    return [
        {
            "kind": row.kind,
            "name": row.name,
            "n": row.n,
            "coverage": _known(row.coverage),
            "metrics": {
                metric: {
                    "mean": _known(interval.mean),
                    "low": _known(interval.low),
                    "high": _known(interval.high),
                    "n": interval.n,
                }
                for metric, interval in row.metrics.items()
                if metric in _METRICS
            },
        }
        for row in rows
        if row.kind in kinds
    ]


def _is_equal(claimed: float | None, recomputed: float | None, tolerance: float = 1e-6) -> bool:
    """Whether two values agree; None, for no value, equals only None."""
    if claimed is None or recomputed is None:
        return claimed is recomputed
    return math.isclose(claimed, recomputed, rel_tol=1e-9, abs_tol=tolerance)


def _bound_tolerance(interval: Mapping[str, Any]) -> float:
    """Tolerance for the bounds of an interval: bootstrap draws differ between scipy versions."""
    low, high = interval["low"], interval["high"]
    return 1e-6 if low is None or high is None else 1e-6 + 0.05 * (high - low)


def _known(number: float) -> float | None:
    return None if math.isnan(number) else float(number)
