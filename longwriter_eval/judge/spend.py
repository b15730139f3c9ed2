"""A judge's chat pool, which stops when most verdicts are cut, and estimates of tokens."""

from collections.abc import Mapping
from typing import Any

from longwriter_core.files import sha256
from longwriter_core.llm import BudgetError, Chat, ChatPool, Reply, SkippedError

# Judging stops after this many cut replies if most texts' verdicts are cut: the judge's token limit
# is too low, and further replies would cost money without giving a verdict.
CUT_REPLIES = 10
# The texts that count are the last ones asked about. Texts and not replies, because one long text
# may be asked for five times in a row.
_LAST_TEXTS = 20
_CUT_SHARE = 0.8


def estimate_tokens(text: str) -> int:
    """A rough token count of `text`: one per 4 ASCII characters, one per other character."""
    others = len(text) - (ascii_characters := sum(map(str.isascii, text)))
    return ascii_characters // 4 + others


class JudgePool(ChatPool):
    """A judge's endpoint, which stops when cut verdicts (at `limit` tokens) are the rule."""

    def __init__(self, *args: Any, limit: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limit = limit
        self._cut_replies = 0
        self._is_cut: dict[str, bool] = {}  # prompt -> whether its last reply is cut

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        """Like ChatPool.ask; a call that does not fit into the budget raises SkippedError."""
        reply = await self._ask(key, request, affinity)
        self._count(request, reply)
        return reply

    def for_summaries(self) -> Chat:
        """This pool for replies that are no verdicts, and say nothing about the limit of one."""
        return _Uncounted(self)

    async def _ask(self, key: str, request: Mapping[str, Any], affinity: int) -> Reply:
        try:
            return await super().ask(key, request, affinity=affinity)
        except BudgetError as error:  # a verdict's reason is then `not_asked`
            raise SkippedError(str(error)) from error

    def _count(self, request: Mapping[str, Any], reply: Reply) -> None:
        prompt = sha256(str(request["messages"]))
        self._is_cut.pop(prompt, None)
        self._is_cut[prompt] = reply.is_cut
        self._cut_replies += reply.is_cut
        last = list(self._is_cut.values())[-_LAST_TEXTS:]
        if (
            reply.is_cut
            and self._cut_replies >= CUT_REPLIES
            and sum(last) >= _CUT_SHARE * len(last)
        ):
            self.give_up(
                f"the verdicts on {sum(last)} of the last {len(last)} texts were cut at the limit "
                f"of {self._limit} tokens: raise judge_max_tokens, or choose a profile that leaves "
                "room for thinking (`longwriter judges`)"
            )


class _Uncounted:
    def __init__(self, pool: JudgePool) -> None:
        self._pool = pool
        self.stored, self.give_up = pool.stored, pool.give_up

    async def ask(self, key: str, request: Mapping[str, Any], *, affinity: int = 0) -> Reply:
        return await self._pool._ask(key, request, affinity)
