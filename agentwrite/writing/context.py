"""The text so far as shown in a prompt: in full, or with its oldest parts summarised. Pure.

Summaries are hierarchical. Once a text outgrows the context, its older chapters are replaced with
one summary each; once there are many summaries, the older ones are replaced with one of their own.
So a text of a million words fits in a prompt, and its recent parts are shown in the most detail.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from agentwrite.writing.plan import Plan

# Characters per token: a conservative estimate, since every model has its own tokenizer.
_LATIN, _CHINESE = 4.0, 1.2
_MAX_SUMMARIES = 0.25  # of the shown text, in tokens; beyond it, summaries are summarised


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens in `text`."""
    # a Chinese character is three bytes; counting them in C is a hundred times faster than a regex
    wide = (len(text.encode("utf-8", "surrogatepass")) - len(text)) // 2
    return int(max(0, len(text) - wide) / _LATIN + wide / _CHINESE) + 1


@dataclass(frozen=True)
class Part:
    """A section as written (level 0), or the summary of successive parts of a lower level."""

    first: int  # number of its first section
    last: int
    level: int
    text: str
    tokens: int


@dataclass(frozen=True)
class Fold:
    """Successive parts to replace with a summary: `size` parts from the index `start`.

    A summary of fewer than `least` parts would replace nothing.
    """

    start: int
    size: int
    least: int = 1

    @property
    def half(self) -> "Fold | None":
        """The first half of the parts; None if they cannot be halved."""
        half = self.size // 2
        return Fold(self.start, half, self.least) if half >= self.least else None


class TextSoFar:
    """The sections written so far, and the parts that prompts show in their place."""

    def __init__(self, plan: Plan, sections: tuple[str, ...] = ()) -> None:
        self.plan = plan
        self.sections: list[str] = []
        self._parts: list[Part] = []  # the level never increases from one part to the next
        for section in sections:
            self.add(section)

    def add(self, section: str) -> None:
        """Add the next section."""
        self.sections.append(section)
        number = len(self.sections)
        self._parts.append(Part(number, number, 0, section, estimate_tokens(section)))

    @property
    def text(self) -> str:
        """All sections in full."""
        return "\n\n".join(self.sections)

    @property
    def folded(self) -> int:
        """How many sections are shown as summaries."""
        return max((part.last for part in self._parts if part.level), default=0)

    def shown(self) -> str:
        """Return the text as the prompt for the next section shows it."""
        summaries = [
            f"[Steps {part.first} to {part.last} of the plan are written, and given here as a "
            f"summary.]\n\n{part.text}"
            for part in self._parts
            if part.level
        ]
        rest = "\n\n".join(part.text for part in self._parts if not part.level)
        if not summaries:
            return rest
        return "\n\n".join([*summaries, "[From here on, the text itself.]", rest])

    def content(self, fold: Fold) -> str:
        """Return the text to summarise."""
        return "\n\n".join(part.text for part in self._parts[fold.start : fold.start + fold.size])

    def replace(self, fold: Fold, summary: str) -> None:
        """Show `summary` in place of the parts of `fold`."""
        parts = self._parts[fold.start : fold.start + fold.size]
        level = max(part.level for part in parts) + 1
        replacement = Part(parts[0].first, parts[-1].last, level, summary, estimate_tokens(summary))
        self._parts[fold.start : fold.start + fold.size] = [replacement]

    def folds(self) -> list[Fold]:
        """Return what to summarise next, in order; empty if nothing is left.

        Each fold takes the place that the one before it left. Half of the text is folded instead of
        only the excess: prompts then begin with the same parts for many steps, and the server can
        reuse its prefix cache. The last section is never folded.
        """
        summaries = [part for part in self._parts if part.level]
        size = sum(part.tokens for part in summaries)
        sections = self._folds_of_sections(len(summaries))
        if sections and size <= _MAX_SUMMARIES * sum(part.tokens for part in self._parts):
            return sections
        if len(summaries) > 1:
            return [self._fold_of_summaries(summaries)]
        return sections

    def _folds_of_sections(self, start: int) -> list[Fold]:
        """The chapters in the older half of the sections, or all of it if no chapter ends there."""
        parts = self._parts[start:]
        left = total = sum(part.tokens for part in parts)
        half = 0
        while half < len(parts) - 1 and left > total / 2:
            left -= parts[half].tokens
            half += 1
        first = parts[0].first if parts else 0
        starts = [number - first for _, number in self.plan.chapters]
        complete = [end for end in starts if 0 < end < len(parts)]
        ends = [end for end in complete if end <= half] or complete[:1] or ([half] if half else [])
        return [
            Fold(start + place, end - begin)
            for place, (begin, end) in enumerate(pairwise([0, *ends]))
        ]

    def _fold_of_summaries(self, summaries: list[Part]) -> Fold:
        """The older half of the level with most summaries; all of them if each level has one."""
        counts = Counter(part.level for part in summaries)
        level = max(counts, key=lambda level: (counts[level], -level))
        if counts[level] == 1:
            return Fold(0, len(summaries), least=2)
        start = next(n for n, part in enumerate(summaries) if part.level == level)
        return Fold(start, max(2, counts[level] // 2), least=2)
