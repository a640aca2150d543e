"""Start, stop and hand over: when the service is ready, and what becomes of its requests."""

import asyncio
import json
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

log = logging.getLogger("ekiben.serve")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HAND_OVER = signal.SIGUSR1
"""Tells a worker that another one listens on its socket now."""
LEASH = "EKIBEN_LEASH"
"""Variable with the number of a socket whose other end is told "ready", and held by who may end us."""
GOLDEN_TOLERANCE = 1e-4  # of a probability; other processors round their sums otherwise
_REFUSAL = b'{"error": "the service is stopping; send the request again", "details": []}'
_MOST_DISCARDED = 1 << 20  # bytes of a refused request's body
_LONGEST_DISCARDING = 1.0  # seconds
_SECONDS_BETWEEN_LOOKS = 0.05
# What uvloop says of a connection that is gone. Of requests sent at once uvicorn tells the last alone
# that its caller has left, and writes the answers of the others; ASGI has that raise no such error.
_CLOSED = "the handler is closed"


class GoldenError(Exception):
    """The loaded model does not answer as it did when the Bento was built."""


class Answer(Protocol):
    """What is compared of an answer."""

    @property
    def probabilities(self) -> list[float]:
        """The probability of every label."""


class Limits(Protocol):
    """What the settings say of stopping."""

    @property
    def drain_seconds(self) -> int:
        """Seconds that accepted requests may still take."""

    @property
    def hand_over_seconds(self) -> int:
        """Seconds that they may take where another release is served in the place of this one."""

    @property
    def refuse_ms(self) -> int:
        """Milliseconds for which new requests are refused in words, though none is in flight."""


class Lifecycle:
    """The state of the service, and how many accepted requests are not answered yet.

    SIGTERM and SIGINT drain: accepted requests finish, new ones are refused, the server ends. A
    second SIGINT ends it at once. `HAND_OVER` closes the listening socket alone, answers what comes
    on the connections that are open, closes each after its answer, and ends after the last. It has
    longer for that than for draining: nobody waits for it to end.
    """

    def __init__(self, limits: Limits) -> None:
        self.state: Literal["starting", "ready", "draining"] = "starting"
        self.in_flight = 0
        self.closes_connections = False
        self._limits = limits
        self._stopping: asyncio.Task[None] | None = None
        self._ends_at = math.inf  # on the loop's clock

    async def start(
        self, classify: Callable[[list[str]], Awaitable[Sequence[Answer]]], golden: Path
    ) -> None:
        """Warm the model up and take the signals over; ready once its golden answers are right.

        Raises:
            GoldenError: if one of them is not; the server must not start then.
        """
        await check_golden(classify, golden)
        self.state = "ready"
        self._take_signals()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as in flight."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def _take_signals(self) -> None:
        """Stand before uvicorn's handlers, where there are any: a test may have no server."""
        if threading.current_thread() is not threading.main_thread():
            return
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if server is None:
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number, server)
        loop.add_signal_handler(HAND_OVER, self._on_signal, HAND_OVER, server)
        if LEASH in os.environ:
            self._leash = socket.socket(fileno=int(os.environ.pop(LEASH)))
            self._leash.set_inheritable(False)
            self._leash.send(b"ready")
            loop.add_reader(self._leash, self._let_go, self._leash, server)

    def _let_go(self, leash: socket.socket, server: Any) -> None:
        """Drain, since whoever holds the other end has ended."""
        asyncio.get_running_loop().remove_reader(leash)
        self._on_signal(signal.SIGTERM, server)

    def _on_signal(self, number: signal.Signals, server: Any) -> None:
        """Start to stop; a signal that comes while it stops refuses what comes, or forces the end."""
        if number != HAND_OVER:
            self.state = "draining"
        self.closes_connections = True
        loop, limits = asyncio.get_running_loop(), self._limits
        seconds = limits.hand_over_seconds if number == HAND_OVER else limits.drain_seconds
        self._ends_at = min(self._ends_at, loop.time() + seconds)
        if self._stopping is None:
            finished = self._handed_over(server) if number == HAND_OVER else self._drained(server)
            self._stopping = loop.create_task(self._stop(server, loop.create_task(finished)))
        elif number == signal.SIGINT:
            server.handle_exit(number, None)
            server.handle_exit(number, None)  # the second is what forces it

    async def _stop(self, server: Any, finished: "asyncio.Task[None]") -> None:
        """Let the server end when it has finished, or when its time, which may be cut, is over."""
        loop = asyncio.get_running_loop()
        while not finished.done() and loop.time() < self._ends_at:
            await asyncio.wait({finished}, timeout=_SECONDS_BETWEEN_LOOKS)
        if not finished.done():
            finished.cancel()
            log.warning("stopping with %d requests in flight", self.in_flight)
            server.force_exit = True
        server.handle_exit(signal.SIGTERM, None)

    async def _drained(self, server: Any) -> None:
        await asyncio.sleep(self._limits.refuse_ms / 1000)
        while self.in_flight:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        # What is in the queue of a socket that closes is reset. So keep it empty: what finds it full
        # knocks again a second later, and is refused. A worker that starts makes it long again.
        for number in listening_on(server):
            with socket.socket(fileno=os.dup(number)) as listening:
                listening.listen(0)
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        stop_listening(server)
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)  # for who was let in last

    async def _handed_over(self, server: Any) -> None:
        stop_listening(server)
        # One that is idle is closed by uvicorn's keep-alive timeout.
        while server.server_state.connections:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)


def listening_on(server: Any) -> list[int]:
    """Return the file descriptors that a server of uvicorn listens on."""
    return [each.fileno() for listening in server.servers for each in listening.sockets]


def stop_listening(server: Any) -> None:
    """Have a server of uvicorn take no connection any more; those that are open stay."""
    for listening in server.servers:
        listening.close()


class Counted:
    """ASGI middleware, the outermost: counts requests, and refuses them while the service drains.

    `/readyz` is refused with them, and `/livez` alone is not. An answer that is given while the
    service stops tells the client to close the connection.
    """

    def __init__(self, app: App, lifecycle: Lifecycle) -> None:
        self.app, self.lifecycle = app, lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 503."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_if_open(message: Message) -> None:
            try:
                await send(message)
            except RuntimeError as error:
                if _CLOSED not in str(error):
                    raise

        if self.lifecycle.state == "draining" and scope["path"] != "/livez":
            await refuse(receive, send_if_open)
        else:

            async def send_closing(message: Message) -> None:
                if self.lifecycle.closes_connections and message["type"] == "http.response.start":
                    headers = [*message.get("headers", ()), (b"connection", b"close")]
                    message = {**message, "headers": headers}
                await send_if_open(message)

            with self.lifecycle.request():
                await self.app(scope, receive, send_closing)


async def refuse(receive: Receive, send: Send) -> None:
    """Answer 503 in words, after the request's body, which would reset the connection unread."""
    await discard(receive)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})


async def discard(receive: Receive) -> None:
    """Read up to 1 MiB of a body for up to a second, so that its sender sees the answer."""
    left = _MOST_DISCARDED
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_DISCARDING):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break


async def check_golden(
    classify: Callable[[list[str]], Awaitable[Sequence[Answer]]], golden: Path
) -> None:
    """Classify the golden texts, and compare with the probabilities [n_texts, n_labels] beside them.

    Where the file is missing, as in older Bentos, the model is warmed up and nothing is compared.

    Raises:
        GoldenError: if a text has another label, or a probability differs by more than 1e-4.
    """
    if not golden.exists():
        await classify(["warm up"])
        return
    recorded = json.loads(golden.read_text(encoding="utf-8"))
    answers = await classify(recorded["texts"])
    for number, (answer, expected) in enumerate(
        zip(answers, recorded["probabilities"], strict=True)
    ):
        got = answer.probabilities
        difference = max(abs(one - other) for one, other in zip(got, expected, strict=True))
        if difference > GOLDEN_TOLERANCE or got.index(max(got)) != expected.index(max(expected)):
            raise GoldenError(
                f"the model answers golden text {number} with probabilities {got}; expected "
                f"{expected}, as recorded when it was built; the files, the libraries or the "
                "processor differ: build it anew"
            )


def respawn_quickly() -> None:
    """Have `bentoml serve` look after its workers every second, and in a container too.

    Its arbiter looks every 10 s by default, and in a container leaves a dead worker to whoever runs
    the container. It imports the service before it makes the arbiter; a worker makes none.
    """
    os.environ.pop("BENTOML_CONTAINERIZED", None)
    if "--worker-id" in sys.argv:
        return
    from bentoml._internal.utils import circus

    arbiter: Any = circus.Arbiter
    made = arbiter.__init__

    def attentive(self: Any, *args: Any, **settings: Any) -> None:
        made(self, *args, **{**settings, "check_delay": 1.0})

    arbiter.__init__ = attentive
