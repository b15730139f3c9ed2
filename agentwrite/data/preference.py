"""Which of several answers is chosen, and which is rejected. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from longwriter_core.llm import Rejected

Rule = Literal["random", "worst"]


@dataclass(frozen=True)
class Sample:
    """An answer with its scores, each from 0 to 100. `tokens` are those of prompt and answer."""

    text: str
    cut: bool  # it ended at the token limit, so it does not show how a text ends
    tokens: int
    words: int
    length_score: float
    quality_score: float

    @property
    def score(self) -> float:
        """The mean of S_l and S_q."""
        return (self.length_score + self.quality_score) / 2


@dataclass(frozen=True)
class Pair:
    """The chosen and the rejected answer."""

    chosen: Sample
    rejected: Sample

    @property
    def margin(self) -> float:
        """By how much the chosen answer scores higher."""
        return self.chosen.score - self.rejected.score


@dataclass(frozen=True)
class Choice:
    """How a pair is chosen.

    arXiv 2408.07055, section 4.2, rejects a random other answer, and names no margin. Ours: one
    step of one quality dimension moves the score by 2.1, so that 5 is more than two of them.
    """

    rejected: Rule = "random"
    min_margin: float = 5.0
    sequence_len: int = 32_768
    seed: int = 42


def choose(id: str, samples: Sequence[Sample], choice: Choice) -> Pair | Rejected:
    """The best answer, and one of those that are worse by the margin: a random or the worst one.

    Of equals, the first; an equal is never rejected, whatever the margin, nor is the chosen text
    itself. Answers that do not fit the sequence length take no part, and one that was cut off is
    never chosen. The draw depends on `seed` and `id` alone. Rejected says why there is no pair:
    `too_long`, `cut`, `identical` or `margin`.
    """
    fitting = [sample for sample in samples if sample.tokens < choice.sequence_len]
    if not fitting:
        return Rejected("too_long", f"all {len(samples)} answers")
    whole = [sample for sample in fitting if not sample.cut]
    if not whole:
        return Rejected("cut", f"all {len(fitting)} answers")
    best = max(whole, key=lambda sample: sample.score)
    others = [sample for sample in fitting if sample.text != best.text]
    if not others:
        return Rejected("identical", f"{len(fitting)} answers")
    worse = [
        pair
        for pair in (Pair(best, other) for other in others)
        if pair.margin > 0 and pair.margin >= choice.min_margin
    ]
    if not worse:
        widest = max(Pair(best, other).margin for other in others)
        return Rejected("margin", f"at most {widest:.1f}")
    if choice.rejected == "worst":
        return max(worse, key=lambda pair: pair.margin)
    return random.Random(f"{choice.seed} {id}").choice(worse)
