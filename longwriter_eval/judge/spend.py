"""A judge's chat pool, which stops when every reply is cut, and estimates of tokens."""

from collections.abc import Mapping
from typing import Any

from longwriter_core.llm import BudgetError, ChatPool, Reply, SkippedError

# If the judge's first replies are all cut, its token limit is too low, and further replies would
# cost money without giving a verdict.
CUT_REPLIES = 10


def estimate_tokens(text: str) -> int:
    """A rough token count of `text`: one per 4 ASCII characters, one per other character."""
    others = len(text) - (ascii_characters := sum(map(str.isascii, text)))
    return ascii_characters // 4 + others


class JudgePool(ChatPool):
    """A judge's endpoint, which stops when the first replies are all cut at `limit` tokens."""

    def __init__(self, *args: Any, limit: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limit = limit
        self._cut = self._whole = 0

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        """Like ChatPool.ask; a call that does not fit into the budget raises SkippedError."""
        try:
            reply = await super().ask(key, request, affinity=affinity)
        except BudgetError as error:  # a verdict's reason is then `not_asked`
            raise SkippedError(str(error)) from error
        self._count(reply)
        return reply

    def _count(self, reply: Reply) -> None:
        self._cut, self._whole = self._cut + reply.is_cut, self._whole + (not reply.is_cut)
        if self._cut >= CUT_REPLIES and not self._whole:
            self.give_up(
                f"the first {self._cut} replies were all cut at the limit of {self._limit} tokens: "
                "raise judge_max_tokens, or choose a profile that leaves room for thinking "
                "(`longwriter judges`)"
            )
