"""Recomputing the claims of a submission from its responses and the judge's replies.

Verification shows that the scores follow from the evidence, and that the evidence follows the
benchmark's rules. It cannot show that the model wrote the responses. Whether the judge gave these
replies can be tested by `rejudging`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longwriter_core import files
from longwriter_core.text.printable import printable
from longwriter_eval.judge.verdict import DIMENSIONS, read_by_version
from longwriter_eval.judge.version_1_0 import is_cut_off as is_cut_off_1_0
from longwriter_eval.scoring import Score, is_ruler, score_samples, value
from longwriter_eval.stats.score_table import TableRow, score_table
from longwriter_eval.submission.archive import read
from longwriter_eval.submission.contents import Submission
from longwriter_eval.submission.limits import limited
from longwriter_eval.submission.rules import RULER, judge_prompt, violations

# The metrics that a submission claims. Diagnostics can be computed from its responses.
_LENGTH_METRICS = ("length_score", "output_words")
_JUDGED_METRICS = (
    "overall_score",
    "quality_score",
    *(f"quality_{name}" for name in DIMENSIONS),
    *_LENGTH_METRICS,
)
_RULER_METRICS = (*_LENGTH_METRICS, "max_output_words")  # the last one in the table only
_ROW_KINDS = ("all", "bucket", "language")

# Tolerances of an interval's bounds, as shares of its width: with and without random draws.
DRAWN_TOLERANCE, EXACT_TOLERANCE = 0.5, 0.001


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
        *_table_discrepancies(
            submission.manifest["scores"], table_claims(rows), submission.manifest["task_version"]
        ),
    ]
    return Verification(submission, violations(submission), differences, scores, rows)


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
    prompt, judge = judge_prompt(submission.manifest), submission.manifest["judge"]
    if prompt:
        text, is_escaped = prompt.render(score.sample.prompt, score.text)
        asked = files.sha256(text)
    for verdict in sample["verdicts"]:
        by = f" of judge {verdict['judge']}" if len(judge["judges"]) > 1 else ""
        which = f"verdict {verdict['repeat']}{by}"
        if prompt:
            yield from differs(f"prompt of {which}", verdict["asked_sha256"], asked)
            yield from differs(f"{which}, escaped", verdict["defused"], is_escaped)
        # a reply that was cut off has no scores, even if it looks like a complete verdict
        is_cut = verdict["scores"] is None and _reached_limit(
            verdict, judge["judges"][verdict["judge"]]
        )
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
    claimed: Sequence[Mapping[str, Any]],
    recomputed: Sequence[Mapping[str, Any]],
    version: float,
) -> Iterator[Discrepancy]:
    found_rows = {(row["kind"], row["name"]): row for row in recomputed}
    claimed_rows = {(row["kind"], row["name"]): row for row in claimed}
    if sorted(found_rows) != sorted((row["kind"], row["name"]) for row in claimed):
        names = [[row["name"] for row in rows] for rows in (claimed, recomputed)]
        yield Discrepancy("scores", "rows", *names)
    for key, row in found_rows.items():
        if key in claimed_rows:
            yield from _row_discrepancies(f"scores of {key[1]}", claimed_rows[key], row, version)


def _row_discrepancies(
    where: str, claimed: Mapping[str, Any], recomputed: Mapping[str, Any], version: float
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
            is_bound = name in ("low", "high")
            tolerance = _bound_tolerance(metric, interval, version) if is_bound else 1e-6
            if not _is_equal(claim, number, tolerance):
                yield Discrepancy(where, f"{metric}, {name}", claim, number)


def _short(claim: Any) -> str:
    if isinstance(claim, float):
        return f"{claim:.6g}"
    text = printable(claim, 80)
    return f"{text[:12]}…" if len(text) == 64 and text.isalnum() else text


def sample_scores(score: Score) -> dict[str, float | None]:
    """Metric -> value of one response; None for no value."""
    metrics = _LENGTH_METRICS if is_ruler(score.sample) else _JUDGED_METRICS
    return {metric: _known(value(score, metric)) for metric in metrics}


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
                if metric in (_RULER_METRICS if row.benchmark == RULER else _JUDGED_METRICS)
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


def _bound_tolerance(metric: str, interval: Mapping[str, Any], version: float) -> float:
    """Tolerance for the bounds of an interval that another numpy or scipy computed.

    Intervals of words, and in version 1.0 of scores, are bootstrap intervals: other draws move a
    bound by up to a third of the width, where a few texts are far longer than the rest. The others
    are computed without draws, and differ by rounding only.
    """
    low, high = interval["low"], interval["high"]
    if low is None or high is None:
        return 1e-6
    is_drawn = version < 1.1 or metric.endswith("output_words")
    return float(1e-6 + (high - low) * (DRAWN_TOLERANCE if is_drawn else EXACT_TOLERANCE))


def _known(number: float) -> float | None:
    return None if math.isnan(number) else float(number)
