"""Whether judges agree: Krippendorff's alpha over verdicts on the same responses."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import krippendorff
import numpy as np

from longwriter_eval.judge.verdict import DIMENSIONS, Scores
from longwriter_eval.runs import Run
from longwriter_eval.scoring import score_samples
from longwriter_eval.stats.intervals import Interval, bootstrap

_GRADES = (1, 2, 3, 4, 5)

_FEWEST = 10  # responses that an interval takes: fewer say nothing
_RESAMPLES = 1000  # a third of a millisecond each


@dataclass(frozen=True)
class Agreement:
    """Alpha per dimension: 1 is full agreement, 0 what chance would give, below 0 worse than that.

    `raters` names judges, or one judge with its repeats; `responses` have at least two verdicts.
    """

    raters: str
    responses: int
    alphas: Mapping[str, Interval]

    def lines(self) -> list[str]:
        """As text, for a terminal."""
        head = f"agreement of {self.raters} over {self.responses} responses"
        return [f"{head} (Krippendorff's alpha, ordinal; 95% interval):"] + [
            f"  {dimension:<20}" + _text(alpha) for dimension, alpha in self.alphas.items()
        ]


def agreement(runs: Iterable[Run]) -> list[Agreement]:
    """How far the repeats of each judge agree, and how far the judges do with each other.

    `runs` are results of the same responses, the newest first: samples.load_runs(folder). Verdicts
    on other responses do not meet. Between judges, the first verdict of each counts. Nothing is
    returned where there is one verdict per response.
    """
    verdicts: dict[str, dict[str, dict[int, Scores]]] = {}  # judge -> response -> repeat -> scores
    for judge, response, repeat, scores in _verdicts(runs):
        verdicts.setdefault(judge, {}).setdefault(response, {}).setdefault(repeat, scores)
    found = []
    for judge, responses in verdicts.items():
        repeats = max(map(len, responses.values()))
        if repeats > 1:
            units = [list(given.values()) for given in responses.values()]
            found.append(_agreement(f"{repeats} repeats of {judge}", units))
    if len(verdicts) > 1:
        together: dict[str, list[Scores]] = {}
        for responses in verdicts.values():
            for response, given in responses.items():
                together.setdefault(response, []).append(given[min(given)])
        found.append(_agreement(" and ".join(verdicts), list(together.values())))
    return [each for each in found if each.responses]


def alpha(units: Sequence[Sequence[int]]) -> float:
    """Krippendorff's ordinal alpha of grades from 1 to 5, as many per unit as there are.

    NaN where no unit has two, or where all grades are the same, so that chance has no meaning.
    """
    return _alpha(_counts(units))


def _verdicts(runs: Iterable[Run]) -> Iterator[tuple[str, str, int, Scores]]:
    """Judge, response, repeat and scores of every verdict that has scores."""
    runs = list(runs)
    prompts = {_judge(run, task)[1] for run in runs for task in _judged(run)}
    for run in runs:
        for score in score_samples(run.samples):
            if not score.judgement:
                continue
            model, prompt = _judge(run, score.sample.task)
            judge = model if len(prompts) == 1 else f"{model} (prompt {prompt})"
            for verdict in score.judgement.verdicts:
                if verdict.scores:
                    response = f"{score.sample.id} {score.judgement.response_sha256}"
                    yield judge, response, verdict.repeat, verdict.scores


def _judged(run: Run) -> set[str]:
    return {sample.task for sample in run.samples if sample.judgement}


def _judge(run: Run, task: str) -> tuple[str, str]:
    record = run.record(task)
    return record["judge"]["model"], record["judge_prompt_sha256"][:8]


def _agreement(raters: str, units: Sequence[Sequence[Scores]]) -> Agreement:
    units = [unit for unit in units if len(unit) > 1]
    return Agreement(
        raters,
        len(units),
        {
            dimension: _interval(_counts([[given[dimension] for given in unit] for unit in units]))
            for dimension in DIMENSIONS
        },
    )


def _counts(units: Iterable[Sequence[int]]) -> np.ndarray:
    """How often each grade was given to each unit, of shape (units, 5)."""
    counted = (Counter(unit) for unit in units)
    counts = [[counter[grade] for grade in _GRADES] for counter in counted]
    return np.array(counts, dtype=int).reshape(-1, len(_GRADES))


def _alpha(counts: np.ndarray) -> float:
    pairable = counts[counts.sum(axis=1) > 1]
    if np.count_nonzero(pairable.sum(axis=0)) < 2:
        return math.nan
    return float(krippendorff.alpha(value_counts=pairable, level_of_measurement="ordinal"))


def _interval(counts: np.ndarray) -> Interval:
    """Bootstrap over responses."""
    estimate, n = _alpha(counts), len(counts)
    low = high = math.nan
    if n >= _FEWEST and not math.isnan(estimate):
        low, high = bootstrap(
            np.arange(n), lambda chosen: _alpha(counts[chosen]), resamples=_RESAMPLES
        )
    return Interval(estimate, low, high, n)


def _text(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return "all grades are the same"
    limits = f" [{interval.low:.2f}, {interval.high:.2f}]" if not math.isnan(interval.low) else ""
    return f"{interval.mean:5.2f}{limits}"
