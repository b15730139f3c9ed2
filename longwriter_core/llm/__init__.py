"""Calls to OpenAI-compatible endpoints: client, endpoint pool, store of finished calls."""

from longwriter_core.llm.client import (
    NOT_A_URL,
    CallError,
    ContextOverflowError,
    Endpoint,
    EndpointError,
    RefusedError,
    Reply,
    SkippedError,
    new_session,
    public_url,
)
from longwriter_core.llm.concurrency import for_each, run_async
from longwriter_core.llm.pool import Chat, Usage
from longwriter_core.llm.store import Store, call_key

__all__ = [
    "NOT_A_URL",
    "CallError",
    "Chat",
    "ContextOverflowError",
    "Endpoint",
    "EndpointError",
    "RefusedError",
    "Reply",
    "SkippedError",
    "Store",
    "Usage",
    "call_key",
    "for_each",
    "new_session",
    "public_url",
    "run_async",
]
