"""Calls to OpenAI-compatible endpoints: client, endpoint pool, store, and the ask-until-valid loop.

Importing this package loads neither openai nor aiohttp: the first call does.
"""

from longwriter_core.llm.ask import (
    Chat,
    Outcome,
    Rejected,
    Structured,
    ask_until_valid,
    read_reply,
)
from longwriter_core.llm.budget import Budget
from longwriter_core.llm.client import Endpoint, Reply
from longwriter_core.llm.concurrency import for_each, run_async
from longwriter_core.llm.errors import (
    BudgetError,
    CallError,
    ContextOverflowError,
    EndpointError,
    RefusedError,
    SkippedError,
)
from longwriter_core.llm.pool import ChatPool, Usage
from longwriter_core.llm.store import CallId, Store, StoredCall, call_key

__all__ = [
    "Budget",
    "BudgetError",
    "CallError",
    "CallId",
    "Chat",
    "ChatPool",
    "ContextOverflowError",
    "Endpoint",
    "EndpointError",
    "Outcome",
    "RefusedError",
    "Rejected",
    "Reply",
    "SkippedError",
    "Store",
    "StoredCall",
    "Structured",
    "Usage",
    "ask_until_valid",
    "call_key",
    "for_each",
    "read_reply",
    "run_async",
]
