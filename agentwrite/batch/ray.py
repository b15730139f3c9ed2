"""Spread a workload over a Ray cluster (https://docs.ray.io, an optional dependency).

Two kinds of actors do the work:

- One store actor, on the machine of the process that began the run, has the run folder's calls.
- Worker actors, one per CPU, have their own chat pool and handle instructions. They have no disk:
  before a call's result is used, it is saved through the store actor.

So the machines need no common file system, a lost worker costs only the calls that it had in
flight, and the run folder is the same as without Ray. This process writes the rows.
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

# After so many lost workers without a finished call in between, the work itself is the cause.
_MAX_LOST = 3
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Cluster:
    """The Ray cluster at `address`, else at RAY_ADDRESS, else a new one on this machine."""

    address: str | None = None

    def spread(self, workload: Workload[R]) -> "SpreadWorkload[R]":
        """The workload, run by the workers of this cluster."""
        return SpreadWorkload(self, workload)

    def connect(self) -> Any:
        """The ray module, connected. Raises InputError if Ray or the cluster is missing."""
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
        """Raise OSError if nothing listens at the address, since Ray would try for minutes."""
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
    """A workload that the workers of a cluster share."""

    cluster: Cluster
    workload: Workload[R]

    @asynccontextmanager
    async def open(self, store: Store, concurrency: int) -> AsyncIterator[tuple[Pool, Handler[R]]]:
        """One worker for each CPU of the cluster, with `concurrency` calls in flight in all."""
        ray = self.cluster.connect()
        number = max(1, min(int(ray.cluster_resources().get("CPU", 1)), concurrency))
        # As even as possible: 7 calls for 3 workers are 2, 2 and 3.
        shares = [(concurrency + worker) // number for worker in range(number)]
        workers = _Workers(ray, self.workload, store, shares)
        try:
            yield workers, workers.handle
        finally:
            workers.close()


@dataclass(eq=False)
class _Slot:
    """A place for a worker, which is replaced when it is lost."""

    share: int  # of the calls in flight
    worker: Any  # actor handle


class _Workers(Generic[R]):
    """The actors, as the process that began the run sees them."""

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
                max_task_retries=-1,  # saving a call again does no harm
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
        """Whether no further call will be made."""
        return bool(self._fatal)

    def give_up(self, why: str) -> None:
        """Begin nothing more; workers finish what they have begun."""
        if not self._fatal:
            _log.error("no further instruction is begun: %s", why)
        self._fatal = self._fatal or why

    async def handle(self, instruction: Instruction, number: int, on_section: OnSection) -> R:
        """The result of an instruction. A lost worker's instruction goes to another one."""
        while True:
            slot = await self._free.get()
            worker = slot.worker
            try:
                if self._fatal:
                    raise WriteError("not_asked", self._fatal, "cluster", is_fatal=True)
                return await self._handle_at(worker, instruction, number, on_section)
            except self._ray.exceptions.RayTaskError:
                raise  # an error in our code, with the worker's traceback
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
            if isinstance(event, _Section):
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
            setattr(self.usage, name, sum(getattr(each, name) for each in self._usage_of.values()))

    def _start(self, share: int) -> Any:
        actor = self._ray.remote(_Worker).options(num_cpus=1, max_concurrency=1000)
        return actor.remote(self._workload, self._store, self._advice, share)

    async def _replace(self, slot: _Slot, lost: Any, error: Exception) -> None:
        if slot.worker is not lost or self._fatal:
            return  # another instruction of this worker has replaced it
        self._ray.kill(lost)
        slot.worker = self._start(slot.share)
        why = str(error).strip().splitlines()[-1].strip()[-200:]  # the cause ends the traceback
        _log.warning("a worker was lost; its texts continue on another: %s", why)
        saved = await self._store.count.remote()
        self._lost = 1 if saved > self._saved else self._lost + 1
        self._saved = saved
        if self._lost >= _MAX_LOST:
            self.give_up(f"{self._lost} workers in a row were lost: {why}")

    def close(self) -> None:
        """End all actors."""
        for slot in self._slots:
            self._ray.kill(slot.worker)
        self._ray.kill(self._store)


class _StoreActor:
    """The store of finished calls. It runs on the machine that has the run folder."""

    def __init__(self, folder: Path) -> None:
        self._store, self._saved = Store(folder), 0

    def get(self, *keys: str) -> Reply | None:
        """The reply under the first of `keys` that has one."""
        return self._store.get(*keys)

    def save(self, key: str, reply: Reply) -> None:
        """Write a reply; it is on disk when this returns. Raises OSError."""
        self._store.put(key, reply)
        self._saved += 1

    def count(self) -> int:
        """The number of calls saved so far."""
        return self._saved


class _RemoteStore(Store):
    """The store actor, with the interface that a chat pool uses."""

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
class _Section:
    words: int
    share: float  # of the whole text


class _Worker:
    """Handles instructions, several at a time."""

    def __init__(self, workload: Workload[Any], store: Any, advice: str, concurrency: int) -> None:
        self._context = workload.open(_RemoteStore(store, advice), concurrency)
        self._opening: asyncio.Task[tuple[Pool, Handler[Any]]] | None = None

    async def handle(
        self, instruction: Instruction, number: int
    ) -> AsyncIterator[tuple[Any, Usage]]:
        """Each finished section, then the result or its WriteError; with the usage so far."""
        if not self._opening:
            self._opening = asyncio.ensure_future(self._context.__aenter__())
        pool, handle = await self._opening
        sections: asyncio.Queue[_Section | None] = asyncio.Queue()

        def on_section(words: int, share: float) -> None:
            sections.put_nowait(_Section(words, share))

        task = asyncio.ensure_future(handle(instruction, number, on_section))
        task.add_done_callback(lambda _task: sections.put_nowait(None))
        while section := await sections.get():
            yield section, pool.usage
        try:
            result = await task
        except WriteError as error:  # if it were raised, the usage would be lost
            result = error
        yield result, pool.usage
