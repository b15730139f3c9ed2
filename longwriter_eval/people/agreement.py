"""What people's choices say: which run they prefer, and who agrees with them."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from longwriter_core.errors import InputError
from longwriter_eval.pairwise.comparison import Comparison
from longwriter_eval.pairwise.preference import Preference
from longwriter_eval.people.choices import Better, Choice, different, read_choices, valid_choices
from longwriter_eval.scoring import value
from longwriter_eval.stats.agreement import alpha_interval, judge_of
from longwriter_eval.stats.inference import Interval, proportion_interval

_SIDES: dict[str, Better] = {"A": "a", "B": "b", "tie": "tie"}
_ANSWERS: tuple[Better, ...] = ("a", "b", "tie")


@dataclass(frozen=True)
class JudgeAgreement:
    """How often a judge prefers the same response as people (0-1).

    Over the prompts on which both have a preference; `undecided` counts the prompts on which only
    the people have one.
    """

    judge: str
    same: Interval
    undecided: int


@dataclass(frozen=True)
class PeopleSummary:
    """Counts are prompts unless they say otherwise; the majority of a prompt's people decides it.

    `win_rate` is B's share (0-1) of the prompts that are no tie, with the exact binomial interval,
    and `p` the exact two-sided test against one half. As each prompt counts once, more people make
    the result of a prompt surer, and do not narrow the interval by themselves. `agreement` is
    Krippendorff's alpha of the answers A, B and tie (1 is full agreement, 0 chance level) over the
    prompts that two or more people have judged, with a bootstrap interval over prompts.
    """

    choices: int  # of all people
    people: int
    a: int
    b: int
    ties: int
    unjudged: int
    others: int  # choices about other responses, which count nowhere
    win_rate: Interval
    p: float
    agreement: Interval
    judges: Sequence[JudgeAgreement]

    @classmethod
    def of(
        cls,
        prompts: Sequence[str],
        choices: Mapping[str, Mapping[str, Better]],
        judges: Mapping[str, Mapping[str, Better]],
        others: int = 0,
    ) -> "PeopleSummary":
        """Summarize `choices`, prompt -> person -> answer, over `prompts`.

        `judges` are the judges' answers, judge -> prompt -> answer.
        """
        judged = {id: choices[id] for id in prompts if choices.get(id)}
        answers = {id: _majority(list(given.values())) for id, given in judged.items()}
        counted = Counter(answers.values())
        decided = counted["a"] + counted["b"]
        several = [list(given.values()) for given in judged.values() if len(given) > 1]
        counts = np.array([[g.count(a) for a in _ANSWERS] for g in several], dtype=int)
        return cls(
            sum(map(len, judged.values())),
            len({person for given in judged.values() for person in given}),
            counted["a"],
            counted["b"],
            counted["tie"],
            len(prompts) - len(judged),
            others,
            proportion_interval(counted["b"], decided),
            float(binomtest(counted["b"], decided).pvalue) if decided else math.nan,
            alpha_interval(counts.reshape(-1, len(_ANSWERS)), "nominal"),
            [_agreement(judge, answers, given) for judge, given in judges.items()],
        )

    def lines(self) -> list[str]:
        """The summary for a terminal or a page."""
        people = "1 person" if self.people == 1 else f"{self.people} people"
        lines = [
            f"People: {self.choices} choices by {people}; by majority A {self.a}, B {self.b}, "
            f"ties {self.ties}."
        ]
        if self.win_rate.n:
            lines[0] += (
                f" B wins {self.win_rate.as_percent()} of the prompts that are no tie "
                f"(p = {self.p:.4f})."
            )
        if self.unjudged:
            lines[0] += f" Nobody has judged {self.unjudged} of the prompts."
        if self.others:
            lines.append(f"{self.others} choices are about other responses and do not count.")
        if self.agreement.n:
            lines.append(f"Agreement among people: {_alpha_text(self.agreement)}.")
        for judge in self.judges:
            if judge.same.n:
                more = f", and has no preference on {judge.undecided} more"
                lines.append(
                    f"{judge.judge} prefers the same text as people on {judge.same.as_percent()} "
                    f"of {judge.same.n} prompts{more if judge.undecided else ''}."
                )
        return lines


def read_people(paths: Iterable[Path]) -> list[Choice]:
    """The choices in the files of `longwriter annotate`. Raises InputError that names the line."""
    return [choice for path in paths for choice in read_choices(path)]


def summarize_people(
    comparison: Comparison, choices: Sequence[Choice], preferences: Iterable[Preference] | None
) -> PeopleSummary:
    """What `choices` say about two runs, and how far judges agree with them.

    The judges are those that gave the runs' S_q, each judge of a panel by itself too, and the one
    that made `preferences`. Raises InputError if no choice is about these runs' responses.
    """
    pairs = different(comparison.pairs)
    valid = valid_choices(pairs, choices)
    if not valid:
        raise InputError(
            f"no choice is about the responses of {comparison.a.path} and {comparison.b.path}: "
            "pass the file that `longwriter annotate` wrote for these two runs"
        )
    judges = _by_quality(comparison)
    if preferences is not None:
        winners = {p.id: p.winner for p in preferences}
        judges["the judge asked by --judge"] = {
            id: _SIDES[winner] for id, winner in winners.items() if winner
        }
    counted = sum(map(len, valid.values()))
    last = {(choice.person, choice.id) for choice in choices}
    return PeopleSummary.of([pair.id for pair in pairs], valid, judges, len(last) - counted)


def _by_quality(comparison: Comparison) -> dict[str, dict[str, Better]]:
    """Judge -> prompt -> the response with the higher S_q, for each judge of both runs."""
    found: dict[str, dict[str, Better]] = {}
    for a, b in comparison.pairs:
        if not a.judgement or not b.judgement:
            continue
        of_a, of_b = a.judgement.judges, b.judgement.judges
        values: dict[str | None, tuple[float, float]] = {
            None: (value(a, "quality_score"), value(b, "quality_score")),  # of all judges together
            **{judge: (of_a[judge], of_b[judge]) for judge in of_a if judge in of_b},
        }
        for judge, (in_a, in_b) in values.items():
            judge_of_a, judge_of_b = (
                judge_of(run, score.sample.task, judge)
                for run, score in ((comparison.a, a), (comparison.b, b))
            )
            if judge_of_a == judge_of_b and not math.isnan(in_a) and not math.isnan(in_b):
                answer: Better = "tie" if in_a == in_b else "b" if in_b > in_a else "a"
                found.setdefault(judge_of_a[0], {})[a.sample.id] = answer
    return found


def _majority(answers: Sequence[Better]) -> Better:
    lead = answers.count("b") - answers.count("a")
    return "tie" if lead == 0 else "b" if lead > 0 else "a"


def _agreement(
    judge: str, people: Mapping[str, Better], given: Mapping[str, Better]
) -> JudgeAgreement:
    decided = {id: answer for id, answer in people.items() if answer != "tie" and id in given}
    both = [id for id in decided if given[id] != "tie"]
    same = sum(given[id] == decided[id] for id in both)
    return JudgeAgreement(judge, proportion_interval(same, len(both)), len(decided) - len(both))


def _alpha_text(alpha: Interval) -> str:
    if math.isnan(alpha.mean):
        return f"all answers are equal over {alpha.n} prompts"
    limits = "" if math.isnan(alpha.low) else f" [{alpha.low:.2f}, {alpha.high:.2f}]"
    return f"Krippendorff's alpha {alpha.mean:.2f}{limits} over {alpha.n} prompts"
