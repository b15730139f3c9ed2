"""The text so far, as a prompt shows it: in full, or its oldest part in short. Pure."""

from dataclasses import dataclass, field

from agentwrite.writing.plan import Plan

# Rough, and on the safe side, since every model has its own: characters per token.
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
        """Everything, as it is."""
        return "\n\n".join(self.sections)

    def shown(self) -> str:
        """What the prompt for the next section shows.

        The plan lines of what is folded are not shown again: the plan stands above in full.
        """
        rest = "\n\n".join(self.sections[self.folded :])
        if not self.folded:
            return rest
        return (
            f"[Steps 1 to {self.folded} of the plan are written, and given here as a summary.]\n\n"
            f"{self.summary}\n\n[From here on, the text itself.]\n\n{rest}"
        )

    def half(self) -> int:
        """How many sections to have folded so that about half of what is shown in full is left.

        The last section always stays; `folded` itself where there is nothing more to fold.
        """
        sizes = [estimate_tokens(section) for section in self.sections[self.folded :]]
        left, count = sum(sizes), 0
        while count < len(sizes) - 1 and left > sum(sizes) / 2:
            left -= sizes[count]
            count += 1
        return self.folded + count

    def beginning(self, until: int) -> str:
        """What is to be summed up when the sections up to `until` are folded."""
        return "\n\n".join(filter(None, (self.summary, *self.sections[self.folded : until])))
