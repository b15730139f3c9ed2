"""A model server for the AgentWrite benchmark: fixed latency, and little work for each call.

    python scripts/bench_server.py --delay 2      # prints its base URL once it is ready

Runs as a process of its own, so that it takes no time from the one that is measured. Not the
stand-in, which checks what it is sent: this one knows two prompts, a plan's and a step's, and
answers every call after exactly `delay` seconds with a text that depends on its prompt alone.
`GET /stats` says how many calls came in, and how many were in flight at most.
"""

import argparse
import asyncio
import hashlib
import json
import random
import signal
from dataclasses import asdict, dataclass

STEPS, WORDS = 10, 400  # of a plan; of a section
_PLAN = "\n\n".join(
    f"Paragraph {step} - Main Point: What the {step}. keeper saw - Word Count: {WORDS} words"
    for step in range(1, STEPS + 1)
)
_SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
_WORDS = [one + two + three for one in _SYLLABLES for two in _SYLLABLES for three in "nrstl"]


@dataclass
class Calls:
    """What `/stats` tells."""

    begun: int = 0
    finished: int = 0
    in_flight: int = 0
    most: int = 0  # in flight


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as an API client needs it: kept alive, one request at a time."""

    def __init__(self, delay: float, calls: Calls) -> None:
        self._delay, self._calls = delay, calls
        self._data = bytearray()
        self._answer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """A client that is killed takes its call out of flight."""
        if self._answer and not self._answer.cancelled():
            self._answer.cancel()
            self._calls.in_flight -= 1

    def data_received(self, data: bytes) -> None:
        """Answer each request once it is whole."""
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._data[:end]).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        whole = end + 4 + int(length or 0)
        if len(self._data) < whole:
            return
        body = bytes(self._data[end + 4 : whole])
        del self._data[:whole]
        if head.startswith(b"get /stats"):
            self._send(json.dumps(asdict(self._calls)).encode())
            return
        calls = self._calls
        calls.begun += 1
        calls.in_flight += 1
        calls.most = max(calls.most, calls.in_flight)
        loop = asyncio.get_running_loop()
        self._answer = loop.call_later(self._delay, self._finish, body)

    def _finish(self, body: bytes) -> None:
        self._answer = None
        self._calls.in_flight -= 1
        self._calls.finished += 1
        self._send(completion(body))

    def _send(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)


def completion(body: bytes) -> bytes:
    """The chat completion that answers a request's body."""
    is_plan = b"1 - Main Point: [" in body  # the form that a plan is asked for in
    text = _PLAN if is_plan else section(body)
    return json.dumps(
        {
            "id": "1", "object": "chat.completion", "created": 1, "model": "bench",
            "choices": [
                {
                    "index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text},
                }
            ],
            "usage": {
                "prompt_tokens": len(body) // 4, "completion_tokens": len(text) // 4,
                "total_tokens": (len(body) + len(text)) // 4,
            },
        }
    ).encode()  # fmt: skip


def section(body: bytes) -> str:
    """Word salad of WORDS words in four paragraphs, the same for the same body."""
    dice = random.Random(hashlib.blake2b(body, digest_size=8).digest())
    words = dice.choices(_WORDS, k=WORDS)
    quarters = (words[start : start + WORDS // 4] for start in range(0, WORDS, WORDS // 4))
    return "\n\n".join(" ".join(quarter).capitalize() + "." for quarter in quarters)


async def serve(delay: float, port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    loop, stop, calls = asyncio.get_running_loop(), asyncio.Event(), Calls()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    server = await loop.create_server(
        lambda: Connection(delay, calls), "127.0.0.1", port, backlog=1024
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that every call takes")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    options = parser.parse_args()
    asyncio.run(serve(options.delay, options.port))
