"""
The load generator, as a process of its own: `python -m tests.bench.images_load SPEC`, answers one line of JSON.

Raw sockets that stay open, one request at a time on each, the next as soon as the answer is there; every prompt is
another one. No HTTP library: one costs several times what the fastest of the measured servers costs.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from time import perf_counter, process_time
from typing import Final, cast

import msgspec
import uvloop
from tests.bench.images_wire import Message, Messages
from tests.bench.measure import Quantiles

_FAULTS_KEPT: Final = 3
_END_TIMEOUT_S: Final = 60.0


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. run: makes the prompts of one run unlike another's. expect: what the body of an answer holds."""

    port: int
    path: str
    key: str
    run: str
    status: int
    expect: str
    n_connections: int
    warm_up_s: float
    run_s: float


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came. n_all: good answers, those of the warm-up and of the last moment too. cpu_us: ours, a request."""

    rate: float
    p50_ms: float
    p99_ms: float
    n: int
    n_all: int
    n_errors: int
    faults: tuple[str, ...]
    cpu_us: float


class Load:
    """The state that all connections share."""

    def __init__(self, spec: LoadSpec) -> None:
        self.spec = spec
        self.latencies_ms: list[float] = []
        self.is_measuring = False
        self.is_over = False
        self.n_all = 0
        self.n_errors = 0
        self.faults: list[str] = []
        self._numbers = itertools.count()
        self._status = f"HTTP/1.1 {spec.status} ".encode()
        self._expect = spec.expect.encode()
        body = self._body(0)
        self._head = (
            f"POST {spec.path} HTTP/1.1\r\nhost: 127.0.0.1:{spec.port}\r\nauthorization: Bearer {spec.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode()

    def request(self) -> bytes:
        """Return the next request."""
        return self._head + self._body(next(self._numbers))

    def take(self, message: Message, *, sent_at: float) -> None:
        """Count an answer."""
        if not message.first.startswith(self._status) or self._expect not in message.body:
            self.fail(f"{message.first.decode(errors='replace')} {message.body[:300].decode(errors='replace')}")
            return
        self.n_all += 1
        if self.is_measuring:
            self.latencies_ms.append((perf_counter() - sent_at) * 1e3)

    def fail(self, fault: str) -> None:
        """Count what is no good answer."""
        self.n_errors += 1
        if len(self.faults) < _FAULTS_KEPT:
            self.faults.append(fault)

    def _body(self, number: int) -> bytes:
        return (
            f'{{"model":"bench-image","prompt":"{self.spec.run} {number:012d}: a lighthouse in the rain","n":1,'
            '"quality":"low"}'
        ).encode()


class Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, load: Load, closed: asyncio.Future[None]) -> None:
        self._load = load
        self._closed = closed
        self._messages = Messages()
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by descent
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take the answer and go on."""
        for message in self._messages.feed(data):
            self._load.take(message, sent_at=self._sent_at)
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """Count a loss unless the end is ours."""
        if not self._load.is_over:
            self._load.fail(f"the connection was lost: {error!r}")
        self._closed.set_result(None)

    def _send(self) -> None:
        assert self._transport is not None
        if self._load.is_over:
            self._transport.close()
            return
        self._sent_at = perf_counter()
        self._transport.write(self._load.request())


async def measure(spec: LoadSpec) -> LoadResult:
    """Load the server and let every request come to its end."""
    load, loop = Load(spec), asyncio.get_running_loop()
    closed = [loop.create_future() for _ in range(spec.n_connections)]
    for one in closed:
        await loop.create_connection(lambda one=one: Connection(load, one), "127.0.0.1", spec.port)  # type: ignore[misc]
    await asyncio.sleep(spec.warm_up_s)
    load.is_measuring, began, cpu_s = True, perf_counter(), process_time()
    await asyncio.sleep(spec.run_s)
    load.is_measuring, load.is_over = False, True
    elapsed_s, cpu_s = perf_counter() - began, process_time() - cpu_s
    async with asyncio.timeout(_END_TIMEOUT_S):
        await asyncio.gather(*closed)
    took = Quantiles.of(load.latencies_ms or [spec.run_s * 1e3])
    n = len(load.latencies_ms)
    return LoadResult(
        rate=n / elapsed_s,
        p50_ms=took.p50,
        p99_ms=took.p99,
        n=n,
        n_all=load.n_all,
        n_errors=load.n_errors,
        faults=tuple(load.faults),
        cpu_us=cpu_s / max(n, 1) * 1e6,
    )


def main() -> None:
    """Run what the argument says."""
    spec = msgspec.json.decode(sys.argv[1], type=LoadSpec)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.buffer.write(msgspec.json.encode(runner.run(measure(spec))) + b"\n")


if __name__ == "__main__":
    main()
