"""Comparing two runs prompt by prompt: whether they are comparable, and what differs, in words."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from longwriter_core.errors import InputError
from longwriter_eval.bridge import Bridge, JudgeIdentity
from longwriter_eval.judge.settings import protocol_text
from longwriter_eval.pairwise.differences import (
    BUCKET_METRICS,
    MetricDifference,
    corrected,
    metric_differences,
)
from longwriter_eval.runs import Run
from longwriter_eval.scoring import Score, score_samples, value
from longwriter_eval.stats.estimates import is_covered, known
from longwriter_eval.stats.inference import Interval

ScoresById = Mapping[str, Score]  # prompt id -> score


@dataclass(frozen=True)
class BridgedScore:
    """The mean S_q of one run on a benchmark, converted to the scale of the other run's judge.

    A conversion, not a verdict: it is not tested.
    """

    benchmark: str
    run: str  # the converted one, "A" or "B"
    judge: str
    score: float
    bridged: Interval  # the uncertainty of the link, not of the responses
    other_judge: str
    other_score: float


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side. `pairs` are the scores of the prompts that both answered."""

    a: Run
    b: Run
    differs: Sequence[str]  # why the scores are not comparable
    notes: Sequence[str]  # other differences that a reader should know
    pairs: Sequence[tuple[Score, Score]]
    only_a: int  # prompts
    only_b: int
    differences: Sequence[MetricDifference]
    bridged: Sequence[BridgedScore] = ()

    @property
    def unjudged(self) -> tuple[int, int]:
        """Per run, the number of pairs without a verdict although a judge was asked."""
        a, b = (
            sum(pair[side].status not in ("judged", "unjudged") for pair in self.pairs)
            for side in (0, 1)
        )
        return a, b


def compare(a: Run, b: Run, *, anyway: bool = False, bridge: Bridge | None = None) -> Comparison:
    """Compare two runs prompt by prompt.

    With a `bridge` between their judges, the judges may differ: then S_q and S̄ are not compared,
    and the mean S_q of one run is shown on the scale of the other's judge.

    Raises InputError if they have no prompt in common, if the bridge is not one of their judges or
    does not reach the score, and, unless `anyway`, if their scores are not comparable; the message
    names what differs.
    """
    a_scores = {score.sample.id: score for score in score_samples(a.samples)}
    b_scores = {score.sample.id: score for score in score_samples(b.samples)}
    differs = incompatibilities(a, b, a_scores, b_scores, is_bridged=bridge is not None)
    if differs and not anyway:
        raise InputError(
            f"{a.path} and {b.path} are not comparable: {'; '.join(differs)}; to compare them "
            "anyway, pass --anyway"
        )
    pairs = shared_prompts(a_scores, b_scores)
    if not pairs:
        raise InputError(f"{a.path} and {b.path} have no prompt in common")
    return Comparison(
        a,
        b,
        differs,
        _notes(a, b, a_scores, b_scores),
        pairs,
        len(a_scores) - len(pairs),
        len(b_scores) - len(pairs),
        corrected([d for d in metric_differences(pairs) if not (bridge and _is_judged(d.metric))]),
        list(_bridged(bridge, a, b, pairs)) if bridge else (),
    )


def _is_judged(metric: str) -> bool:
    return metric == "overall_score" or metric.startswith("quality_")


def _bridged(
    bridge: Bridge, a: Run, b: Run, pairs: Sequence[tuple[Score, Score]]
) -> Iterator[BridgedScore]:
    """The bridged S_q of every benchmark whose judges the bridge links. Raises InputError."""
    judges = {
        side: {JudgeIdentity.of(run.record(pair[side].sample.task)) for pair in judged}
        for side, run in enumerate((a, b))
        for judged in [[pair for pair in pairs if pair[side].judgement]]
    }
    source = next((side for side in (0, 1) if judges[side] == {bridge.source}), None)
    if source is None or judges[1 - source] != {bridge.target}:
        used = (" and ".join(sorted(map(str, judges[side]))) or "no judge" for side in (0, 1))
        raise InputError(
            f"the link is from {bridge.source} to {bridge.target}, but the runs were judged by "
            f"{' and by '.join(used)}"
        )
    for benchmark in sorted({pair[0].benchmark for pair in pairs}):
        means = []
        for side in (0, 1):
            values = [
                value(pair[side], "quality_score")
                for pair in pairs
                if pair[0].benchmark == benchmark and pair[side].judgement
            ]
            means.append(float(np.mean(known(values))) if is_covered(values) else math.nan)
        if any(map(math.isnan, means)):
            continue
        yield BridgedScore(
            benchmark,
            "AB"[source],
            bridge.source.model,
            means[source],
            bridge.link.at(means[source]),
            bridge.target.model,
            means[1 - source],
        )


def shared_prompts(a_scores: ScoresById, b_scores: ScoresById) -> list[tuple[Score, Score]]:
    """The scores of the prompts that both runs answered, prompt by prompt."""
    return [
        (a_scores[id], b_scores[id])
        for id in a_scores
        if id in b_scores and _is_same_prompt(a_scores[id], b_scores[id])
    ]


def incompatibilities(
    a: Run, b: Run, a_scores: ScoresById, b_scores: ScoresById, *, is_bridged: bool = False
) -> list[str]:
    """Why the scores of two runs are not comparable, over the benchmarks that both have.

    With `is_bridged`, the judges may differ.
    """
    must_match = {
        name: read for name, read in _MUST_MATCH.items() if not is_bridged or "judge" not in name
    }
    reasons = _setup_differences(must_match, a, b, a_scores, b_scores)
    changed = sum(
        id in b_scores and not _is_same_prompt(a_scores[id], b_scores[id]) for id in a_scores
    )
    if changed:
        reasons.append(f"{changed} prompts have the same id but a different text or length")
    return reasons


def in_words(comparison: Comparison) -> list[str]:
    """One sentence per benchmark, and one per bucket with a significant difference."""
    groups: dict[tuple[str, str], list[MetricDifference]] = {}
    for difference in comparison.differences:
        groups.setdefault((difference.benchmark, difference.bucket), []).append(difference)
    sentences = []
    for (benchmark, bucket), differences in groups.items():
        title = benchmark if bucket == "all" else f"{benchmark} {bucket}"
        main = [d for d in differences if d.metric in BUCKET_METRICS]
        if bucket != "all":
            main = [d for d in main if d.winner]
        elif all(d.pairs == d.prompts and d.is_constant for d in differences):
            sentences.append(f"{title}: no difference in any metric")
            continue
        if main:
            sentences.append(f"{title}: {'; '.join(_clauses(main))}")
    return sentences


def _is_same_prompt(a: Score, b: Score) -> bool:
    return (a.sample.prompt, a.sample.required) == (b.sample.prompt, b.sample.required)


# A property of how a response was made or judged: reads it from a score, its task's config, and
# the record that the task left there. Hashes are shortened to 12 digits for display.
_Property = Callable[[Score, Mapping[str, Any], Mapping[str, Any]], Iterable[Any]]


def _judge_property(name: str) -> _Property:
    return lambda _score, _config, record: [record.get("judge", {}).get(name)]


def _judge_protocol(_score: Score, _config: Any, record: Mapping[str, Any]) -> list[str]:
    return [protocol_text(record["judge"])] if record.get("judge") else []


def _answering_judges(score: Score, *_: Any) -> Iterator[Any]:
    for verdict in score.judgement.verdicts if score.judgement else ():
        if verdict.scores:
            yield verdict.model


def _judge_endpoint(_score: Score, _config: Any, record: Mapping[str, Any]) -> list[Any]:
    judge = record.get("judge")
    return [judge.get("base_url") or "OpenAI's default"] if judge else []


_MUST_MATCH: dict[str, _Property] = {
    "data": lambda _score, _config, record: [record.get("data_sha256", "")[:12] or None],
    "task version": lambda _score, config, _record: [config["metadata"].get("version")],
    "judge": _judge_property("model"),
    "judge model that answered": _answering_judges,
    "judge prompt": lambda _score, _config, record: [
        record.get("judge_prompt_sha256", "")[:12] or None
    ],
    "judge protocol": _judge_protocol,
}

# May differ, but readers should know: for example, endpoints can serve different models under the
# same name.
_NOTED: dict[str, _Property] = {
    "generation settings": lambda _score, config, _record: [
        config.get("generation_kwargs") or "none"
    ],
    "judge endpoint": _judge_endpoint,
    "verdicts per response": _judge_property("repeats"),
}


def _notes(a: Run, b: Run, a_scores: ScoresById, b_scores: ScoresById) -> list[str]:
    """Differences between the runs that do not make their scores incomparable."""
    notes = [
        f"{benchmark} is only in {'A' if benchmark in _benchmarks(a_scores) else 'B'}"
        for benchmark in sorted(_benchmarks(a_scores) ^ _benchmarks(b_scores))
    ]
    for benchmark in sorted(_benchmarks(a_scores) & _benchmarks(b_scores)):
        a_judge, b_judge = (
            _property_values(_judge_property("model"), run, scores, benchmark)
            for run, scores in ((a, a_scores), (b, b_scores))
        )
        if bool(a_judge) != bool(b_judge):
            notes.append(
                f"{benchmark} was judged only in {'A' if a_judge else 'B'}, so quality is not "
                "compared"
            )
    return notes + _setup_differences(_NOTED, a, b, a_scores, b_scores)


def _setup_differences(
    properties: Mapping[str, _Property], a: Run, b: Run, a_scores: ScoresById, b_scores: ScoresById
) -> list[str]:
    differences = []
    for benchmark in sorted(_benchmarks(a_scores) & _benchmarks(b_scores)):
        for name, read in properties.items():
            a_values = _property_values(read, a, a_scores, benchmark)
            b_values = _property_values(read, b, b_scores, benchmark)
            # a run without a judge has no judge settings: its lengths are still comparable
            if a_values and b_values and a_values != b_values:
                differences.append(
                    f"{benchmark}: {name}: {' and '.join(a_values)} vs. {' and '.join(b_values)}"
                )
    return differences


def _property_values(read: _Property, run: Run, scores: ScoresById, benchmark: str) -> list[str]:
    """The distinct values of a property over the scores of a benchmark, as text."""
    values = set()
    for score in scores.values():
        if score.benchmark == benchmark:
            config = run.results["configs"][score.sample.task]
            record = config["metadata"]["longwriter"]
            values |= {str(v) for v in read(score, config, record) if v is not None}
    return sorted(values)


def _benchmarks(scores: ScoresById) -> set[str]:
    return {score.benchmark for score in scores.values()}


# metric -> what the winner does, and what the metric is called
_PHRASES = {
    "overall_score": ("scores higher overall", "overall score"),
    "length_score": ("meets the required lengths better", "length score"),
    "quality_score": ("is judged better", "quality"),
    "output_words": ("writes longer", "words written"),
}


def _clauses(differences: Sequence[MetricDifference]) -> Iterator[str]:
    undecided: list[str] = []
    unknown: list[str] = []
    for difference in differences:
        phrase, name = _PHRASES[difference.metric]
        if difference.winner:
            yield f"{difference.winner} {phrase}"
        else:
            (unknown if math.isnan(difference.p) else undecided).append(name)
    if undecided:
        yield f"no significant difference in {_conjunction(undecided)}"
    if unknown:
        yield f"{_conjunction(unknown)} not compared: too few verdicts"


def _conjunction(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
