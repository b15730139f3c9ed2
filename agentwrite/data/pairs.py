"""Sample several answers to a prompt, judge each, and pick a chosen and a rejected one."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentwrite.errors import WriteError
from agentwrite.model import Answer, ChatModel
from agentwrite.thresholds import PairOptions
from agentwrite.writing.context import estimate_tokens
from agentwrite.writing.state import Instruction
from longwriter_core.files import sha256
from longwriter_core.llm import ContextOverflowError, Rejected, Usage
from longwriter_core.text.length import count_words, length_score
from longwriter_core.text.special_tokens import strip_special_tokens
from longwriter_core.text.thinking import without_thinking
from longwriter_eval.judge.verdict import Item, Judgement


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer with its scores, each from 0 to 100."""

    text: str
    cut: bool  # it ended at the token limit
    tokens: int  # prompt and answer
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

    chosen: ScoredAnswer
    rejected: ScoredAnswer

    @property
    def margin(self) -> float:
        """Score of the chosen answer minus score of the rejected one, in points."""
        return self.chosen.score - self.rejected.score


def choose_pair(id: str, answers: Sequence[ScoredAnswer], options: PairOptions) -> Pair | Rejected:
    """Pick the best answer and a worse one; returns Rejected if there is no such pair. Pure.

    Answers that exceed the sequence length are ignored. The chosen answer is the one with the
    highest score that was not cut off, and the first one on a tie. The rejected answer scores lower
    by at least the margin: a random one of these, or the worst. It never has the score or the text
    of the chosen answer. The random choice depends only on the seed and `id`.

    The reasons are `too_long` (no answer fits), `cut` (all were cut off), `identical` (there is
    only one text) and `margin` (no answer is worse by the margin).
    """
    fitting = [answer for answer in answers if answer.tokens < options.sequence_len]
    if not fitting:
        return Rejected("too_long", f"all {len(answers)} answers")
    complete = [answer for answer in fitting if not answer.cut]
    if not complete:
        return Rejected("cut", f"all {len(fitting)} answers")
    best = max(complete, key=lambda answer: answer.score)
    pairs = [Pair(best, answer) for answer in fitting if answer.text != best.text]
    if not pairs:
        return Rejected("identical", f"{len(fitting)} answers")
    worse = [pair for pair in pairs if pair.margin > 0 and pair.margin >= options.min_margin]
    if not worse:
        return Rejected("margin", f"at most {max(pair.margin for pair in pairs):.1f}")
    if options.rejected == "worst":
        return max(worse, key=lambda pair: pair.margin)
    return random.Random(f"{options.seed} {id}").choice(worse)


@dataclass(frozen=True)
class JudgedAnswers:
    """The answers to a prompt with a required length, and their judgements."""

    instruction: Instruction
    answers: tuple[Answer[str], ...]
    judgements: tuple[Judgement, ...]
    judging: Usage = field(
        default_factory=Usage
    )  # the judge's calls since the last finished prompt

    def record(self) -> dict[str, Any]:
        """The row in samples.jsonl."""
        return {
            "id": self.instruction.id,
            "instruction": self.instruction.instruction,
            "required": self.instruction.required,
            "samples": list(map(self._sample, self.answers, self.judgements)),
        }

    def _sample(self, answer: Answer[str], judgement: Judgement) -> dict[str, Any]:
        words = count_words(answer.value)
        prompt_tokens = estimate_tokens(self.instruction.instruction)
        return {
            "text": answer.value,
            "cut": answer.cut,
            # the endpoint's count for the last call, else an estimate
            "tokens": answer.tokens or prompt_tokens + estimate_tokens(answer.value),
            "words": words,
            "length_score": length_score(self.instruction.required or 0, words),
            "quality_score": judgement.quality["score"],
            "quality": {name: judgement.quality[name] for name in judgement.quality},
            "spread": judgement.spread,
            "model": answer.model,
            "asks": answer.asks,
            "rejected": list(answer.rejected),
            "judges": sorted({str(verdict.model) for verdict in judgement.verdicts}),
            "judge_asks": sum(verdict.asks for verdict in judgement.verdicts),
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
        }


def _read_answer(reply: str) -> str | Rejected:
    return strip_special_tokens(without_thinking(reply)) or Rejected("empty")


class AnswerSampler:
    """Samples `samples` answers to a prompt and judges each."""

    def __init__(
        self,
        model: ChatModel,
        judge_one: Callable[[Item], Awaitable[Judgement]],
        *,
        samples: int,
        judge_concurrency: int,
        judging: Usage,
    ) -> None:
        self._model, self._judge_one, self._samples = model, judge_one, samples
        self._judging = judging  # usage of the judge's client, which all prompts share
        self._judge_slots = asyncio.Semaphore(judge_concurrency)

    async def sample(
        self,
        instruction: Instruction,
        affinity: int,
        read: Callable[[str], str | Rejected] = _read_answer,
    ) -> JudgedAnswers:
        """Sample and judge the answers to a prompt; `read` takes the answer from a reply.

        Raises WriteError if an answer or a verdict is missing, after all calls have ended.
        """
        numbers = range(1, self._samples + 1)
        answers = await _gather(*(self._answer(instruction, affinity, n, read) for n in numbers))
        texts = list(
            dict.fromkeys(answer.value for answer in answers)
        )  # equal answers are judged once
        judgements = await _gather(*(self._judge(instruction, text) for text in texts))
        by_text = dict(zip(texts, judgements, strict=True))
        judging = replace(self._judging)
        vars(self._judging).update(vars(Usage()))
        return JudgedAnswers(
            instruction, tuple(answers), tuple(by_text[answer.value] for answer in answers), judging
        )

    async def _answer(
        self,
        instruction: Instruction,
        affinity: int,
        number: int,
        read: Callable[[str], str | Rejected],
    ) -> Answer[str]:
        text_id = f"{instruction.id} sample {number}"
        place = f"sample {number} of {self._samples}"
        try:
            return await self._model.ask(
                instruction.instruction,
                read,
                place=place,
                text_id=text_id,
                affinity=affinity,
                # a seed per sample, since some servers use a fixed default seed
                seed=int(sha256(text_id)[:7], 16),
                may_be_cut=True,
            )
        except ContextOverflowError as error:
            raise WriteError(error.reason, str(error), place) from error

    async def _judge(self, instruction: Instruction, text: str) -> Judgement:
        item = Item(instruction.id, instruction.instruction, text)
        async with self._judge_slots:
            judgement = await self._judge_one(item)
        if judgement.missing:
            last = next(verdict for verdict in reversed(judgement.verdicts) if not verdict.scores)
            if last.reason == "not_asked":  # the judge would refuse every further call
                detail = f"the judge is unavailable: {last.detail}"
                self._model.chat.give_up(detail)
                raise WriteError("unjudged", detail, "verdict", is_fatal=True)
            raise WriteError("unjudged", f"{last.reason} {last.detail or ''}".strip(), "verdict")
        return judgement


async def _gather(*work: Awaitable[Any]) -> list[Any]:
    """Return all results, or raise the first error after all calls have ended.

    Calls in flight are charged anyway, so they finish and their replies are stored.
    """
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
