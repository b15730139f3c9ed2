"""Step-wise preference pairs (LongDPO, arXiv 2502.02095): several candidates for each section.

A text is planned, and each section is sampled several times after the best sections before it. A
candidate is judged in context: the judge sees the prompt with plan and text so far as the request,
and the candidate as the response. The best one continues the text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentwrite.data.pairs import AnswerSampler, JudgedAnswers, ScoredAnswer
from agentwrite.errors import WriteError
from agentwrite.model import Answer, ChatModel
from agentwrite.writing.clean import clean
from agentwrite.writing.context import TextSoFar, estimate_tokens
from agentwrite.writing.plan import Plan
from agentwrite.writing.planner import Planner
from agentwrite.writing.prompts import Prompts
from agentwrite.writing.state import Instruction
from longwriter_core.llm import Rejected, Usage
from longwriter_core.text.length import length_score

_BREAK = "\n\n"  # between sections


@dataclass(frozen=True)
class JudgedSteps(JudgedAnswers):
    """The candidates for all sections of a text, and the index of the best one for each."""

    steps: tuple[tuple[JudgedAnswers, int], ...] = ()

    def record(self) -> dict[str, Any]:
        """The row in samples.jsonl."""
        return {
            "id": self.instruction.id,
            "instruction": self.instruction.instruction,
            "required": self.instruction.required,
            "steps": [
                {"target": step.instruction.required, "best": best,
                 "samples": step.record()["samples"]}
                for step, best in self.steps
            ],
        }  # fmt: skip


class StepSampler:
    """Plans a text, and samples and judges several candidates for each section."""

    def __init__(self, model: ChatModel, sampler: AnswerSampler, prompts: Prompts) -> None:
        self._planner, self._sampler, self._prompts = Planner(model, prompts), sampler, prompts

    async def sample(self, instruction: Instruction, affinity: int) -> JudgedSteps:
        """Sample and judge all sections. Raises WriteError if a candidate or verdict is missing."""
        planning: list[Answer[Plan]] = []
        plan = await self._planner.plan(instruction, affinity, planning)
        so_far = TextSoFar(plan)
        steps: list[tuple[JudgedAnswers, int]] = []
        judging = Usage()
        for step in plan.steps:
            before = so_far.text
            prompt = self._prompts.render(
                "write",
                inst=instruction.instruction,
                plan=self._prompts.plan_of(plan, step.number),
                text=before,
                step=step.line,
            )

            def read(reply: str, before: str = before, number: int = step.number) -> str | Rejected:
                return clean(reply, before, step=number).text or Rejected("nothing_new")

            asked = Instruction(f"{instruction.id} step {step.number}", prompt, step.words)
            judged = await self._sampler.sample(asked, affinity, read)
            judging.merge(judged.judging)
            best = _best(judged)
            if best is None:
                place = f"section {step.number} of {len(plan.steps)}"
                raise WriteError("cut", "all candidates ended at the token limit", place)
            steps.append((judged, best))
            so_far.add(judged.answers[best].value)
        return JudgedSteps(
            instruction,
            tuple(answer for judged, _ in steps for answer in judged.answers),
            tuple(judgement for judged, _ in steps for judgement in judged.judgements),
            judging,
            tuple(steps),
        )


def _best(judged: JudgedAnswers) -> int | None:
    """The index of the best candidate that was not cut, the first of equals; None if all were."""
    samples = judged.record()["samples"]
    complete = [n for n, sample in enumerate(samples) if not sample["cut"]]
    score = {n: samples[n]["length_score"] + samples[n]["quality_score"] for n in complete}
    return max(complete, key=lambda n: score[n], default=None)


class StepAnswers(NamedTuple):
    """A step of a row of samples.jsonl, and the answers up to each candidate.

    The answers begin with the same `prefix_characters`, the best sections before this one. Their
    lengths and scores are those of the candidate.
    """

    number: int
    step: dict[str, Any]
    answers: list[ScoredAnswer]
    prefix_characters: int


def step_rows(row: Mapping[str, Any]) -> list[StepAnswers]:
    """The steps of a row of samples.jsonl."""
    prefix = ""
    rows = []
    for number, step in enumerate(row["steps"], 1):
        answers = []
        for sample in step["samples"]:
            text = prefix + sample["text"]
            tokens = estimate_tokens(row["instruction"]) + estimate_tokens(text)
            score = length_score(step["target"], sample["words"])
            answer = ScoredAnswer(
                text, sample["cut"], tokens, sample["words"], score, sample["quality_score"]
            )
            answers.append(answer)
        rows.append(StepAnswers(number, step, answers, len(prefix)))
        prefix += step["samples"][step["best"]]["text"] + _BREAK
    return rows
