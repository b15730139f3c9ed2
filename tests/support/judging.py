"""A judge at the mock server, and items for it to judge."""

from collections.abc import Iterable
from typing import Any

from support.endpoint import KEY, Endpoint

from longwriter_core.llm import Store, run_async
from longwriter_core.mock_server import JUDGE, MockReply, MockRequest, MockServer
from longwriter_core.mock_server.server import THINKING_JUDGE, Hook
from longwriter_eval.judge.judge import PREFLIGHT_RESPONSE, Judge
from longwriter_eval.judge.settings import JudgeSettings
from longwriter_eval.judge.verdict import Item, Judgement

ITEMS = [Item(f"id/{number}", f"Write {number}.", f"Text {number}.") for number in range(40)]
ONE = ITEMS[:1]
# Metadata and environment for the mock judge, which is a thinking model by default.
JUDGE_SETTINGS = {
    "judge_model": JUDGE,
    **{f"judge_{name}": value for name, value in THINKING_JUDGE.items()},
}
JUDGE_OPTIONS = [f"--{name.replace('_', '-')}={JUDGE_SETTINGS[name]}" for name in JUDGE_SETTINGS]
JUDGE_ENVIRONMENT = {f"LONGWRITER_{name.upper()}": JUDGE_SETTINGS[name] for name in JUDGE_SETTINGS}


def judge_at(server: Endpoint, store: Store | None = None, **changes: Any) -> Judge:
    """A judge at `server`, with this project's own prompt, which needs no download.

    It is the mock judge with the settings that it needs, or the profile in `judge`.
    """
    given = {"base_url": server.base_url, "prompt": "longwriter", **changes}
    metadata = {name if name == "judge" else f"judge_{name}": given[name] for name in given}
    settings = {"judge_model": JUDGE} if "judge" in changes else JUDGE_SETTINGS
    return Judge(JudgeSettings.resolve({**settings, **metadata}, {}), KEY, store)


def settings_at(server: MockServer) -> JudgeSettings:
    """The settings of `judge_at`."""
    given = {**JUDGE_SETTINGS, "judge_base_url": server.base_url, "judge_prompt": "longwriter"}
    return JudgeSettings.resolve(given, {})


def papers_judge_at(server: Endpoint, store: Store | None = None, **changes: Any) -> Judge:
    """A judge at `server` that is asked by the paper's protocol, except for `changes`."""
    return judge_at(server, store, **{"temperature": "0.5", "max_tokens": "1024", **changes})


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
