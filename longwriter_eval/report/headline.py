"""The first screen of a report in words: what each run did, and how the runs differ.

Every sentence states numbers that the page shows. A difference between runs is stated only where
`longwriter compare` finds it significant, by the same test.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from longwriter_eval.pairwise.comparison import incompatibilities, shared_prompts
from longwriter_eval.pairwise.differences import MetricDifference, corrected, metric_differences
from longwriter_eval.report.metadata import FAULT_TITLES, RULER, ScoredRun
from longwriter_eval.scoring import Score
from longwriter_eval.stats.inference import Interval

# Mean S_l from which a run "writes to the length asked": outputs of about 71% to 160% of it.
MIN_LENGTH_SCORE = 80

# Share of the responses from which a fault is named.
MIN_FAULT = 0.1

# More lengths than this are counted, not listed.
_MAX_LISTED = 4


@dataclass(frozen=True)
class Versus:
    """A run `b` against the first run of the report, `a`, over the prompts that both answered."""

    a: ScoredRun
    b: ScoredRun

    @cached_property
    def reasons(self) -> list[str]:
        """Why the two are not comparable; empty if they are."""
        return incompatibilities(self.a.run, self.b.run, self.a.by_id, self.b.by_id)

    @cached_property
    def differences(self) -> dict[tuple[str, str, str], MetricDifference]:
        """(benchmark, bucket, metric) -> b - a; empty if the runs are not comparable."""
        pairs = [] if self.reasons else shared_prompts(self.a.by_id, self.b.by_id)
        return {
            (d.benchmark, d.bucket, d.metric): d for d in corrected([*metric_differences(pairs)])
        }

    def shares_all_prompts(self, benchmark: str) -> bool:
        """Whether both runs answered the same prompts of a benchmark."""
        a, b = (
            {id for id, score in run.by_id.items() if score.benchmark == benchmark}
            for run in (self.a, self.b)
        )
        return a == b


def against_first(scored: Sequence[ScoredRun]) -> list[Versus]:
    """Every other run against the first."""
    first, *others = scored
    return [Versus(first, other) for other in others]


def main_benchmark(run: ScoredRun) -> str | None:
    """The benchmark whose quality is reported: the first that is not the ruler."""
    return next((name for name in run.benchmarks if name != RULER), None)


def headline(scored: Sequence[ScoredRun], versus: Sequence[Versus]) -> list[str]:
    """One sentence per run, each after the first with its difference from the first."""
    sentences = [_sentence(scored[0], None)]
    sentences += [_sentence(pair.b, pair) for pair in versus]
    return sentences


def unit(run: ScoredRun) -> str:
    """What the lengths of a run count: words, or characters where all prompts are Chinese."""
    return "characters" if all(s.sample.language == "zh" for s in run.scores) else "words"


def length_clause(run: ScoredRun) -> str:
    """Up to which length the run writes what is asked: on the ruler, if it has one."""
    benchmark = RULER if RULER in run.benchmarks else main_benchmark(run)
    levels: dict[str, list[Score]] = {}
    for score in sorted(run.scores, key=lambda score: score.sample.required):
        if score.benchmark == benchmark:
            levels.setdefault(score.bucket, []).append(score)
    held = {name: _held_length(scores) for name, scores in levels.items()}
    longest = max(score.sample.required for scores in levels.values() for score in scores)
    lengths = [length for length in held.values() if length]
    counted = unit(run)
    if not lengths:
        mean = statistics.fmean(s.length_score for scores in levels.values() for s in scores)
        return (
            f"does not write to the length asked (mean length score {mean:.0f}); its longest "
            f"output has {run.max_words:,} {counted}"
        )
    first_miss = next((n for n, length in enumerate(held.values()) if not length), len(held))
    if len(lengths) == len(held) and lengths[-1] == longest:
        if len(held) == 1:
            return f"writes to the length asked, about {longest:,} {counted}"
        return f"writes to the length asked at every length, up to {longest:,} {counted}"
    if first_miss == len(lengths):  # nothing longer than the first miss is held
        return f"writes to the length asked up to about {lengths[-1]:,} {counted}"
    missed = [_around(levels[name]) for name, length in held.items() if not length]
    listed = " and ".join(missed) if len(missed) <= _MAX_LISTED else f"{len(missed)} lengths"
    return f"writes to the length asked up to about {lengths[-1]:,} {counted}, but not at {listed}"


def _held_length(scores: Sequence[Score]) -> int | None:
    """The longest length asked from which on a level's mean S_l is still high enough.

    `scores` are those of one level, by required length. None if the whole level misses.
    """
    if statistics.fmean(s.length_score for s in scores) < MIN_LENGTH_SCORE:
        return None
    return next(
        required
        for required in sorted({s.sample.required for s in scores}, reverse=True)
        if statistics.fmean(s.length_score for s in scores if s.sample.required >= required)
        >= MIN_LENGTH_SCORE
    )


def _around(scores: Sequence[Score]) -> str:
    low, high = scores[0].sample.required, scores[-1].sample.required
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _sentence(run: ScoredRun, versus: Versus | None) -> str:
    if not run.max_words:
        what = "are empty" if all(not s.text for s in run.scores) else "have no words"
        return f"{run.name} wrote nothing: all {len(run.scores):,} responses {what}."
    clauses = [length_clause(run), *_quality_clauses(run, versus)]
    return f"{run.name} {'; '.join(clauses)}.{_faults(run)}"


def _quality_clauses(run: ScoredRun, versus: Versus | None) -> list[str]:
    benchmark = main_benchmark(run)
    if benchmark is None:
        return []
    row = next(r for r in run.table if (r.benchmark, r.kind) == (benchmark, "all"))
    quality = row.metrics["quality_score"].mean
    if math.isnan(row.coverage):
        return ["its quality was not judged"]
    if math.isnan(quality):
        missing = round((1 - row.coverage) * row.n)
        return [
            f"its quality is unknown, because {missing:,} of {row.n:,} responses lack a verdict"
        ]
    return [f"quality {_compared(quality, benchmark, versus)}"]


def _compared(quality: float, benchmark: str, versus: Versus | None) -> str:
    """A run's quality, and what the paired test says about the first run's."""
    own = f"{quality:.0f}"
    if versus is None or benchmark != main_benchmark(versus.a):
        return own
    other = versus.a.name
    if versus.reasons:
        return f"{own}, which is not comparable with {other}'s"
    difference = versus.differences.get((benchmark, "all", "quality_score"))
    if difference is None or math.isnan(difference.p):
        return f"{own}, which cannot be compared with {other}'s: too few shared verdicts"
    theirs, shared = rounded_apart(difference.a, difference.b)
    is_tie = not difference.winner
    if is_tie:
        theirs, shared = f"{difference.a:.0f}", f"{difference.b:.0f}"
    shares_all = versus.shares_all_prompts(benchmark)
    is_same = shares_all and math.isclose(quality, difference.b)
    where = "" if is_same else f" where both {'are judged' if shares_all else 'answer'}"
    if is_same or own == shared:
        own = shared
    else:
        own, where = f"{own} ({shared}{where})", ""
    if not is_tie:
        return (
            f"{own}, {'above' if difference.winner == 'B' else 'below'} {other}'s {theirs}{where}"
        )
    if difference.is_constant:
        return f"{own}, the same as {other}'s{where}"
    return (
        f"{own}, not distinguishable from {other}'s {theirs}{where} "
        f"({interval_text(difference.difference)})"
    )


def rounded_apart(a: float, b: float) -> tuple[str, str]:
    """Both as text, with the fewest decimals (up to two) that tell them apart."""
    for digits in (0, 1, 2):
        texts = f"{a:.{digits}f}", f"{b:.{digits}f}"
        if texts[0] != texts[1]:
            break
    return texts


def signed(number: float, digits: int = 1) -> str:
    """A difference with its sign, as in "−1.2"."""
    return f"{number:+,.{digits}f}".replace("-", "−")


def interval_text(difference: Interval) -> str:
    """A difference with its interval: "+1.2, 95% interval −2.0 to +4.4"."""
    if math.isnan(difference.low):
        return f"{signed(difference.mean)}, too few prompts for an interval"
    limits = f"{signed(difference.low)} to {signed(difference.high)}"
    return f"{signed(difference.mean)}, 95% interval {limits}"


def _faults(run: ScoredRun) -> str:
    """A sentence on the faults that many responses have; "" if there are none."""
    named = []
    for metric, title in FAULT_TITLES.items():
        share = statistics.fmean(s.diagnostics.as_dict()[metric] for s in run.scores)
        if share >= MIN_FAULT:
            named.append(f"{title} {share:.0%}")
    return f" Frequent faults: {', '.join(named)}." if named else ""
