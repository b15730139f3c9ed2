"""AgentWrite: from an instruction to a long text, planned and then written step by step.

    from agentwrite import write_text

    text = write_text("Write a 20,000-word history of lighthouses.", model="gpt-4o-2024-11-20")
    print(text.words, text.text)

Each export is loaded when it is first used, so importing the package is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentwrite.batch.run import run
    from agentwrite.data.dpo import dpo
    from agentwrite.data.mix import GeneralSet
    from agentwrite.data.sft import sft
    from agentwrite.errors import WriteError
    from agentwrite.selecting.select import select
    from agentwrite.settings import Settings
    from agentwrite.thresholds import PairOptions, SftLimits
    from agentwrite.write import write_text

__all__ = [
    "GeneralSet",
    "PairOptions",
    "Settings",
    "SftLimits",
    "WriteError",
    "dpo",
    "run",
    "select",
    "sft",
    "write_text",
]

_MODULES = {
    "GeneralSet": "agentwrite.data.mix",
    "PairOptions": "agentwrite.thresholds",
    "Settings": "agentwrite.settings",
    "SftLimits": "agentwrite.thresholds",
    "WriteError": "agentwrite.errors",
    "dpo": "agentwrite.data.dpo",
    "run": "agentwrite.batch.run",
    "select": "agentwrite.selecting.select",
    "sft": "agentwrite.data.sft",
    "write_text": "agentwrite.write",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
