"""Agreement between judges, or between the repeats of one judge.

Krippendorff's alpha for each dimension; and for each two judges, how far their S_q differ.
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import krippendorff
import numpy as np
import scipy.stats

from longwriter_eval.judge.settings import judge_label
from longwriter_eval.judge.verdict import DIMENSIONS, Judgement, Scores, quality_scores
from longwriter_eval.runs import Run
from longwriter_eval.scoring import score_samples
from longwriter_eval.stats.inference import Interval, bootstrap_interval
from longwriter_eval.stats.thresholds import AGREEMENT_RESAMPLES, MIN_AGREEMENT_RESPONSES

_GRADES = (1, 2, 3, 4, 5)
Level = Literal["ordinal", "nominal"]


@dataclass(frozen=True)
class PairAgreement:
    """S_q of two judges on the same responses.

    `difference` is the mean absolute difference in points, `shift` the mean of b - a, `correlation`
    is Spearman's (None if a judge gives all responses the same score).
    """

    a: str
    b: str
    responses: int
    difference: float
    shift: float
    correlation: float | None

    def __str__(self) -> str:
        rank = "–" if self.correlation is None else f"{self.correlation:.2f}"
        return (
            f"{self.a} and {self.b}: S_q differs by {self.difference:.1f} points on average "
            f"(the second gives {self.shift:+.1f}), rank correlation {rank}, over {self.responses} "
            "responses"
        )


@dataclass(frozen=True)
class Agreement:
    """Alpha per dimension: 1 is full agreement, 0 chance level, negative is below chance.

    `raters` names the judges, or one judge and its number of repeats. `responses` counts those
    with at least two verdicts.
    """

    raters: str
    responses: int
    alphas: Mapping[str, Interval]
    pairs: Sequence[PairAgreement] = ()

    def lines(self) -> list[str]:
        """The agreement as text for a terminal."""
        title = f"agreement of {self.raters} over {self.responses} responses"
        return (
            [f"{title} (Krippendorff's alpha, ordinal; 95% interval):"]
            + [
                f"  {dimension:<20}" + _interval_text(alpha)
                for dimension, alpha in self.alphas.items()
            ]
            + [f"  {pair}" for pair in self.pairs]
        )


def agreement(runs: Iterable[Run]) -> list[Agreement]:
    """Agreement between the repeats of each judge, and between the judges.

    `runs` are results for the same responses, newest first, as from runs.load_runs(folder).
    Verdicts are matched by prompt and response hash. Between judges, each judge's first verdict
    counts. Returns an empty list if no response has two verdicts.
    """
    by_judge: dict[str, dict[str, dict[int, Scores]]] = {}  # judge -> response -> repeat -> scores
    for judge, response, repeat, scores in _verdicts(runs):
        by_judge.setdefault(judge, {}).setdefault(response, {}).setdefault(repeat, scores)
    agreements = []
    for judge, responses in by_judge.items():
        repeats = max(map(len, responses.values()))
        if repeats > 1:
            units = [list(verdicts.values()) for verdicts in responses.values()]
            agreements.append(_agreement(f"{repeats} repeats of {judge}", units))
    if len(by_judge) > 1:
        by_response: dict[str, list[Scores]] = {}
        for responses in by_judge.values():
            for response, verdicts in responses.items():
                by_response.setdefault(response, []).append(verdicts[min(verdicts)])
        pairs = pair_agreements(
            {
                judge: {
                    response: statistics.fmean(
                        quality_scores(scores)["score"] for scores in verdicts.values()
                    )
                    for response, verdicts in responses.items()
                }
                for judge, responses in by_judge.items()
            }
        )
        units = list(by_response.values())
        agreements.append(replace(_agreement(" and ".join(by_judge), units), pairs=pairs))
    return [agreement for agreement in agreements if agreement.responses]


def pair_agreements(by_judge: Mapping[str, Mapping[str, float]]) -> list[PairAgreement]:
    """The agreement of every two judges, from judge -> response -> S_q."""
    found = []
    for a, b in itertools.combinations(by_judge, 2):
        shared = sorted(by_judge[a].keys() & by_judge[b].keys())
        if not shared:
            continue
        x, y = (np.array([by_judge[judge][response] for response in shared]) for judge in (a, b))
        has_ranks = len(shared) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0
        rank = float(scipy.stats.spearmanr(x, y).statistic) if has_ranks else None
        difference, shift = float(np.abs(y - x).mean()), float((y - x).mean())
        found.append(PairAgreement(a, b, len(shared), difference, shift, rank))
    return found


def judge_scores(judgements: Mapping[str, Judgement]) -> dict[str, dict[str, float]]:
    """Of a panel: judge -> response -> S_q. Empty for a single judge."""
    by_judge: dict[str, dict[str, float]] = {}
    for response, judgement in judgements.items():
        for judge, score in judgement.judges.items():
            by_judge.setdefault(judge, {})[response] = score
    return by_judge


def recorded_agreement(judgements: Mapping[str, Judgement]) -> dict[str, Any]:
    """The agreement of a panel's judges, as it stands in the judge's record in the results."""
    pairs = pair_agreements(judge_scores(judgements))
    return {"agreement": [asdict(pair) for pair in pairs]} if pairs else {}


def alpha(units: Sequence[Sequence[int]]) -> float:
    """Krippendorff's ordinal alpha (Krippendorff, 2011) of grades 1 to 5, a sequence per response.

    NaN if no response has two grades, or if all grades are equal, which leaves chance undefined.
    """
    return _alpha(_grade_counts(units))


def _verdicts(runs: Iterable[Run]) -> Iterator[tuple[str, str, int, Scores]]:
    """Judge, response, repeat and scores of every verdict that has scores."""
    runs = list(runs)
    prompts = {
        judge_of(run, sample.task)[1] for run in runs for sample in run.samples if sample.judgement
    }
    for run in runs:
        for score in score_samples(run.samples):
            if not score.judgement:
                continue
            for verdict in score.judgement.verdicts:
                model, prompt = judge_of(run, score.sample.task, verdict.judge)
                judge = model if len(prompts) == 1 else f"{model} (prompt {prompt})"
                if verdict.scores:
                    response = f"{score.sample.id} {score.judgement.response_sha256}"
                    yield judge, response, verdict.repeat, verdict.scores


def judge_of(run: Run, task: str, name: str | None = None) -> tuple[str, str]:
    """The label and prompt of a task's judge; `name` is that of a judge in a panel."""
    record = run.record(task)
    judges = record["judge"].get("judges") or ()
    judge = next((judge for judge in judges if judge["profile"] == name), record["judge"])
    return judge_label(judge), record["judge_prompt_sha256"][:8]


def _agreement(raters: str, units: Sequence[Sequence[Scores]]) -> Agreement:
    units = [unit for unit in units if len(unit) > 1]
    alphas = {
        dimension: alpha_interval(
            _grade_counts([[scores[dimension] for scores in unit] for unit in units])
        )
        for dimension in DIMENSIONS
    }
    return Agreement(raters, len(units), alphas)


def _grade_counts(units: Iterable[Sequence[int]]) -> np.ndarray:
    """How often each response was given each grade; shape (responses, 5)."""
    counters = (Counter(unit) for unit in units)
    counts = [[counter[grade] for grade in _GRADES] for counter in counters]
    return np.array(counts, dtype=int).reshape(-1, len(_GRADES))


def _alpha(counts: np.ndarray, level: Level = "ordinal") -> float:
    pairable = counts[counts.sum(axis=1) > 1]
    if np.count_nonzero(pairable.sum(axis=0)) < 2:
        return math.nan
    return float(krippendorff.alpha(value_counts=pairable, level_of_measurement=level))


def alpha_interval(counts: np.ndarray, level: Level = "ordinal") -> Interval:
    """Krippendorff's alpha with its bootstrap interval over units.

    `counts` is how often each unit was given each value; shape (units, values).
    """
    estimate, n = _alpha(counts, level), len(counts)
    low = high = math.nan
    if n >= MIN_AGREEMENT_RESPONSES and not math.isnan(estimate):
        low, high = bootstrap_interval(
            np.arange(n), lambda indices: _alpha(counts[indices], level), AGREEMENT_RESAMPLES
        )
    return Interval(estimate, low, high, n)


def _interval_text(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return "all grades are equal"
    limits = f" [{interval.low:.2f}, {interval.high:.2f}]" if not math.isnan(interval.low) else ""
    return f"{interval.mean:5.2f}{limits}"
