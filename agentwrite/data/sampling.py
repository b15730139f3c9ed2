"""Several answers of one model to one instruction, each with a verdict."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agentwrite.errors import WriteError
from agentwrite.writing.asking import Answer, Asking
from agentwrite.writing.clean import without_thinking
from agentwrite.writing.context import estimate_tokens
from agentwrite.writing.state import Instruction
from longwriter_core.files import sha256
from longwriter_core.llm import ContextOverflowError, Rejected, Usage
from longwriter_core.text.length import count_words, length_score
from longwriter_core.text.special_tokens import strip_special_tokens
from longwriter_eval.judge.judge import Item
from longwriter_eval.judge.judgement import Judgement


@dataclass(frozen=True)
class Sampled:
    """The answers to an instruction that names a length, each judged."""

    instruction: Instruction
    answers: tuple[Answer[str], ...]
    judgements: tuple[Judgement, ...]
    judging: Usage = field(default_factory=Usage)  # the judge's calls since the last one was made

    def record(self) -> dict[str, Any]:
        """The row in samples.jsonl."""
        asked = self.instruction
        return {
            "id": asked.id,
            "instruction": asked.instruction,
            "required": asked.required,
            "samples": [
                self._sample(answer, judgement)
                for answer, judgement in zip(self.answers, self.judgements, strict=True)
            ],
        }

    def _sample(self, answer: Answer[str], judgement: Judgement) -> dict[str, Any]:
        words = count_words(answer.value)
        asked = estimate_tokens(self.instruction.instruction)
        return {
            "text": answer.value,
            "cut": answer.cut,
            # by the endpoint's count, where it gives one; of several asks, that of the last
            "tokens": answer.tokens or asked + estimate_tokens(answer.value),
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


class Sampler:
    """Draws `samples` answers and has each judged; no verdict, no row."""

    def __init__(
        self,
        asking: Asking,
        judge_one: Callable[[Item], Awaitable[Judgement]],
        *,
        samples: int,
        judge_concurrency: int,
        judging: Usage,
    ) -> None:
        self._asking, self._judge_one, self._samples = asking, judge_one, samples
        self._judging = judging  # of all prompts: their calls share the judge's client
        self._judge_free = asyncio.Semaphore(judge_concurrency)

    async def sample(self, instruction: Instruction, turn: int) -> Sampled:
        """The judged answers to an instruction. Raises WriteError, once all calls have ended."""
        numbers = range(1, self._samples + 1)
        answers = await _all(*(self._answer(instruction, turn, number) for number in numbers))
        texts = list(dict.fromkeys(answer.value for answer in answers))  # one verdict for each
        judged = await _all(*(self._judgement(instruction, text) for text in texts))
        verdicts = dict(zip(texts, judged, strict=True))
        judging = replace(self._judging)
        vars(self._judging).update(vars(Usage()))
        return Sampled(
            instruction,
            tuple(answers),
            tuple(verdicts[answer.value] for answer in answers),
            judging,
        )

    async def _answer(self, instruction: Instruction, turn: int, number: int) -> Answer[str]:
        text_id = f"{instruction.id} sample {number}"
        place = f"sample {number} of {self._samples}"
        try:
            return await self._asking.until(
                instruction.instruction,
                lambda reply: strip_special_tokens(without_thinking(reply)) or Rejected("empty"),
                place=place,
                text_id=text_id,
                turn=turn,
                # so that samples differ where a server always starts from the same seed
                seed=int(sha256(text_id)[:7], 16),
                may_be_cut=True,
            )
        except ContextOverflowError as error:
            raise WriteError(error.reason, str(error), place) from error

    async def _judgement(self, instruction: Instruction, text: str) -> Judgement:
        item = Item(instruction.id, instruction.instruction, text)
        async with self._judge_free:
            judgement = await self._judge_one(item)
        if judgement.missing:
            last = next(each for each in reversed(judgement.verdicts) if not each.scores)
            if last.reason == "not_asked":  # the judge would refuse every call
                detail = f"the judge is not asked any more: {last.detail}"
                self._asking.chat.give_up(detail)
                raise WriteError("unjudged", detail, "verdict", is_fatal=True)
            raise WriteError("unjudged", f"{last.reason} {last.detail or ''}".strip(), "verdict")
        return judgement


async def _all(*work: Awaitable[Any]) -> list[Any]:
    """The results of all; the first error is raised only when all have ended: they are paid for."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
