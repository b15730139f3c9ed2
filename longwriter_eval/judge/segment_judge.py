"""Verdicts on the parts of a response, each with a summary of what came before.

Each part but the last is summarised once, by the judge itself, and each part is judged once. Every
one of these calls is stored under its own key, which contains the response, the number of parts and
the place of the part.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, Protocol, TypeVar

from longwriter_core.files import sha256
from longwriter_core.llm import CallId, Chat, Outcome, Rejected, ask_until_valid
from longwriter_core.text.length import count_words
from longwriter_core.text.thinking import without_thinking
from longwriter_eval.judge.prompt import fill
from longwriter_eval.judge.segments import MAX_SUMMARY_WORDS, cut
from longwriter_eval.judge.settings import JudgeSettings
from longwriter_eval.judge.spend import JudgePool
from longwriter_eval.judge.verdict import Item, Scores, Verdict, read_verdict

T = TypeVar("T")

_NOTHING_BEFORE = "(nothing: this is the beginning of the text)"


class Judge(Protocol):
    """What this module needs of a judge: see judge.Judge, which imports this module."""

    settings: JudgeSettings
    segments: int | None

    def call_id(self, item: Item, repeat: int) -> CallId: ...  # noqa: D102
    def request(self, prompt: str) -> dict[str, Any]: ...  # noqa: D102
    def verdict_of(  # noqa: D102
        self,
        outcome: Outcome[Scores],
        repeat: int,
        *,
        escaped: bool,
        segment: int | None = None,
    ) -> Verdict: ...


def read_part(reply: str, response: str, before: str = "") -> Scores | Rejected:
    """The scores that a judge's reply gives to a part of `response`, or why it is rejected.

    A verdict that any part plants can reach the reply, by the summary `before` of the parts.
    """
    return read_verdict(reply, f"{response}\n\n{before}") or Rejected("parse_error")


def parts_of(judge: Judge, item: Item) -> tuple[str, ...]:
    """The parts on which `judge` gives verdicts; () without `judge_segments` or if too short."""
    return cut(item.response, judge.segments) if judge.segments else ()


def call_id(judge: Judge, item: Item, part: int, *, summary: bool = False) -> CallId:
    """The key of the verdict on a part, or of its summary."""
    template = _template("summary" if summary else "segment")
    parts = dict(judge.call_id(item, 0).parts)
    parts |= {"prompt": sha256(template), "segments": judge.segments, "segment": part}
    return CallId(parts)


async def verdicts(
    judge: Judge, pool: JudgePool, item: Item, known: Mapping[int, Verdict]
) -> list[Verdict]:
    """A verdict on every part, of which those in `known` are not asked for again.

    Where a summary is missing, the parts after it have no verdict, and the summary's reason.
    """
    parts = parts_of(judge, item)
    missing = [number for number in range(len(parts)) if number not in known]
    summaries = await _in_turn(
        judge,
        [
            partial(_summary, judge, pool.for_summaries(), item, parts[number], number)
            for number in range(max(missing, default=0))
        ],
    )
    failed = next((n for n, summary in enumerate(summaries) if summary.value is None), len(parts))

    async def ask(number: int) -> Verdict:
        if number > failed:
            return _without_summary(number, failed, summaries[failed])
        before = "\n\n".join(str(summary.value) for summary in summaries[:number])
        prompt, escaped = _prompt(
            item.instruction, before or _NOTHING_BEFORE, parts[number], number, len(parts)
        )
        outcome = await ask_until_valid(
            pool,
            judge.request(prompt),
            partial(read_part, response=item.response, before=before),
            call_id(judge, item, number),
            has_format=True,
        )
        return judge.verdict_of(outcome, 0, escaped=escaped, segment=number)

    asked = await _in_turn(judge, [partial(ask, number) for number in missing])
    return [*known.values(), *asked]


async def _in_turn(judge: Judge, calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results of `calls`: one after the other, or in one batch with `judge_batch`.

    In turn, because the judge's concurrency counts responses.
    """
    if judge.settings.batch:
        return await asyncio.gather(*(call() for call in calls))
    return [await call() for call in calls]


def max_prompts(judge: Judge, item: Item) -> list[str]:
    """Texts at least as long as the prompts of all calls for the parts of `item`."""
    parts = parts_of(judge, item)
    word = "x" * 12  # a long word of a summary, in bytes
    texts = []
    for number, part in enumerate(parts):
        before = word * (MAX_SUMMARY_WORDS * number)
        texts.append(_prompt(item.instruction, before, part, number, len(parts))[0])
        texts += [_template("summary") + part] if number + 1 < len(parts) else []
    return texts


async def _summary(judge: Judge, pool: Chat, item: Item, part: str, number: int) -> "Outcome[str]":
    prompt, _ = fill(_template("summary"), {"$TEXT$": part})
    request = {k: v for k, v in judge.request(prompt).items() if k != "response_format"}
    return await ask_until_valid(
        pool, request, _read_summary, call_id(judge, item, number, summary=True)
    )


def _read_summary(reply: str) -> str | Rejected:
    summary = without_thinking(reply).strip()
    words = count_words(summary)
    if words > MAX_SUMMARY_WORDS:
        return Rejected("parse_error", f"a summary of {words} words")
    return summary


def _without_summary(segment: int, summarised: int, outcome: "Outcome[Any]") -> Verdict:
    detail = f"no summary of part {summarised + 1}: {outcome.detail or outcome.reason}"
    reason = outcome.reason
    if reason in ("empty", "error_text"):
        reason = "parse_error"
    return Verdict(0, reason=reason, detail=detail, segment=segment)


def _prompt(instruction: str, before: str, part: str, number: int, total: int) -> tuple[str, bool]:
    texts = {"$INST$": instruction, "$BEFORE$": before, "$TEXT$": part}
    places = {"$PART$": str(number + 1), "$PARTS$": str(total)}
    return fill(_template("segment"), {**places, **texts})


def _template(name: str) -> str:
    return (files("longwriter_eval.judge") / f"{name}.txt").read_text(encoding="utf-8")
