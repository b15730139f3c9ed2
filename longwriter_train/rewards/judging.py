"""The quality reward: S_q by a judge, through its store and rate limiter.

A completion without a verdict has no reward, never 0. If the judge does not answer, training waits
for it, for less time than the other ranks wait for this one. Then `outage` says why, and the
trainer saves a checkpoint and exits.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from longwriter_core.errors import InputError
from longwriter_core.llm import run_async
from longwriter_eval.judge.judge import Judge
from longwriter_eval.judge.settings import JudgeSettings, api_key
from longwriter_eval.judge.verdict import Item, Judgement
from longwriter_train.rewards.rules import Text, answer_of, text_of

MAX_WAIT = 900  # seconds; ranks wait 1,800 for each other
_PAUSE = 5.0  # seconds between two attempts to reach a judge that is down
# Why a verdict is missing: the judge was not reached. All other reasons concern one response.
_DOWN = {"transport_error", "not_asked", "max_cost"}


class QualityJudge:
    """The judge of a training run, and why it cannot be reached (`outage`, None while it can)."""

    def __init__(self, judge: Judge, max_wait: float = MAX_WAIT) -> None:
        self._judge, self._max_wait = judge, max_wait
        self.outage: str | None = None

    @classmethod
    def resolve(cls, profile: str | None, max_wait: float) -> "QualityJudge":
        """Return the judge of a profile, or of the environment. Raises InputError."""
        settings = JudgeSettings.resolve({"judge": profile} if profile else {}, os.environ)
        if settings.batch:
            raise InputError("rewards cannot wait for the batch API: unset LONGWRITER_JUDGE_BATCH")
        return cls(Judge(settings, api_key(settings, os.environ)), max_wait)

    def check(self) -> None:
        """Ask for one verdict. Raises InputError if the judge cannot be used."""
        run_async(self._judge.check())

    def rewards(self, items: Sequence[Item]) -> list[float | None]:
        """Return S_q / 100 for each item, or None where the judge gives no verdict."""
        judgements = run_async(self._judgements(items))
        missing = {item.id: reasons for item in items if (reasons := _missing(judgements, item))}
        named = ", ".join(sorted({reason for reasons in missing.values() for reason in reasons}))
        if any(_DOWN.intersection(reasons) for reasons in missing.values()):
            self.outage = (
                f"the judge gave no verdict on {len(missing)} of {len(items)} completions, and was "
                f"waited for up to {self._max_wait:g} s ({named})"
            )
        elif items and len(missing) == len(items):
            self.outage = f"the judge gave no verdict on any of {len(items)} completions ({named})"
        return [_score(judgements.get(item.id)) for item in items]

    async def _judgements(self, items: Iterable[Item]) -> dict[str, Judgement]:
        """Judge all items, trying again those whose judge could not be reached."""
        judgements: dict[str, Judgement] = {}

        def done(item: Item, judgement: Judgement) -> None:
            judgements[item.id] = judgement

        pending = list(items)
        end = time.monotonic() + self._max_wait
        try:
            async with asyncio.timeout(self._max_wait):
                while pending:
                    await self._judge.judge(pending, done)
                    pending = [
                        item for item in pending if _DOWN.intersection(_missing(judgements, item))
                    ]
                    if any("max_cost" in _missing(judgements, item) for item in pending):
                        break  # waiting does not raise the limit
                    if pending:
                        await asyncio.sleep(min(_PAUSE, max(0.0, end - time.monotonic())))
        except TimeoutError:
            pass  # what is missing has no reward
        return judgements


def _missing(judgements: Mapping[str, Judgement], item: Item) -> list[str]:
    """Return why verdicts on an item are missing; [] if it has them all."""
    judgement = judgements.get(item.id)
    return judgement.missing if judgement else ["transport_error"]


def _score(judgement: Judgement | None) -> float | None:
    if judgement is None or judgement.missing:
        return None
    return judgement.quality["score"] / 100


# TRL calls a function by name, so the judge of this process is kept here.
_current: QualityJudge | None = None


def use(judge: QualityJudge) -> None:
    """Make `quality` ask this judge."""
    global _current
    _current = judge


def outage() -> str | None:
    """Return why the judge cannot be reached, or None."""
    return _current.outage if _current else None


def quality(
    prompts: Sequence[Text],
    completions: Sequence[Text],
    log_metric: Callable[[str, float], None] | None = None,
    **_: Any,
) -> list[float | None]:
    """Return S_q / 100 of each completion by the judge, or None for one without a verdict."""
    if _current is None:
        raise InputError(
            "rewards.quality has no judge: add longwriter_train.checks.ChecksPlugin to the plugins"
        )
    texts = list(map(answer_of, completions))
    items = [
        Item(str(number), text_of(prompt), text)
        for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
        if text
    ]
    found: Mapping[str, float | None] = dict(
        zip((item.id for item in items), _current.rewards(items), strict=True)
    )
    if log_metric:
        judged = sum(score is not None for score in found.values())
        log_metric("judge_coverage", judged / len(items) if items else 1.0)
    # There is nothing to judge in an empty answer. It is as bad as an answer can be.
    return [found[str(number)] if text else 0.0 for number, text in enumerate(texts)]
