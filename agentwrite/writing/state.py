"""An instruction, its written sections, and the finished text."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agentwrite.writing.clean import clean
from agentwrite.writing.plan import Plan
from longwriter_core.text.length import count_words, length_score


@dataclass(frozen=True)
class Instruction:
    """A text to write. If `required` (words) is None, the plan decides the length."""

    id: str
    instruction: str
    required: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)  # the other fields of its row


@dataclass(frozen=True)
class Section:
    """One written step. Tokens and `asks` include all of its calls."""

    number: int
    text: str
    words: int
    target: int  # its share of the required length when it was written
    requested: int  # the requested word count: the target, corrected by the writer's bias
    asks: int
    rejected: tuple[str, ...]  # the reason of each rejected reply
    cleaned: Counter[str]  # rule -> how often it removed something
    model: str
    prompt_tokens: int
    completion_tokens: int
    removed: tuple[tuple[str, str], ...] = ()  # (cleaning rule, removed text)

    def after(self, draft: "Section") -> "Section":
        """The section with the calls of the draft that it replaces added to its own."""
        return replace(
            self,
            asks=draft.asks + self.asks,
            rejected=draft.rejected + self.rejected,
            prompt_tokens=draft.prompt_tokens + self.prompt_tokens,
            completion_tokens=draft.completion_tokens + self.completion_tokens,
        )

    def recleaned(self, before: str) -> "Section":
        """Clean the section again to follow `before`, which the model did not see."""
        cleaned = clean(self.text, before, is_reply=False)
        words = count_words(cleaned.text)
        return replace(
            self,
            text=cleaned.text,
            words=words,
            cleaned=self.cleaned + cleaned.counts,
            removed=self.removed + cleaned.removed,
        )


@dataclass(frozen=True)
class Text:
    """A written text, its plan and its counts.

    `folded` is the number of sections that were replaced with a summary in the last prompts,
    because the text exceeded the model's context.
    """

    instruction: Instruction
    text: str
    plan: Plan
    sections: tuple[Section, ...]
    folded: int
    parallel: bool
    prompts: str
    prompts_sha256: str
    planning_asks: int
    rejected_plans: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
    notes: Mapping[str, Any] = field(default_factory=dict)  # of a companion: story, findings

    @property
    def words(self) -> int:
        """Words of the whole text."""
        return sum(section.words for section in self.sections)

    @property
    def cleaned(self) -> Counter[str]:
        """How often each cleaning rule removed something."""
        return sum((section.cleaned for section in self.sections), Counter[str]())

    @property
    def rejected(self) -> Counter[str]:
        """The number of rejected replies by reason."""
        plans = Counter(self.rejected_plans)
        return sum((Counter(section.rejected) for section in self.sections), plans)

    def record(self) -> dict[str, Any]:
        """Return the text's row in texts.jsonl."""
        instruction = self.instruction
        return {
            **instruction.fields,
            "id": instruction.id,
            "instruction": instruction.instruction,
            "required": instruction.required,
            "text": self.text,
            "words": self.words,
            "length_score": (
                length_score(instruction.required, self.words) if instruction.required else None
            ),
            "plan": [vars(step) for step in self.plan.steps],
            "chapters": [
                {**vars(chapter), "first_step": first} for chapter, first in self.plan.chapters
            ],
            "plan_scaled": self.plan.scaled,
            "sections": [
                {name: value for name, value in vars(section).items() if name != "text"}
                for section in self.sections
            ],
            "cleaned": dict(self.cleaned),
            "rejected": dict(self.rejected),
            "folded": self.folded,
            "parallel": self.parallel,
            "models": sorted({section.model for section in self.sections}),
            "prompts": self.prompts,
            "prompts_sha256": self.prompts_sha256,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            **self.notes,
        }
