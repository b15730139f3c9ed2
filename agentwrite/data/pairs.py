"""Sample several answers to a prompt, have each judged, and pick a chosen and a rejected one."""

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
from longwriter_eval.judge.judge import Item
from longwriter_eval.judge.verdict import Judgement


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer with its scores, each from 0 to 100."""

    text: str
    cut: bool  # it ended at the token limit, so it does not show how a text ends
    tokens: int  # of prompt and answer
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
        """By how many points the chosen answer scores higher."""
        return self.chosen.score - self.rejected.score


def choose_pair(id: str, answers: Sequence[ScoredAnswer], options: PairOptions) -> Pair | Rejected:
    """The best answer and a worse one; Rejected where there is no such pair. Pure.

    Answers that do not fit the sequence length are ignored. The chosen answer is the best one that
    was not cut off, the first of equals. The rejected answer is a random one, or the worst, of
    those that score lower by the margin; it never equals the chosen answer in score or text. The
    draw depends on the seed and `id` alone.

    The reasons are `too_long` (no answer fits), `cut` (all were cut off), `identical` (there is
    only one text) and `margin` (no answer is enough worse).
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
    """The answers to a prompt that names a length, each with its verdict."""

    instruction: Instruction
    answers: tuple[Answer[str], ...]
    judgements: tuple[Judgement, ...]
    judging: Usage = field(default_factory=Usage)  # the judge's calls since the last prompt

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
            # the endpoint's count for the last call, where it gives one
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


class AnswerSampler:
    """Samples `samples` answers to a prompt and has each judged."""

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
        self._judging = judging  # of the judge's client, which all prompts share
        self._judge_slots = asyncio.Semaphore(judge_concurrency)

    async def sample(self, instruction: Instruction, affinity: int) -> JudgedAnswers:
        """The judged answers to a prompt.

        Raises WriteError where an answer or a verdict is missing, after all calls have ended.
        """
        numbers = range(1, self._samples + 1)
        answers = await _gather(*(self._answer(instruction, affinity, n) for n in numbers))
        texts = list(dict.fromkeys(answer.value for answer in answers))  # equal ones judged once
        judgements = await _gather(*(self._judge(instruction, text) for text in texts))
        by_text = dict(zip(texts, judgements, strict=True))
        judging = replace(self._judging)
        vars(self._judging).update(vars(Usage()))
        return JudgedAnswers(
            instruction, tuple(answers), tuple(by_text[answer.value] for answer in answers), judging
        )

    async def _answer(self, instruction: Instruction, affinity: int, number: int) -> Answer[str]:
        text_id = f"{instruction.id} sample {number}"
        place = f"sample {number} of {self._samples}"
        try:
            return await self._model.ask(
                instruction.instruction,
                lambda reply: strip_special_tokens(without_thinking(reply)) or Rejected("empty"),
                place=place,
                text_id=text_id,
                affinity=affinity,
                # its own seed, since some servers always start from the same one
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
            last = next(each for each in reversed(judgement.verdicts) if not each.scores)
            if last.reason == "not_asked":  # the judge would refuse every further call
                detail = f"the judge is unavailable: {last.detail}"
                self._model.chat.give_up(detail)
                raise WriteError("unjudged", detail, "verdict", is_fatal=True)
            raise WriteError("unjudged", f"{last.reason} {last.detail or ''}".strip(), "verdict")
        return judgement


async def _gather(*work: Awaitable[Any]) -> list[Any]:
    """All results. The first error is raised only after all have ended, since they are paid for."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
