"""A judge at the mock server, and items for it to judge."""

from collections.abc import Iterable
from typing import Any

from support.endpoint import KEY, Endpoint

from longwriter_core.llm import Store, run_async
from longwriter_core.mock_server import JUDGE
from longwriter_eval.judge.judge import Item, Judge
from longwriter_eval.judge.settings import JudgeSettings
from longwriter_eval.judge.verdict import Judgement

ITEMS = [Item(f"id/{number}", f"Write {number}.", f"Text {number}.") for number in range(40)]
ONE = ITEMS[:1]


def judge_at(server: Endpoint, store: Store | None = None, **changes: Any) -> Judge:
    """A judge at `server`, with this project's own prompt, which needs no download."""
    settings = {"model": JUDGE, "base_url": server.base_url, "prompt": "longwriter", **changes}
    return Judge(
        JudgeSettings.resolve({f"judge_{k}": v for k, v in settings.items()}, {}), KEY, store
    )


def judged(judge: Judge, items: Iterable[Item] = ITEMS) -> dict[str, Judgement]:
    """id -> judgement, in the order in which they were finished."""
    found: dict[str, Judgement] = {}
    run_async(judge.judge(items, lambda item, judgement: found.update({item.id: judgement})))
    return found
