"""Run many coroutines at a time, and run a coroutine from synchronous code."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


async def for_each(
    items: Iterable[_T], work: Callable[[_T], Awaitable[None]], concurrency: int
) -> None:
    """Run `work` on every item, `concurrency` at a time; items are drawn only as workers free up.

    The first exception that `work` raises cancels the other workers and is raised here.
    """
    queue = iter(items)
    is_empty = False

    async def worker() -> None:
        nonlocal is_empty
        for item in queue:
            await work(item)
        is_empty = True

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                if is_empty:
                    break
                group.create_task(worker())
                await asyncio.sleep(0)  # send the first call before the last worker starts
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def run_async(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end. Works inside a running event loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    started: Future[Callable[[], Any]] = Future()  # cancels the run from another thread
    outcome: Future[_T] = Future()

    async def run() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task
        started.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        return await coroutine

    def work() -> None:
        try:
            outcome.set_result(asyncio.run(run()))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        thread.join()
    except BaseException:  # Ctrl-C must end the calls in flight, because they cost money
        started.result()()
        thread.join()
        raise
    return outcome.result()
