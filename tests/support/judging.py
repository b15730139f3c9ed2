"""A judge at the mock server, and items for it to judge."""

from collections.abc import Iterable
from typing import Any

from support.endpoint import KEY, Endpoint

from longwriter_core.llm import Store, run_async
from longwriter_core.mock_server import JUDGE, MockReply, MockRequest
from longwriter_core.mock_server.server import Hook
from longwriter_eval.judge.judge import PREFLIGHT_RESPONSE, Judge
from longwriter_eval.judge.settings import JudgeSettings
from longwriter_eval.judge.verdict import Item, Judgement

ITEMS = [Item(f"id/{number}", f"Write {number}.", f"Text {number}.") for number in range(40)]
ONE = ITEMS[:1]


def judge_at(server: Endpoint, store: Store | None = None, **changes: Any) -> Judge:
    """A judge at `server`, with this project's own prompt, which needs no download."""
    settings = {"model": JUDGE, "base_url": server.base_url, "prompt": "longwriter", **changes}
    metadata = {name if name == "judge" else f"judge_{name}": settings[name] for name in settings}
    return Judge(JudgeSettings.resolve(metadata, {}), KEY, store)


def failing(kind: str) -> Hook:
    """A judge that passes the preflight and then fails every request with one kind of Faults."""

    def reply(request: MockRequest) -> MockReply | None:
        return None if is_preflight(request.prompt) else MockReply(fault=kind)

    return reply


def is_preflight(prompt: str) -> bool:
    """Whether a prompt is the judge's preflight request."""
    return PREFLIGHT_RESPONSE in prompt


def judged(judge: Judge, items: Iterable[Item] = ITEMS) -> dict[str, Judgement]:
    """id -> judgement, in the order in which the judgements were finished."""
    found: dict[str, Judgement] = {}
    run_async(judge.judge(items, lambda item, judgement: found.update({item.id: judgement})))
    return found
