"""Why a call to a model gave no reply.

    CallError                 all retries failed; a later run may succeed
    ├── ContextOverflowError  the prompt does not fit into the model's context
    ├── RefusedError          the endpoint's content filter refused the prompt
    ├── EndpointError         wrong key, unknown model, no credit, not an API: fatal for all calls
    └── SkippedError          no request was made, because an earlier error was fatal

Every error of the openai library, of HTTP and of the network becomes one of these, in
`longwriter_core.llm.client`. `reason` is the word shown in results and tables.
"""


class CallError(Exception):
    """A call gave no reply, even after its retries."""

    reason = "transport_error"
    status: int | None = None  # of the HTTP answer, if there was one
    was_sent = True  # False if there was not even a connection

    @property
    def may_be_charged(self) -> bool:
        """Whether the call may cost something: nobody knows what became of it."""
        return self.status is None and self.was_sent


class ContextOverflowError(CallError):
    """The prompt does not fit into the model's context."""

    reason = "context_overflow"


class RefusedError(CallError):
    """The endpoint's content filter refused the prompt."""

    reason = "refused"


class EndpointError(CallError):
    """Wrong key, unknown model, no credit, or not an API: every call to the endpoint would fail."""


class SkippedError(CallError):
    """No request was made, because an earlier error was fatal for all calls."""

    reason = "not_asked"


class BudgetError(SkippedError):
    """No request was made, because it could exceed the remaining budget."""

    reason = "max_cost"
