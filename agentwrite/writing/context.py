"""The text so far as shown in a prompt: in full, or with its oldest part summarised. Pure."""

from dataclasses import dataclass, field

from agentwrite.writing.plan import Plan

# Characters per token: a conservative estimate, since every model has its own tokenizer.
_LATIN, _CHINESE = 4.0, 1.2


def estimate_tokens(text: str) -> int:
    """Estimate the number of tokens in `text`."""
    # a Chinese character is three bytes; counting them in C is a hundred times faster than a regex
    wide = (len(text.encode("utf-8", "surrogatepass")) - len(text)) // 2
    return int(max(0, len(text) - wide) / _LATIN + wide / _CHINESE) + 1


@dataclass
class TextSoFar:
    """The sections written so far; the first `folded` of them are shown as `summary`."""

    plan: Plan
    sections: list[str] = field(default_factory=list)
    folded: int = 0
    summary: str = ""

    @property
    def text(self) -> str:
        """All sections in full."""
        return "\n\n".join(self.sections)

    def shown(self) -> str:
        """Return the text as the prompt for the next section shows it.

        The plan lines of folded sections are omitted, because the prompt has the whole plan.
        """
        rest = "\n\n".join(self.sections[self.folded :])
        if not self.folded:
            return rest
        return (
            f"[Steps 1 to {self.folded} of the plan are written, and given here as a summary.]\n\n"
            f"{self.summary}\n\n[From here on, the text itself.]\n\n{rest}"
        )

    def half(self) -> int:
        """Return how many sections to fold so that half of the text shown in full remains.

        The last section is never folded. Returns `folded` if no other section can be folded.
        """
        sizes = [estimate_tokens(section) for section in self.sections[self.folded :]]
        left, count = sum(sizes), 0
        while count < len(sizes) - 1 and left > sum(sizes) / 2:
            left -= sizes[count]
            count += 1
        return self.folded + count

    def beginning(self, end: int) -> str:
        """Return the text to summarise in order to fold the first `end` sections."""
        return "\n\n".join(filter(None, (self.summary, *self.sections[self.folded : end])))
