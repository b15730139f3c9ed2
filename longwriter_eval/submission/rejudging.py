"""Judging a random sample of a submission again, and testing the claimed scores against it.

If the claimed verdicts come from the judge, the claimed and the new S_q of a response are two draws
from the same distribution, so the two are exchangeable within each pair. The paired permutation
test rejects that at the level REJUDGE_ALPHA.
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
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.settings import JudgeSettings, api_key
from longwriter_eval.judge.verdict import Item, Judgement
from longwriter_eval.stats.inference import Interval, paired_test
from longwriter_eval.stats.thresholds import MIN_REJUDGED_PAIRS, REJUDGE_ALPHA
from longwriter_eval.submission.verification import Verification


@dataclass(frozen=True)
class Rejudged:
    """Claimed minus new S_q (0-100) over `pairs` responses, and the p-value of that difference."""

    pairs: int
    difference: Interval
    p_value: float
    missing: Counter[str]  # reason -> responses without a new verdict
    other_judges: Counter[str]  # models that answered in place of the judge

    @property
    def is_consistent(self) -> bool:
        """Whether the claimed scores are consistent with the judge's."""
        return self.p_value >= REJUDGE_ALPHA and not self.other_judges


def rejudge(
    verification: Verification, number: int, seed: int, overrides: Mapping[str, Any]
) -> Rejudged:
    """Judge a random sample of `number` responses again, with the submission's number of repeats.

    The new verdicts have their own store: the one for runs on this machine may hold the verdicts
    that are being tested. A rerun with the same `seed` makes only the missing calls. Raises
    InputError if the judge cannot be used, or if too few responses get a verdict.
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
    judgements: dict[str, Judgement] = {}
    if not all(map(judge.has_verdicts, items)):
        run_async(judge.check())
    with tqdm(total=number, desc=f"Judging with {judge.settings.model}") as bar:

        def done(item: Item, judgement: Judgement) -> None:
            judgements[item.id] = judgement
            bar.update()

        run_async(judge.judge(items, done))
    pairs = [
        (float(score.quality_score or 0), judgements[score.sample.id].quality["score"])
        for score in drawn
        if judgements[score.sample.id].quality
    ]
    missing = Counter(j.status for j in judgements.values() if not j.quality)
    if len(pairs) < MIN_REJUDGED_PAIRS:
        raise InputError(
            f"only {len(pairs)} of {number} responses were judged again "
            f"({', '.join(f'{reason} {n}' for reason, n in missing.items())}), but the test needs "
            f"{MIN_REJUDGED_PAIRS}: rerun the same command"
        )
    returned = verification.submission.manifest["judge"]["returned"]
    answered = Counter(v.model for j in judgements.values() for v in j.verdicts if v.scores)
    p, difference = paired_test([old - new for old, new in pairs])
    return Rejudged(
        len(pairs),
        difference,
        p,
        missing,
        Counter({str(model): n for model, n in answered.items() if model != returned}),
    )


def _judge(verification: Verification, overrides: Mapping[str, Any]) -> Judge:
    """The judge that the submission names, at the verifier's endpoint."""
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
