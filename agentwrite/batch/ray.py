"""A Ray cluster that shares the work: its workers write, and this process alone keeps.

Every worker has the chat and the writer of a run in one process, but no disk: what it makes, and
each finished call before the next is made, goes through Ray to the process that began the run, and
into its folder. So nodes need no common file system, a worker that is lost costs the calls that it
had in flight, and the folder is that of any other run.

    ours                                   a worker
    take([("make", n, …), …])         →    writes
                                      ←    give(): ("keep", m, key, reply), ("note", …), …
    take([("answer", m, None), …])    →    goes on
                                      ←    give(): ("made", n, text)

Ray (https://docs.ray.io, an optional dependency) starts the workers, carries the messages, and
says when a worker is lost.
"""

import asyncio
import logging
import os
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Generic, TypeVar

from agentwrite.batch.queue import Calls, Made, Make, Note, Opening, no_note
from agentwrite.errors import WriteError
from agentwrite.writing.state import Instruction
from longwriter_core.errors import InputError
from longwriter_core.llm import Reply, Store, Usage

_log = logging.getLogger(__name__)
_Made = TypeVar("_Made", bound=Made)

# Workers in a row that are lost before any has finished a call: what kills them is the work.
_MOST_LOST = 3
_REACH = 10.0  # seconds until a cluster that does not answer counts as none

Message = tuple[Any, ...]  # the first says what it is, the second answers to what


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster: the one at `address`, else at RAY_ADDRESS, else of this machine."""

    address: str | None = None

    def spread(self, opening: Opening[_Made]) -> "Spread[_Made]":
        """`opening`, in every worker of the cluster."""
        return Spread(self, opening)

    def connect(self) -> Any:
        """Ray, connected. Raises InputError where there is no Ray, or no cluster."""
        try:
            import ray
        except ImportError as error:
            raise InputError(
                "--engine ray needs Ray: install longwriter[ray] here and on every node"
            ) from error
        if not ray.is_initialized():
            try:
                self._reach()
                ray.init(self.address, logging_level=logging.ERROR, log_to_driver=False)
            except (OSError, OverflowError, ValueError, RuntimeError) as error:
                where = self.address or os.environ.get("RAY_ADDRESS") or "this machine"
                raise InputError(f"no Ray cluster at {where}: {error}") from error
        return ray

    def _reach(self) -> None:
        """Raise OSError where nobody listens at the address: Ray would try for minutes."""
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        host, _, port = address.rpartition(":")
        if host and port.isdecimal() and "://" not in host:
            socket.create_connection((host.strip("[]"), int(port)), _REACH).close()


@dataclass(frozen=True)
class Spread(Generic[_Made]):
    """An opening, in every worker of a cluster."""

    cluster: Cluster
    opening: Opening[_Made]

    @asynccontextmanager
    async def open(
        self, store: Store, concurrency: int, note: Note = no_note
    ) -> AsyncIterator[tuple[Calls, Make[_Made]]]:
        """Workers, one for each CPU of the cluster; together, `concurrency` calls in flight."""
        ray = self.cluster.connect()
        number = max(1, min(int(ray.cluster_resources().get("CPU", 1)), concurrency))
        # more and more as others end: 7 calls on 3 workers are 3, 2 and 2
        shares = [(concurrency + more) // number for more in range(number)]
        workers = _Workers(ray, self.opening, store, note)
        serving = [asyncio.create_task(workers.serve(share)) for share in shares]
        try:
            yield workers, workers.make
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


@dataclass
class _Job(Generic[_Made]):
    """An instruction that is being worked on somewhere, or waits for it."""

    instruction: Instruction
    turn: int
    made: "asyncio.Future[_Made]"


class _Workers(Generic[_Made]):
    """Our side."""

    def __init__(self, ray: Any, opening: Opening[_Made], store: Store, note: Note) -> None:
        self._ray, self._opening, self._store, self._note = ray, opening, store, note
        self.usage = Usage()
        self._waiting: asyncio.Queue[_Job[_Made]] = asyncio.Queue()
        self._vain = ""
        self._lost = 0  # workers in a row

    @property
    def is_fatal(self) -> bool:
        """Whether no further call will be made."""
        return bool(self._vain)

    def give_up(self, why: str) -> None:
        """Begin nothing more; workers end what they have begun."""
        if not self._vain:
            _log.error("nothing more is begun: %s", why)
        self._vain = why
        while not self._waiting.empty():
            self._fail(self._waiting.get_nowait())

    async def make(self, instruction: Instruction, turn: int) -> _Made:
        """What a worker makes of an instruction. Raises WriteError."""
        job = _Job[_Made](instruction, turn, asyncio.get_running_loop().create_future())
        if self._vain:
            self._fail(job)
        else:
            self._waiting.put_nowait(job)
        return await job.made

    async def serve(self, share: int) -> None:
        """Keep a worker busy with `share` instructions; another takes the place of a lost one."""
        actor = self._ray.remote(_Worker)
        while not self._vain:
            begun: dict[int, _Job[_Made]] = {}
            worker = actor.options(num_cpus=1, max_concurrency=1000).remote(
                self._opening, self._store.folder, self._store.advice, share
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._give_work(worker, begun, share))
                    tasks.create_task(self._take_results(worker, begun))
            except* self._ray.exceptions.RayError as errors:
                self._is_lost(begun, errors.exceptions[0])
            except* Exception as errors:
                # raised again where the work is waited for, which else had no end
                self.give_up(f"{errors.exceptions[0]}")
                for job in begun.values():
                    if not job.made.done():
                        job.made.set_exception(errors.exceptions[0])
            finally:
                self._ray.kill(worker)

    async def _give_work(self, worker: Any, begun: dict[int, _Job[_Made]], share: int) -> None:
        await worker.open.remote()
        free = asyncio.Semaphore(share)
        for number in count():
            await free.acquire()
            job = begun[number] = await self._waiting.get()
            job.made.add_done_callback(lambda _made: free.release())
            await worker.take.remote([("make", number, job.instruction, job.turn)])

    async def _take_results(self, worker: Any, begun: dict[int, _Job[_Made]]) -> None:
        while True:
            messages: list[Message] = await worker.give.remote()
            answers = await asyncio.gather(*(self._handle(begun, *each) for each in messages))
            if found := [answer for answer in answers if answer]:
                await worker.take.remote(found)

    async def _handle(
        self, begun: dict[int, _Job[_Made]], what: str, number: int, *rest: Any
    ) -> Message | None:
        """Do what a message says; what is to be answered, if anything."""
        match what:
            case "note":
                self._note(*rest)
            case "fetch":
                return "answer", number, await self._store.fetch(*rest)
            case "keep":
                key, reply, is_ours = rest
                self._lost = 0
                if is_ours:
                    self.usage.add(reply)
                try:
                    await self._store.save(key, reply)
                except OSError as error:
                    return "answer", number, error
                return "answer", number, None
            case "made":
                (made,) = rest
                job = begun.pop(number)
                if isinstance(made, WriteError) and made.is_fatal:
                    self.give_up(made.detail)
                if isinstance(made, Exception):
                    job.made.set_exception(made)
                else:
                    job.made.set_result(made)
        return None

    def _is_lost(self, begun: dict[int, _Job[_Made]], error: BaseException) -> None:
        self._lost += 1
        why = str(error).strip().splitlines()[-1].strip()[-200:]  # of a traceback, the cause
        _log.warning("a worker was lost; what it had begun goes on at another: %s", why)
        for job in begun.values():
            self._waiting.put_nowait(job)
        if self._vain or self._lost >= _MOST_LOST:
            self.give_up(self._vain or f"{self._lost} workers in a row were lost: {why}")

    def _fail(self, job: _Job[_Made]) -> None:
        if not job.made.done():
            job.made.set_exception(WriteError("not_asked", self._vain, "cluster", is_fatal=True))


class _Worker:
    """The worker's side: a Ray actor."""

    def __init__(self, opening: Opening[Any], folder: Path, advice: str, share: int) -> None:
        self._opened = opening.open(_FarStore(folder, advice, self), share, self._note)
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._numbers = count()
        self._making: set[asyncio.Task[None]] = set()
        self._counted = 0  # calls of ours that are told of

    async def open(self) -> None:
        """Be ready to make things."""
        self._calls, self._make = await self._opened.__aenter__()

    async def give(self) -> list[Message]:
        """What is there to say, once there is something."""
        messages = [await self._outbox.get()]
        while not self._outbox.empty():
            messages.append(self._outbox.get_nowait())
        return messages

    async def take(self, messages: list[Message]) -> None:
        """Work to begin, and answers to what was asked."""
        for what, number, *rest in messages:
            if what == "make":
                task = asyncio.create_task(self._work(number, *rest))
                self._making.add(task)
                task.add_done_callback(self._making.discard)
            elif isinstance(rest[0], Exception):
                self._asked.pop(number).set_exception(rest[0])
            else:
                self._asked.pop(number).set_result(rest[0])

    def fetch(self, *keys: str) -> Awaitable[Reply | None]:
        """What the other side has under the first of `keys`."""
        return self._ask("fetch", *keys)

    def keep(self, key: str, reply: Reply) -> Awaitable[None]:
        """Hand `reply` over; done once it is on disk. Raises OSError."""
        # a judge's calls go into the same store, and are no usage of ours
        is_ours, self._counted = self._calls.usage.calls > self._counted, self._calls.usage.calls
        return self._ask("keep", key, reply, is_ours)

    def _ask(self, what: str, *rest: Any) -> Awaitable[Any]:
        """The answer of the other side."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._outbox.put_nowait((what, number, *rest))
        return answer

    def _note(self, words: int, share: float) -> None:
        self._outbox.put_nowait(("note", 0, words, share))

    async def _work(self, number: int, instruction: Instruction, turn: int) -> None:
        try:
            made = await self._make(instruction, turn)
        except WriteError as error:
            made = error
        except Exception as error:  # a slip of ours: told there with its place, as it would be here
            made = RuntimeError("".join(traceback.format_exception(error)))
        self._outbox.put_nowait(("made", number, made))


class _FarStore(Store):
    """The store of the process that began the run, as a worker sees it."""

    def __init__(self, folder: Path, advice: str, worker: _Worker) -> None:
        super().__init__(folder)
        self.advice, self._worker = advice, worker

    async def fetch(self, *keys: str) -> Reply | None:
        return await self._worker.fetch(*keys)

    async def save(self, key: str, reply: Reply) -> None:
        await self._worker.keep(key, reply)
