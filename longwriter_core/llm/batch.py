"""Calls through OpenAI's batch API: half the price, and replies within a day instead of seconds.

queue = BatchQueue(endpoint, store)
reply = await queue.ask(key, request)      # from many tasks at a time

Calls that are made together travel in one batch. A caller cannot tell a reply of a batch from that
of a direct call: it is read by the same code and stored under the same key, so a run may use both
and pays for nothing twice. A request whose reply cannot be used is asked again, in the next batch.

A batch survives the process that submitted it. Before it is created, a file in the store's folder
`batches` records its calls, and its metadata names that file. The file gets the batch's id as a
receipt, and is deleted once all replies are stored. So a process that is killed at any moment
leaves a file from which the next one continues; if the receipt is missing, the batch is searched
for among the account's batches by its metadata, and submitted only if it is not among them.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from longwriter_core.files import locked, write_atomically
from longwriter_core.llm.client import Endpoint, Failure, Reply
from longwriter_core.llm.errors import CallError, EndpointError
from longwriter_core.llm.store import Store

if TYPE_CHECKING:
    import openai
    from openai.types import Batch

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

DISCOUNT = 0.5  # a batch costs half of the same direct calls, at every provider that offers them
PATH = "/v1/chat/completions"
# The API's limits on one batch (platform.openai.com/docs/guides/batch).
MAX_ROWS, MAX_BYTES = 50_000, 200_000_000
MAX_FAILURES = 3  # batches in which one call may fail or expire before it is given up
QUIET = 1.0  # seconds without a further call after which a batch is submitted
_FIRST_POLL, _MAX_POLL = 0.5, 60.0  # seconds between two looks at a batch; they grow by half
_MAX_FAILED_POLLS = 20  # in a row, about a quarter of an hour
_MAX_CREATIONS = 6  # attempts to create one batch
_MAX_DOWNLOADS = 4  # attempts to read the files of one batch
# Seconds after which a batch that was being created when its process died is listed, if it exists.
_LISTED_AFTER = 10.0
_DAY = 86_400.0
_TAG = "longwriter"  # the metadata field that names a batch's file
_ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass
class _Submission:
    """A batch, as the file in the store's folder records it."""

    endpoint: str
    file: str  # its uploaded requests
    keys: list[str]  # of the store; each is also the custom_id of its request
    created: float  # Unix time before it was created
    batch: str | None = None  # its id; None until the endpoint has confirmed it
    path: Path = field(default_factory=Path)

    def save(self) -> None:
        """Write the record. Raises OSError."""
        record = {name: value for name, value in asdict(self).items() if name != "path"}
        write_atomically(self.path, json.dumps(record).encode())

    @classmethod
    def load(cls, path: Path) -> "_Submission":
        """Read a record. Raises FileNotFoundError, or EndpointError if it is damaged."""
        try:
            return cls(**json.loads(path.read_bytes()), path=path)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, TypeError) as error:
            raise EndpointError(
                f"cannot read {path} ({error}), which records a submitted batch: repair it, or "
                "delete it to submit the calls of that batch again"
            ) from error

    @property
    def lock(self) -> Path:
        """The file that is locked while the batch is created."""
        return self.path.with_suffix(".lock")

    @property
    def name(self) -> str:
        """The batch in a message."""
        return self.batch or f"the batch {self.path.stem}"

    def delete(self) -> None:
        """Delete the record: the replies are stored, or there is no such batch."""
        self.path.unlink(missing_ok=True)
        self.lock.unlink(missing_ok=True)


@dataclass
class _Call:
    """A call that somebody waits for."""

    request: Mapping[str, Any]
    reply: asyncio.Future[Reply]
    failures: int = 0


class BatchQueue:
    """Collects calls to one endpoint into batches. `close` stops the collecting, not the batches.

    `show` gets the state of the batches in words. While `is_held` returns true, as it does while a
    writer still writes what is to be judged, a batch waits for further calls until it is full.
    """

    def __init__(self, endpoint: Endpoint, store: Store) -> None:
        self._endpoint, self._store = endpoint, store
        self._folder = store.folder / "batches"
        self.show: Callable[[str], None] = lambda _state: None
        self.is_held: Callable[[], bool] = lambda: False
        self._calls: dict[str, _Call] = {}
        self._unsent: dict[str, bytes] = {}  # key -> line of the next batch's file
        self._last_call = 0.0  # on the monotonic clock
        self._submitted: dict[str, _Submission] | None = None  # by key; read from disk once
        self._states: dict[Path, tuple[str, int, int, int]] = {}  # status; done, failed, all
        self._tasks: set[asyncio.Task[None]] = set()
        self._submitting: asyncio.Task[None] | None = None
        # An account may queue only so many tokens. Once a batch exceeds that, batches are halved
        # and submitted one after the other.
        self._max_rows, self._one_by_one = MAX_ROWS, False

    async def close(self) -> None:
        """End all waiting. The next run collects the replies of the batches."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def has(self, key: str) -> bool:
        """Whether an earlier run has submitted this call in a batch and not collected it."""
        return key in self._earlier()

    async def ask(self, key: str, request: Mapping[str, Any]) -> Reply:
        """The reply to a call, which is then in the store under `key`.

        Raises CallError, or OSError if the store cannot be written.
        """
        call = _Call(request, asyncio.get_running_loop().create_future())
        self._calls[key] = call
        try:
            if submission := self._earlier().get(key):
                self._follow(submission)
            else:
                self._add(key)
            return await call.reply
        finally:
            self._calls.pop(key, None)
            self._unsent.pop(key, None)

    def _earlier(self) -> dict[str, _Submission]:
        if self._submitted is None:
            self._submitted = {}
            for path in sorted(self._folder.glob("*.json")):
                with contextlib.suppress(FileNotFoundError):  # another process has collected it
                    submission = _Submission.load(path)
                    if submission.endpoint == self._endpoint.url:
                        self._submitted |= dict.fromkeys(submission.keys, submission)
        return self._submitted

    def _add(self, key: str) -> None:
        """Put a call into the next batch."""
        call = self._calls[key]
        if stored := self._store.get(key):  # by another process
            call.reply.set_result(stored)
            return
        body = self._endpoint.adapted(call.request)
        line = {"custom_id": key, "method": "POST", "url": PATH, "body": body}
        self._unsent[key] = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self._last_call = time.monotonic()
        if not self._submitting or self._submitting.done():
            self._submitting = self._start(self._submit_all(), ())

    def _start(self, work: Coroutine[Any, Any, None], keys: Iterable[str]) -> asyncio.Task[None]:
        """Run `work`, whose failure is raised by the calls of `keys`."""

        async def run() -> None:
            try:
                await work
            except Exception as error:
                self._fail(keys, error)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _fail(self, keys: Iterable[str], error: Exception) -> None:
        for key in keys:
            if (call := self._calls.get(key)) and not call.reply.done():
                call.reply.set_exception(error)

    async def _submit_all(self) -> None:
        while self._unsent:
            while not self._is_full() and (
                self.is_held() or time.monotonic() - self._last_call < QUIET
            ):
                await asyncio.sleep(QUIET / 4)
            while self._one_by_one and self._states:
                await asyncio.sleep(QUIET / 4)
            chunk = self._next_chunk()
            try:
                if chunk:
                    await self._submit(chunk)
            except Exception as error:
                self._fail(chunk, error)

    def _is_full(self) -> bool:
        return (
            len(self._unsent) >= self._max_rows or sum(map(len, self._unsent.values())) >= MAX_BYTES
        )

    def _next_chunk(self) -> dict[str, bytes]:
        """Calls that fit one batch, which is for one model; they leave the queue."""
        chunk: dict[str, bytes] = {}
        size, model = 0, None
        for key, line in self._unsent.items():
            size += len(line)
            asked = self._calls[key].request["model"]
            if chunk and (len(chunk) >= self._max_rows or size > MAX_BYTES or asked != model):
                break
            chunk[key], model = line, asked
        for key in chunk:
            del self._unsent[key]
        return chunk

    async def _submit(self, chunk: Mapping[str, bytes]) -> None:
        self.show(f"submitting {len(chunk):,} calls")
        name = uuid4().hex
        upload = f"{_TAG}-{name}.jsonl", b"".join(chunk.values())
        try:
            uploaded = await self._request(
                lambda client: client.files.create(file=upload, purpose="batch"), "id"
            )
        except CallError as error:
            raise EndpointError(self._without_batches(error)) from error
        submission = _Submission(
            self._endpoint.url, uploaded.id, list(chunk), time.time(),
            path=self._folder / f"{name}.json",
        )  # fmt: skip
        await self._create(submission)
        _log.info("%s: %d calls submitted", submission.batch, len(chunk))
        self._follow(submission)

    def _without_batches(self, error: CallError) -> str:
        if error.status in (404, 405, 501):
            return f"{self._endpoint.url} has no batch API ({error}): leave out --batch"
        return str(error)

    async def _create(self, submission: _Submission) -> None:
        """Record the batch, create it, and record the receipt."""

        async def create(client: "openai.AsyncOpenAI") -> Any:
            return await client.with_options(max_retries=0).batches.create(
                completion_window="24h",
                endpoint=PATH,  # type: ignore[arg-type]
                input_file_id=submission.file,
                metadata={_TAG: submission.path.stem},
            )

        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(submission.lock):
            submission.save()
            for attempt in range(1, _MAX_CREATIONS + 1):
                try:
                    submission.batch = (await self._request(create, "status")).id
                except CallError as error:
                    # Without an answer, or with a server error, the batch may exist all the same.
                    is_refused = error.status is not None and error.status < 500
                    if is_refused or not await self._find(submission):
                        if attempt == _MAX_CREATIONS or (is_refused and error.status != 429):
                            submission.delete()
                            raise EndpointError(self._without_batches(error)) from error
                        await asyncio.sleep(min(2**attempt / 4, 8))
                if submission.batch:
                    submission.save()
                    return

    async def _find(self, submission: _Submission) -> bool:
        """Look for a batch without a receipt among the account's; False if it does not exist."""

        async def find(client: "openai.AsyncOpenAI") -> str | None:
            async for batch in client.batches.list(limit=100):  # the newest first
                if (batch.metadata or {}).get(_TAG) == submission.path.stem:
                    return batch.id
                if batch.created_at < submission.created - _DAY:
                    break
            return None

        while True:
            submission.batch = await self._request(find)
            if submission.batch:
                submission.save()
                return True
            if time.time() > submission.created + _LISTED_AFTER:
                return False
            await asyncio.sleep(QUIET)

    def _follow(self, submission: _Submission) -> None:
        """Wait for a batch, once however many of its calls are waited for."""
        if submission.path not in self._states:
            self._states[submission.path] = "submitted", 0, 0, len(submission.keys)
            self._start(self._finish(submission), submission.keys)

    async def _finish(self, submission: _Submission) -> None:
        """Wait for a batch, store its replies, and answer its calls."""
        try:
            ended = await self._wait(submission) if await self._has_receipt(submission) else None
            outcomes = await self._collect(submission, ended) if ended else {}
        finally:
            del self._states[submission.path]
            for key in submission.keys:
                self._earlier().pop(key, None)
        submission.delete()
        if ended and ended.status == "failed":
            self._halve(submission, ended)
        if ended and ended.status == "expired":
            done = sum(isinstance(outcome, Reply) for outcome in outcomes.values())
            _log.warning(
                "%s expired; %d of %d calls are done and kept",
                submission.name, done, len(submission.keys),
            )  # fmt: skip
        for key in submission.keys:
            if (call := self._calls.get(key)) and not call.reply.done():
                self._settle(key, call, outcomes.get(key), submission, ended)

    async def _has_receipt(self, submission: _Submission) -> bool:
        """Whether the batch exists; waits for another process that is about to create it."""
        while not submission.batch:
            try:
                with locked(submission.lock):
                    submission.batch = _Submission.load(submission.path).batch
                    if not submission.batch and not await self._find(submission):
                        _log.warning("%s was never submitted: its calls are now", submission.name)
                        return False
            except FileNotFoundError:  # the other process has collected it
                return False
            except BlockingIOError:
                await asyncio.sleep(QUIET)
        return True

    async def _wait(self, submission: _Submission) -> "Batch":
        """The batch, once it has ended."""
        pause, failures = _FIRST_POLL, 0
        while True:
            try:
                state: Batch = await self._request(
                    lambda client: client.batches.retrieve(str(submission.batch)), "status"
                )
                failures = 0
            except EndpointError as error:
                raise EndpointError(self._lost(submission, error)) from error
            except CallError as error:
                failures += 1
                if failures >= _MAX_FAILED_POLLS:
                    raise EndpointError(
                        f"{error}; {submission.name} continues, and a rerun collects its replies"
                    ) from error
            else:
                counts = state.request_counts
                done, failed = (counts.completed, counts.failed) if counts else (0, 0)
                self._states[submission.path] = state.status, done, failed, len(submission.keys)
                self._show_states()
                if state.status in _ENDED:
                    return state
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _MAX_POLL)

    def _lost(self, submission: _Submission, problem: object) -> str:
        submitted = time.strftime("%Y-%m-%d %H:%M", time.localtime(submission.created))
        return (
            f"cannot read {submission.name}, submitted on {submitted} ({problem}): rerun with the "
            f"key that submitted it, or delete {submission.path} to submit its calls again"
        )

    def _show_states(self) -> None:
        states = list(self._states.values())
        done, failed, calls = (sum(state[n] for state in states) for n in (1, 2, 3))  # type: ignore[misc]
        kinds = ", ".join(
            f"{n} {'batch' if n == 1 else 'batches'} {kind.replace('_', ' ')}"
            for kind, n in Counter(kind for kind, *_ in states).items()
        )
        self.show(f"{kinds}, {done:,} of {calls:,} done" + (f", {failed:,} failed" * bool(failed)))

    async def _collect(self, submission: _Submission, ended: "Batch") -> dict[str, Reply | Failure]:
        """Store all replies of a batch; key -> outcome.

        Its files are read again if they are incomplete, as when a gateway answers with a page of
        its own. Raises EndpointError if they stay so: the record must then be kept, because calls
        that are paid for would be submitted again. Raises OSError if a reply cannot be stored.
        """
        problem = ""
        for attempt in range(_MAX_DOWNLOADS):
            if attempt:
                await asyncio.sleep(_FIRST_POLL * 3**attempt)
                ended = await self._wait(submission)
            outcomes, problem = await self._read_files(submission, ended)
            if not problem:
                return outcomes
        raise EndpointError(self._lost(submission, problem))

    async def _read_files(
        self, submission: _Submission, ended: "Batch"
    ) -> tuple[dict[str, Reply | Failure], str]:
        """The outcomes in a batch's files, whose replies are then stored, and what is missing."""
        outcomes: dict[str, Reply | Failure] = {}
        own, unreadable, answered = set(submission.keys), 0, set[str]()
        for file in filter(None, (ended.output_file_id, ended.error_file_id)):
            for line in await self._download(submission, file):
                try:
                    row = json.loads(line)
                    key, outcome = row["custom_id"], self._outcome(row)
                except (ValueError, LookupError, TypeError, AttributeError) as error:
                    _log.info("%s: cannot read a line of %s (%r)", submission.name, file, error)
                    unreadable += 1
                    continue
                if key in own:
                    answered.add(key)
                if key in own and outcome:
                    outcomes[key] = outcome
                    if isinstance(outcome, Reply):
                        self._store.put(key, outcome)
            await asyncio.sleep(0)
        done = ended.request_counts.completed if ended.request_counts else 0
        if unreadable:
            return outcomes, f"{unreadable:,} lines of its files are not replies"
        if len(answered) < done:
            return outcomes, f"its files have {len(answered):,} of {done:,} replies"
        return outcomes, ""

    async def _download(self, submission: _Submission, file: str) -> list[bytes]:
        """The lines of a file that a batch has left."""
        try:
            content = await self._request(lambda client: client.files.content(file), "content")
        except CallError as error:
            raise EndpointError(self._lost(submission, error)) from error
        return [line for line in content.content.splitlines() if line.strip()]

    def _outcome(self, row: Mapping[str, Any]) -> Reply | Failure | None:
        """The outcome in a line of a batch's output; None if the call was not made."""
        if response := row.get("response"):
            call = self._calls.get(row["custom_id"])
            request = self._endpoint.adapted(call.request) if call else {}
            body = json.dumps(response["body"]).encode()
            return self._endpoint.read_answer(request, response["status_code"], body)
        error = row["error"]
        if error["code"] in ("batch_expired", "batch_cancelled"):
            return None
        return Failure(CallError(f"{error['code']}: {error['message']}"), may_pass=True)

    def _halve(self, submission: _Submission, ended: "Batch") -> None:
        """Choose smaller batches if this one had too many tokens. Raises EndpointError if not."""
        errors = (ended.errors and ended.errors.data) or []
        is_too_long = any(error.code == "token_limit_exceeded" for error in errors)
        said = "; ".join(dict.fromkeys(str(error.message or error.code) for error in errors))
        if not is_too_long or len(submission.keys) == 1:
            error = EndpointError(f"{self._endpoint.url} refused {submission.name}: {said}")
            self._fail(submission.keys, error)
            return
        self._max_rows, self._one_by_one = (len(submission.keys) + 1) // 2, True
        _log.warning(
            "%s: %s; batches of up to %d calls now follow one another",
            submission.name, said, self._max_rows,
        )  # fmt: skip

    def _settle(
        self,
        key: str,
        call: _Call,
        outcome: Reply | Failure | None,
        submission: _Submission,
        ended: "Batch | None",
    ) -> None:
        """Answer a call of an ended batch, or put it into the next one."""
        if isinstance(outcome, Reply):
            call.reply.set_result(outcome)
            return
        status = ended.status if ended else ""
        if status == "cancelled":
            call.reply.set_exception(CallError(f"{submission.name} was cancelled"))
            return
        if not outcome:
            what = "expired" if status == "expired" else "ended without an answer to the call"
            outcome = Failure(CallError(f"{submission.name} {what}"), may_pass=True)
        if status in ("completed", "expired"):
            call.failures += 1
        if outcome.may_pass and call.failures < MAX_FAILURES:
            self._add(key)
        else:
            call.reply.set_exception(outcome.error)

    async def _request(
        self, send: Callable[["openai.AsyncOpenAI"], Awaitable[_T]], expected: str = ""
    ) -> _T:
        """An answer of the API that has the attribute `expected`. Raises CallError.

        The library retries what it may retry; a batch's creation it may not.
        """

        async def retried(client: "openai.AsyncOpenAI") -> _T:
            return await send(client.with_options(max_retries=5, timeout=600))

        try:
            answer = await self._endpoint.call(retried)
            if expected:
                getattr(answer, expected)  # an HTML page comes as its text
            return answer
        except (ValueError, TypeError, AttributeError) as error:
            raise CallError(f"{self._endpoint.url} did not answer like a batch API") from error
