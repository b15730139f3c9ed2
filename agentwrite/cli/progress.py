"""The progress line of a long command: share done, time left, rate, counts, and spend so far."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from longwriter_core.llm import Usage

_LOG_INTERVAL = 10.0  # seconds between two lines in a log file


class ProgressLine:
    """Use as `with ProgressLine("Writing", "text") as line`, and call `line.show(…)`.

    It appears with the first call, when the input is known to be good; the rate counts from there.
    """

    def __init__(self, what: str, unit: str) -> None:
        self._what, self._unit = what, unit
        self._bar: Any = None
        self._state = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(
        self,
        done: float,
        total: int | None,
        usage: "Usage | None" = None,
        state: str = "",
        **counts: int | str,
    ) -> None:
        """`done` of `total` units; both may be as good as known. Counts of 0 are not shown.

        The spend is that of `usage`, where the model has a list price. A new `state` is shown at
        once, because nothing else may change for hours.
        """
        if self._bar is None:
            self._bar = self._begin(done, total)
        shown = [f"{n:,} {name}" if isinstance(n, int) else n for name, n in counts.items() if n]
        if usage and usage.usd:
            from longwriter_core.llm.profiles import money

            shown.append(money(usage.usd))
        is_new, self._state = bool(state) and state != self._state, state
        self._bar.set_postfix_str(", ".join(filter(None, [*shown, state])), refresh=is_new)
        done = round(done if total is None else min(done, total), 6)
        self._bar.update(done - self._bar.n)

    def _begin(self, done: float, total: int | None) -> Any:
        from tqdm import tqdm

        return tqdm(
            desc=self._what,
            unit=self._unit,
            total=total,
            initial=done,
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else _LOG_INTERVAL,
            # a part of a text counts, so that the time left is known before the first has ended
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt} "
            "[{elapsed}<{remaining}, {rate_fmt}{postfix}]"
            if total
            else None,
        )
