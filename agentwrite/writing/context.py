"""The text so far, as a prompt shows it: in full, or with its oldest part summarised. Pure."""

from dataclasses import dataclass, field

from agentwrite.writing.plan import Plan

# Characters per token: rough and on the safe side, since every model has its own tokenizer.
_LATIN, _CHINESE = 4.0, 1.2


def estimate_tokens(text: str) -> int:
    """About how many tokens a model takes for `text`."""
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
        """What the prompt for the next section shows.

        The plan lines of folded sections are not repeated, because the prompt has the whole plan.
        """
        rest = "\n\n".join(self.sections[self.folded :])
        if not self.folded:
            return rest
        return (
            f"[Steps 1 to {self.folded} of the plan are written, and given here as a summary.]\n\n"
            f"{self.summary}\n\n[From here on, the text itself.]\n\n{rest}"
        )

    def half(self) -> int:
        """The number of folded sections that leaves about half of the text shown in full.

        The last section is never folded. The number is `folded` if no other section is left.
        """
        sizes = [estimate_tokens(section) for section in self.sections[self.folded :]]
        left, count = sum(sizes), 0
        while count < len(sizes) - 1 and left > sum(sizes) / 2:
            left -= sizes[count]
            count += 1
        return self.folded + count

    def beginning(self, end: int) -> str:
        """The text to summarise in order to fold the sections up to number `end`."""
        return "\n\n".join(filter(None, (self.summary, *self.sections[self.folded : end])))
