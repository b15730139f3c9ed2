"""Asking the judge again about a random sample, and testing the claimed scores against the answers.

If the claimed verdicts are the judge's, then claimed and new S_q of a response are two draws from
the same distribution, and which of the two is which is a coin's toss. So the pairs are swapped at
random (a paired permutation test, two-sided): where the mean difference is larger than in all but
1% of the swaps, the claims are not the judge's.
"""

import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from longwriter_core.errors import InputError
from longwriter_core.files import cache_dir
from longwriter_core.llm import Store, run_async
from longwriter_eval.judge.judge import Item, Judge
from longwriter_eval.judge.judgement import Judgement
from longwriter_eval.judge.settings import JudgeSettings, api_key
from longwriter_eval.stats.inference import Interval, mean_interval, paired_permutation_test
from longwriter_eval.stats.thresholds import MIN_REJUDGED_PAIRS, REJUDGE_ALPHA
from longwriter_eval.submission.verification import Verification


@dataclass(frozen=True)
class Rejudged:
    """Claimed less new S_q over `pairs` responses, and how likely a difference so large is."""

    pairs: int
    difference: Interval
    p_value: float
    missing: Counter[str]  # reason -> responses that the judge gave no verdict on
    other_judges: Counter[str]  # models that answered in the judge's place

    @property
    def is_consistent(self) -> bool:
        """Whether the claimed scores can be the judge's."""
        return self.p_value >= REJUDGE_ALPHA and not self.other_judges


def rejudge(
    verification: Verification, number: int, seed: int, overrides: Mapping[str, Any]
) -> Rejudged:
    """Judge `number` responses anew, drawn by `seed`, as often as the submission has verdicts.

    The verdicts are kept apart from those of runs on this machine, which may be the very ones in
    question. A second call pays only for what is missing. Raises InputError where the judge cannot
    be used, or too few pairs come about.
    """
    judge = _judge(verification, overrides)
    judged = [score for score in verification.scores if score.quality_score is not None]
    if not MIN_REJUDGED_PAIRS <= number <= len(judged):
        raise InputError(
            f"--rejudge {number}: choose between {MIN_REJUDGED_PAIRS} and {len(judged)} responses "
            "of this submission"
        )
    drawn = random.Random(seed).sample(judged, number)
    items = [Item(score.sample.id, score.sample.prompt, score.text) for score in drawn]
    found: dict[str, Judgement] = {}
    if not all(map(judge.has_verdicts, items)):
        run_async(judge.check())
    with tqdm(total=number, desc=f"Judging with {judge.settings.model}") as bar:

        def done(item: Item, judgement: Judgement) -> None:
            found[item.id] = judgement
            bar.update()

        run_async(judge.judge(items, done))
    pairs = [
        (float(score.quality_score or 0), found[score.sample.id].quality["score"])
        for score in drawn
        if found[score.sample.id].quality
    ]
    missing = Counter(each.status for each in found.values() if not each.quality)
    if len(pairs) < MIN_REJUDGED_PAIRS:
        raise InputError(
            f"only {len(pairs)} of {number} responses were judged again "
            f"({', '.join(f'{reason} {n}' for reason, n in missing.items())}), but the test needs "
            f"{MIN_REJUDGED_PAIRS}: rerun the same command"
        )
    returned = verification.submission.manifest["judge"]["returned"]
    answered = Counter(v.model for each in found.values() for v in each.verdicts if v.scores)
    return Rejudged(
        len(pairs),
        mean_interval(old - new for old, new in pairs),
        paired_permutation_test([old for old, _ in pairs], [new for _, new in pairs]),
        missing,
        Counter({str(model): n for model, n in answered.items() if model != returned}),
    )


def _judge(verification: Verification, overrides: Mapping[str, Any]) -> Judge:
    """The judge that the submission names, at the endpoint of whoever verifies."""
    claimed = verification.submission.manifest["judge"]
    names = {
        "judge_model": claimed["returned"],
        "judge_prompt": claimed["prompt"],
        "judge_repeats": claimed["repeats"],
    }
    settings = JudgeSettings.resolve({**names, **overrides}, os.environ)
    store = Store(cache_dir() / "rejudged")
    store.check()
    return Judge(settings, api_key(settings, os.environ), store)
