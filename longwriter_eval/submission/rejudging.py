"""Judging a random sample of a submission again, and testing the claimed scores against it.

If the claimed verdicts come from the judge, the claimed and the new S_q of a response are two draws
from the same distribution, so the two are exchangeable within each pair. The paired permutation
test rejects that at the level REJUDGE_ALPHA.
"""

import math
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from tqdm import tqdm

from longwriter_core.errors import InputError
from longwriter_core.files import cache_dir
from longwriter_core.llm import Store, profiles, run_async
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.settings import JudgeSettings, api_key
from longwriter_eval.judge.verdict import Item, Judgement
from longwriter_eval.stats.inference import Interval, paired_test
from longwriter_eval.stats.power import difference_sd, paired_power, pairs_needed
from longwriter_eval.stats.thresholds import (
    ASSUMED_RETEST_SD,
    MIN_REJUDGED_PAIRS,
    REJUDGE_ALPHA,
    REJUDGE_GAIN,
    REJUDGE_POWER,
)
from longwriter_eval.submission.judges import endpoint, has_own_endpoint, request_metadata
from longwriter_eval.submission.public import public_endpoint
from longwriter_eval.submission.verification import Verification

_MIN_SPREADS = 10  # responses with repeats that are needed to estimate a verdict's deviation


@dataclass(frozen=True)
class Rejudged:
    """Claimed minus new S_q (0-100) over `pairs` responses, and the p-value of that difference."""

    pairs: int
    difference: Interval
    p_value: float
    missing: Counter[str]  # reason -> responses without a new verdict
    other_judges: Counter[str]  # models that answered in place of the judge
    sd: float  # of the differences between pairs, in points
    endpoints: tuple[str, ...]  # where the judges were asked, in words

    @property
    def is_consistent(self) -> bool:
        """Whether the claimed scores are consistent with the judge's."""
        return self.p_value >= REJUDGE_ALPHA and not self.other_judges

    @property
    def power(self) -> float:
        """The probability (0-1) that a gain of REJUDGE_GAIN points would have been found."""
        return paired_power(self.pairs, REJUDGE_GAIN, self.sd, REJUDGE_ALPHA)


@dataclass(frozen=True)
class Recommendation:
    """How many responses to judge again, and the power of the test with them.

    `sd` is the expected standard deviation of claimed minus new S_q, in points.
    """

    responses: int
    power: float
    sd: float


def recommended(verification: Verification) -> Recommendation:
    """The number of responses that finds a gain of REJUDGE_GAIN points with REJUDGE_POWER.

    All of them if they are too few for that. The claimed and the new S_q of a response are means
    of as many verdicts, which differ as verdicts on the same text do: by the submission's own
    repeats, or by ASSUMED_RETEST_SD.
    """
    judged = [score for score in verification.scores if score.quality_score is not None]
    block = verification.submission.manifest["judge"]
    spreads = [
        score.judgement.spread
        for score in judged
        if score.judgement and score.judgement.spread is not None
    ]
    # few responses with repeats say little, and none may have varied by chance
    one = math.sqrt(fmean(spread**2 for spread in spreads)) if len(spreads) >= _MIN_SPREADS else 0.0
    verdicts = len(block["judges"]) * block["repeats"]
    sd = difference_sd(one or ASSUMED_RETEST_SD, verdicts)
    needed = pairs_needed(REJUDGE_GAIN, sd, REJUDGE_ALPHA, REJUDGE_POWER)
    responses = min(needed, len(judged))
    return Recommendation(responses, paired_power(responses, REJUDGE_GAIN, sd, REJUDGE_ALPHA), sd)


def rejudge(
    verification: Verification, number: int, seed: int, overrides: Mapping[str, Any]
) -> Rejudged:
    """Judge a random sample of `number` responses again, with the submission's number of repeats.

    The new verdicts have their own store: the one for runs on this machine may hold the verdicts
    that are being tested. A rerun with the same `seed` makes only the missing calls. Raises
    InputError if the judge cannot be used, or if too few responses get a verdict.
    """
    panel = _judges(verification, overrides)
    judged = [score for score in verification.scores if score.quality_score is not None]
    if not MIN_REJUDGED_PAIRS <= number <= len(judged):
        raise InputError(
            f"--rejudge {number}: choose between {MIN_REJUDGED_PAIRS} and {len(judged)} responses "
            "of this submission"
        )
    drawn = random.Random(seed).sample(judged, number)
    items = [Item(score.sample.id, score.sample.prompt, score.text) for score in drawn]
    of_judge = [_judged(judge, items) for judge in panel]
    quality = {
        item.id: fmean(judgements[item.id].quality["score"] for judgements in of_judge)
        for item in items
        if all(judgements[item.id].quality for judgements in of_judge)
    }
    pairs = [
        (float(score.quality_score or 0), quality[score.sample.id])
        for score in drawn
        if score.sample.id in quality
    ]
    missing = Counter(
        next(found[item.id].status for found in of_judge if not found[item.id].quality)
        for item in items
        if item.id not in quality
    )
    if len(pairs) < MIN_REJUDGED_PAIRS:
        raise InputError(
            f"only {len(pairs)} of {number} responses were judged again "
            f"({', '.join(f'{reason} {n}' for reason, n in missing.items())}), but the test needs "
            f"{MIN_REJUDGED_PAIRS}: rerun the same command"
        )
    claimed = verification.submission.manifest["judge"]["judges"]
    others = Counter(
        str(verdict.model)
        for judge, judgements in zip(claimed, of_judge, strict=True)
        for judgement in judgements.values()
        for verdict in judgement.verdicts
        if verdict.scores and verdict.model != judge["returned"]
    )
    p, difference = paired_test([old - new for old, new in pairs])
    asked = (public_endpoint(judge.settings.base_url or profiles.OPENAI) for judge in panel)
    return Rejudged(
        len(pairs),
        difference,
        p,
        missing,
        others,
        stdev(old - new for old, new in pairs),
        tuple(dict.fromkeys(endpoint({"endpoint": host}) for host in asked)),
    )


def _judged(judge: Judge, items: Sequence[Item]) -> dict[str, Judgement]:
    """Item id -> the judgement of one judge."""
    if not all(map(judge.has_verdicts, items)):
        run_async(judge.check())
    judgements: dict[str, Judgement] = {}
    with tqdm(total=len(items), desc=f"Judging with {judge.settings.label}") as bar:

        def done(item: Item, judgement: Judgement) -> None:
            judgements[item.id] = judgement
            bar.update()

        run_async(judge.judge(items, done))
    return judgements


def _judges(verification: Verification, overrides: Mapping[str, Any]) -> list[Judge]:
    """The judges that the submission names, asked as it says, at the verifier's endpoint.

    Judges whose profile has an endpoint are asked there.
    """
    block = verification.submission.manifest["judge"]
    if block is None:
        raise InputError("--rejudge: this benchmark has no judge")
    store = Store(cache_dir() / "rejudged")
    store.check()
    shared = {"judge_prompt": block["prompt"], "judge_repeats": block["repeats"]}
    asked = []
    for judge in block["judges"]:
        metadata = {**shared, **request_metadata(judge), **overrides}
        environment = dict(os.environ)
        if len(block["judges"]) > 1 and has_own_endpoint(judge):
            metadata.pop("judge_base_url", None)
            environment.pop("LONGWRITER_JUDGE_BASE_URL", None)
        settings = JudgeSettings.resolve(metadata, environment)
        asked.append(Judge(settings, api_key(settings, environment), store))
    return asked
