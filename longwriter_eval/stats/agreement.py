"""Agreement between judges, or between the repeats of one judge: Krippendorff's alpha."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import krippendorff
import numpy as np

from longwriter_eval.judge.settings import judge_label
from longwriter_eval.judge.verdict import DIMENSIONS, Scores
from longwriter_eval.runs import Run
from longwriter_eval.scoring import score_samples
from longwriter_eval.stats.inference import Interval, bootstrap_interval
from longwriter_eval.stats.thresholds import AGREEMENT_RESAMPLES, MIN_AGREEMENT_RESPONSES

_GRADES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Agreement:
    """Alpha per dimension: 1 is full agreement, 0 chance level, negative is below chance.

    `raters` names the judges, or one judge and its number of repeats. `responses` counts those
    with at least two verdicts.
    """

    raters: str
    responses: int
    alphas: Mapping[str, Interval]

    def lines(self) -> list[str]:
        """The agreement as text for a terminal."""
        title = f"agreement of {self.raters} over {self.responses} responses"
        return [f"{title} (Krippendorff's alpha, ordinal; 95% interval):"] + [
            f"  {dimension:<20}" + _interval_text(alpha) for dimension, alpha in self.alphas.items()
        ]


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
        agreements.append(_agreement(" and ".join(by_judge), list(by_response.values())))
    return [agreement for agreement in agreements if agreement.responses]


def alpha(units: Sequence[Sequence[int]]) -> float:
    """Krippendorff's ordinal alpha (Krippendorff, 2011) of grades 1 to 5, a sequence per response.

    NaN if no response has two grades, or if all grades are equal, which leaves chance undefined.
    """
    return _alpha(_grade_counts(units))


def _verdicts(runs: Iterable[Run]) -> Iterator[tuple[str, str, int, Scores]]:
    """Judge, response, repeat and scores of every verdict that has scores."""
    runs = list(runs)
    prompts = {
        _judge_and_prompt(run, sample.task)[1]
        for run in runs
        for sample in run.samples
        if sample.judgement
    }
    for run in runs:
        for score in score_samples(run.samples):
            if not score.judgement:
                continue
            model, prompt = _judge_and_prompt(run, score.sample.task)
            judge = model if len(prompts) == 1 else f"{model} (prompt {prompt})"
            for verdict in score.judgement.verdicts:
                if verdict.scores:
                    response = f"{score.sample.id} {score.judgement.response_sha256}"
                    yield judge, response, verdict.repeat, verdict.scores


def _judge_and_prompt(run: Run, task: str) -> tuple[str, str]:
    record = run.record(task)
    return judge_label(record["judge"]), record["judge_prompt_sha256"][:8]


def _agreement(raters: str, units: Sequence[Sequence[Scores]]) -> Agreement:
    units = [unit for unit in units if len(unit) > 1]
    alphas = {
        dimension: _alpha_interval(
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


def _alpha(counts: np.ndarray) -> float:
    pairable = counts[counts.sum(axis=1) > 1]
    if np.count_nonzero(pairable.sum(axis=0)) < 2:
        return math.nan
    return float(krippendorff.alpha(value_counts=pairable, level_of_measurement="ordinal"))


def _alpha_interval(counts: np.ndarray) -> Interval:
    """Alpha with its bootstrap interval over responses."""
    estimate, n = _alpha(counts), len(counts)
    low = high = math.nan
    if n >= MIN_AGREEMENT_RESPONSES and not math.isnan(estimate):
        low, high = bootstrap_interval(
            np.arange(n), lambda indices: _alpha(counts[indices]), AGREEMENT_RESAMPLES
        )
    return Interval(estimate, low, high, n)


def _interval_text(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return "all grades are equal"
    limits = f" [{interval.low:.2f}, {interval.high:.2f}]" if not math.isnan(interval.low) else ""
    return f"{interval.mean:5.2f}{limits}"
