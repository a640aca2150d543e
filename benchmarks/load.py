"""A load of classification requests on a service over keep-alive connections, and what it took.

One process of plain asyncio, so that the load itself costs little: `Load.cpu` says how much.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil


@dataclass
class Load:
    """What came of a load: seconds to each answer [n_requests], and how many ended otherwise."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    lost: int = 0
    server_cpu: float = 0.0
    cpu: float = 0.0
    memory_mb: float = 0.0

    def told(self) -> dict[str, float]:
        """Return the figures: rates a second, milliseconds, CPU in ms a request."""
        answered = max(len(self.latencies), 1)
        p50, p99 = np.percentile(self.latencies or [float("nan")], [50, 99])
        return {
            "requests_per_second": len(self.latencies) / self.seconds,
            "p50_ms": 1000 * float(p50),
            "p99_ms": 1000 * float(p99),
            "cpu_ms": 1000 * self.server_cpu / answered,
            "load_cpu_ms": 1000 * self.cpu / answered,
            "memory_mb": self.memory_mb,
            "refused": sum(n for status, n in self.statuses.items() if status in (429, 503)),
            "errors": sum(
                n for status, n in self.statuses.items() if status not in (200, 429, 503)
            ),
            "lost": self.lost,
        }


class Client(asyncio.Protocol):
    """One connection: sends a request, and sets a future to its status when the answer is whole."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._held = b""
        self._future: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what waits."""
        self.transport = None
        if self._future is not None and not self._future.done():
            self._future.set_exception(error or ConnectionResetError())

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Send a request; the future gives its status and body."""
        assert self.transport is not None
        self._future = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._future

    def data_received(self, part: bytes) -> None:
        """Take a part of the answer, whose length its headers tell."""
        self._held += part
        head, blank, body = self._held.partition(b"\r\n\r\n")
        if not blank:
            return
        lowered = head.lower()
        at = lowered.find(b"content-length:")
        length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) >= length and self._future is not None and not self._future.done():
            self._held = b""
            self._future.set_result((int(head.split(b" ", 2)[1]), body))
            if b"connection: close" in lowered and self.transport is not None:
                self.transport.close()
                self.transport = None


def request_of(body: Any, path: str = "/classify", port: int = 80) -> bytes:
    """Return the bytes of a POST with JSON."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def closed_loop(
    port: int, requests: Sequence[bytes], clients: int, seconds: float, server: psutil.Process
) -> Load:
    """Return what came of so many clients that each send the next request after an answer."""
    load = Load(seconds)
    ends = time.perf_counter() + seconds
    numbers = iter(range(10**9))

    async def client() -> None:
        own = None
        while time.perf_counter() < ends:
            own = await _ask(load, own, port, requests[next(numbers) % len(requests)])

    with _Watched(load, server):
        await asyncio.gather(*(client() for _ in range(clients)))
    return load


async def open_loop(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, server: psutil.Process
) -> Load:
    """Return what came of requests sent at random times at that rate a second (Poisson)."""
    load = Load(seconds)
    draw = np.random.default_rng(0)
    idle: list[Client] = []
    tasks: set[asyncio.Task[None]] = set()

    async def one(request: bytes) -> None:
        own = await _ask(load, idle.pop() if idle else None, port, request)
        if own is not None:
            idle.append(own)

    with _Watched(load, server):
        started, due, number = time.perf_counter(), 0.0, 0
        while due < seconds:
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
            task = asyncio.create_task(one(requests[number % len(requests)]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += draw.exponential(1 / rate)
            number += 1
        if tasks:
            await asyncio.wait(tasks, timeout=30)
    return load


async def _ask(load: Load, client: Client | None, port: int, request: bytes) -> Client | None:
    """Send a request and note what came; return the connection if it can be used again."""
    started = time.perf_counter()
    try:
        if client is None or client.transport is None:
            loop = asyncio.get_running_loop()
            _, client = await loop.create_connection(Client, "127.0.0.1", port)
        status, _ = await client.ask(request)
    except OSError:
        load.lost += 1
        return None
    taken = time.perf_counter() - started
    load.statuses[status] = load.statuses.get(status, 0) + 1
    (load.latencies if status == 200 else load.refusals).append(taken)
    return client if client.transport is not None else None


class _Watched:
    """Notes the processor's time of the server's processes and of the load, and the memory."""

    def __init__(self, load: Load, server: psutil.Process) -> None:
        self._load, self._server = load, server

    def __enter__(self) -> None:
        self._before, self._own = cpu_of(self._server), time.process_time()

    def __exit__(self, *_: object) -> None:
        self._load.server_cpu = cpu_of(self._server) - self._before
        self._load.cpu = time.process_time() - self._own
        self._load.memory_mb = memory_of(self._server)


def family_of(server: psutil.Process) -> list[psutil.Process]:
    """Return a process and all that it has started."""
    return [server, *server.children(recursive=True)]


def cpu_of(server: psutil.Process) -> float:
    """Return the seconds of processor that the process and its children have used."""
    return sum(sum(process.cpu_times()[:2]) for process in family_of(server))


def memory_of(server: psutil.Process) -> float:
    """Return their memory in MB: what is their own, and their part of what they share (PSS)."""
    return sum(process.memory_full_info().pss for process in family_of(server)) / 1e6
