"""An OpenAI-compatible server with mock models, for the demo, the tests and the benchmarks."""

from longwriter_core.mock_server.messages import MockReply, MockRequest
from longwriter_core.mock_server.server import (
    FAULT_CYCLE,
    FAULT_KINDS,
    JUDGE,
    WRITER,
    CallStats,
    Faults,
    MockServer,
)

__all__ = [
    "FAULT_CYCLE",
    "FAULT_KINDS",
    "JUDGE",
    "WRITER",
    "CallStats",
    "Faults",
    "MockReply",
    "MockRequest",
    "MockServer",
]
