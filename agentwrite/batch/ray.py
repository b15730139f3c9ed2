"""Spread a workload over a Ray cluster (https://docs.ray.io, an optional dependency).

Two kinds of actors do the work:

- One store actor runs on the machine that started the run, and keeps the run folder's calls.
- Worker actors, one per CPU, handle instructions with a chat pool each. They write no files: every
  call's result is saved through the store actor before it is used.

The machines therefore need no shared file system, a lost worker loses only its calls in flight, and
the run folder is the same as without Ray. The process that started the run writes the rows.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from agentwrite.batch.queue import Handler, OnSection, Pool, R, Workload
from agentwrite.errors import WriteError
from agentwrite.writing.state import Instruction
from longwriter_core.errors import InputError
from longwriter_core.llm import Reply, Store, Usage

_log = logging.getLogger(__name__)

# If this many workers are lost without a finished call in between, assume that the workload kills
# them, and stop.
_MAX_LOST = 3
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster at `address`, else at RAY_ADDRESS, else a new local one."""

    address: str | None = None

    def spread(self, workload: Workload[R]) -> "SpreadWorkload[R]":
        """Return the workload, to be run by the workers of this cluster."""
        return SpreadWorkload(self, workload)

    def connect(self) -> Any:
        """Connect and return the ray module. Raises InputError if Ray or the cluster is missing."""
        try:
            import ray
        except ImportError as error:
            raise InputError(
                "--engine ray needs Ray: install longwriter[ray] here and on every node"
            ) from error
        if not ray.is_initialized():
            try:
                self._check_address()
                ray.init(self.address, logging_level=logging.ERROR, log_to_driver=False)
            except (OSError, OverflowError, ValueError, RuntimeError) as error:
                where = self.address or os.environ.get("RAY_ADDRESS") or "this machine"
                raise InputError(f"no Ray cluster at {where}: {error}") from error
        return ray

    def _check_address(self) -> None:
        """Raise OSError if nothing listens at the address; Ray itself would retry for minutes."""
        address = self.address or os.environ.get("RAY_ADDRESS", "")
        if address.startswith("ray://"):
            raise ValueError(
                "a ray:// client is outside the cluster, and the run folder must be on a node of "
                "it: start the run on a node, with HOST:PORT"
            )
        host, _, port = address.rpartition(":")
        if host and port.isdecimal() and "://" not in host:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


@dataclass(frozen=True)
class SpreadWorkload(Generic[R]):
    """A workload that is shared by the workers of a cluster."""

    cluster: Cluster
    workload: Workload[R]

    @asynccontextmanager
    async def open(self, store: Store, concurrency: int) -> AsyncIterator[tuple[Pool, Handler[R]]]:
        """Start one worker per CPU of the cluster, with `concurrency` calls in flight in total."""
        ray = self.cluster.connect()
        number = max(1, min(int(ray.cluster_resources().get("CPU", 1)), concurrency))
        # Share the calls evenly: 3 workers get 2, 2 and 3 of 7 calls.
        shares = [(concurrency + worker) // number for worker in range(number)]
        workers = _Workers(ray, self.workload, store, shares)
        try:
            yield workers, workers.handle
        finally:
            workers.close()


@dataclass(eq=False)
class _Slot:
    """Holds a worker, which is replaced if it is lost."""

    share: int  # number of calls in flight
    worker: Any  # actor handle


class _Workers(Generic[R]):
    """The actors, managed by the process that started the run."""

    def __init__(self, ray: Any, workload: Workload[R], store: Store, shares: list[int]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._workload, self._advice = ray, workload, store.advice
        self.usage = Usage()
        self._usage_of: dict[Any, Usage] = {}  # by worker
        self._fatal = ""
        self._lost = self._saved = 0  # lost workers in a row, and calls saved before the last one
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._store = (
            ray.remote(_StoreActor)
            .options(
                num_cpus=0,
                max_concurrency=8,
                max_restarts=-1,
                max_task_retries=-1,  # saving a call twice is harmless
                scheduling_strategy=here,
            )
            .remote(store.folder.absolute())
        )
        self._slots = [_Slot(share, self._start(share)) for share in shares]
        self._free: asyncio.Queue[_Slot] = asyncio.Queue()
        for slot in self._slots:
            for _ in range(slot.share):
                self._free.put_nowait(slot)

    @property
    def is_fatal(self) -> bool:
        """Whether the pool has given up and makes no further calls."""
        return bool(self._fatal)

    def give_up(self, why: str) -> None:
        """Start no further instruction; workers finish the current ones."""
        if not self._fatal:
            _log.error("no further instruction is begun: %s", why)
        self._fatal = self._fatal or why

    async def handle(self, instruction: Instruction, number: int, on_section: OnSection) -> R:
        """Return the result of an instruction, which is retried if its worker is lost."""
        while True:
            slot = await self._free.get()
            worker = slot.worker
            try:
                if self._fatal:
                    raise WriteError("not_asked", self._fatal, "cluster", is_fatal=True)
                return await self._handle_at(worker, instruction, number, on_section)
            except self._ray.exceptions.RayTaskError:
                raise  # an error raised in the worker, with its traceback
            except self._ray.exceptions.RayError as error:
                await self._replace(slot, worker, error)
            finally:
                self._free.put_nowait(slot)

    async def _handle_at(
        self, worker: Any, instruction: Instruction, number: int, on_section: OnSection
    ) -> R:
        events = worker.handle.options(num_returns="streaming").remote(instruction, number)
        async for reference in events:
            event, usage = await reference
            self._count(worker, usage)
            if isinstance(event, _FinishedSection):
                on_section(event.words, event.share)
            elif isinstance(event, WriteError):
                if event.is_fatal:
                    self.give_up(event.detail)
                raise event
            else:
                result: R = event
        return result

    def _count(self, worker: Any, usage: Usage) -> None:
        self._usage_of[worker] = usage
        for name in vars(usage):
            setattr(
                self.usage, name, sum(getattr(other, name) for other in self._usage_of.values())
            )

    def _start(self, share: int) -> Any:
        actor = self._ray.remote(_Worker).options(num_cpus=1, max_concurrency=1000)
        return actor.remote(self._workload, self._store, self._advice, share)

    async def _replace(self, slot: _Slot, lost: Any, error: Exception) -> None:
        if slot.worker is not lost or self._fatal:
            return  # already replaced on behalf of another instruction
        self._ray.kill(lost)
        slot.worker = self._start(slot.share)
        why = (
            str(error).strip().splitlines()[-1].strip()[-200:]
        )  # the last line of the traceback is the cause
        _log.warning("a worker was lost; its texts continue on another: %s", why)
        saved = await self._store.count.remote()
        self._lost = 1 if saved > self._saved else self._lost + 1
        self._saved = saved
        if self._lost >= _MAX_LOST:
            self.give_up(f"{self._lost} workers in a row were lost: {why}")

    def close(self) -> None:
        """Stop all actors."""
        for slot in self._slots:
            self._ray.kill(slot.worker)
        self._ray.kill(self._store)


class _StoreActor:
    """The store of finished calls. It runs on the machine that has the run folder."""

    def __init__(self, folder: Path) -> None:
        self._store, self._saved = Store(folder), 0

    def get(self, *keys: str) -> Reply | None:
        """Return the reply of the first of `keys` that has one; None if none has."""
        return self._store.get(*keys)

    def save(self, key: str, reply: Reply) -> None:
        """Save a reply; it is on disk when this returns. Raises OSError."""
        self._store.put(key, reply)
        self._saved += 1

    def count(self) -> int:
        """Return the number of calls saved so far."""
        return self._saved


class _RemoteStore(Store):
    """Adapts the store actor to the interface that a chat pool uses."""

    def __init__(self, actor: Any, advice: str) -> None:
        super().__init__(Path("calls of the run folder"))  # for messages only
        self._actor, self.advice = actor, advice

    async def fetch(self, *keys: str) -> Reply | None:
        reply: Reply | None = await self._actor.get.remote(*keys)
        return reply

    async def save(self, key: str, reply: Reply) -> None:
        from ray.exceptions import RayTaskError

        try:
            await self._actor.save.remote(key, reply)
        except RayTaskError as error:
            raise error.cause from None  # an OSError, as when the disk is full


@dataclass(frozen=True)
class _FinishedSection:
    words: int
    share: float  # of the whole text


class _Worker:
    """Handles several instructions at a time."""

    def __init__(self, workload: Workload[Any], store: Any, advice: str, concurrency: int) -> None:
        self._context = workload.open(_RemoteStore(store, advice), concurrency)
        self._opening: asyncio.Task[tuple[Pool, Handler[Any]]] | None = None

    async def handle(
        self, instruction: Instruction, number: int
    ) -> AsyncIterator[tuple[Any, Usage]]:
        """Yield finished sections, then the result or its WriteError, with the usage so far."""
        if not self._opening:
            self._opening = asyncio.ensure_future(self._context.__aenter__())
        pool, handle = await self._opening
        sections: asyncio.Queue[_FinishedSection | None] = asyncio.Queue()

        def on_section(words: int, share: float) -> None:
            sections.put_nowait(_FinishedSection(words, share))

        task = asyncio.ensure_future(handle(instruction, number, on_section))
        task.add_done_callback(lambda _task: sections.put_nowait(None))
        while section := await sections.get():
            yield section, pool.usage
        try:
            result = await task
        except WriteError as error:  # raising it would lose the usage
            result = error
        yield result, pool.usage
