"""The lifecycle of the service: its golden answers, and what becomes of requests while it stops."""

import asyncio
import json
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bentos.text_classifier.lifecycle import (
    HAND_OVER,
    Counted,
    GoldenError,
    Lifecycle,
    Message,
    Receive,
    Scope,
    Send,
    check_golden,
)


@dataclass(frozen=True)
class Limits:
    drain_seconds: int = 60
    hand_over_seconds: int = 60
    refuse_ms: int = 0


@dataclass(frozen=True)
class Answer:
    probabilities: list[float]


@dataclass
class Model:
    """A model that knows what it was asked."""

    probabilities: list[list[float]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, texts: list[str]) -> list[Answer]:
        self.asked += texts
        return [Answer(row) for row in self.probabilities]


def recorded(folder: Path, *probabilities: list[float]) -> Path:
    """Write a golden file of that many texts."""
    file = folder / "golden.json"
    texts = [f"text {number}" for number in range(len(probabilities))]
    file.write_text(json.dumps({"texts": texts, "probabilities": probabilities}), encoding="utf-8")
    return file


def test_answers_as_they_were_recorded_pass(tmp_path: Path) -> None:
    model = Model([[0.90005, 0.09995], [0.2, 0.8]])
    golden = recorded(tmp_path, [0.9, 0.1], [0.2, 0.8])
    lifecycle = Lifecycle(Limits())
    asyncio.run(lifecycle.start(model, golden))
    assert lifecycle.state == "ready"
    assert model.asked == ["text 0", "text 1"]


@pytest.mark.parametrize("got", [[0.8998, 0.1002], [0.1, 0.9]])
def test_another_answer_is_told_and_never_ready(tmp_path: Path, got: list[float]) -> None:
    golden = recorded(tmp_path, [0.2, 0.8], [0.9, 0.1])
    lifecycle = Lifecycle(Limits())
    with pytest.raises(GoldenError, match=r"golden text 1 .*expected \[0.9, 0.1\]"):
        asyncio.run(lifecycle.start(Model([[0.2, 0.8], got]), golden))
    assert lifecycle.state == "starting"


def test_another_label_within_the_tolerance_is_told_too(tmp_path: Path) -> None:
    golden = recorded(tmp_path, [0.50001, 0.49999])
    with pytest.raises(GoldenError, match="golden text 0"):
        asyncio.run(check_golden(Model([[0.49999, 0.50001]]), golden))


def test_a_bento_without_golden_answers_is_warmed_up(tmp_path: Path) -> None:
    model = Model([[1.0]])
    asyncio.run(check_golden(model, tmp_path / "golden.json"))
    assert len(model.asked) == 1


@dataclass
class Client:
    """What one request was answered; its body comes in the given parts."""

    parts: list[bytes] = field(default_factory=lambda: [b"{}"])
    sent: list[Message] = field(default_factory=list)
    received: int = 0

    async def receive(self) -> Message:
        part = self.parts[self.received]
        self.received += 1
        more = self.received < len(self.parts)
        return {"type": "http.request", "body": part, "more_body": more}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    async def ask(self, app: Counted, path: str = "/classify") -> None:
        await app({"type": "http", "path": path}, self.receive, self.send)


@dataclass
class App:
    """An application that answers when it is let."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.set()
        await self.open.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"[]"})


@dataclass
class Listening:
    closed: bool = False
    sockets: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        self.closed = True


@dataclass
class Server:
    """What the lifecycle sees of uvicorn's server."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    signals: list[int] = field(default_factory=list)
    servers: list[Listening] = field(default_factory=lambda: [Listening()])
    connections: set[str] = field(default_factory=set)
    force_exit: bool = False

    @property
    def server_state(self) -> "Server":
        return self

    def handle_exit(self, number: int, frame: Any) -> None:
        self.signals.append(number)
        self.ended.set()


@pytest.fixture
def lifecycle() -> Lifecycle:
    return Lifecycle(Limits())


def signalled(lifecycle: Lifecycle, server: Server, *numbers: signal.Signals) -> None:
    """Do what the running loop does on the signals."""
    for number in numbers:
        lifecycle._on_signal(number, server)


def test_a_signal_lets_accepted_requests_finish_and_refuses_new_ones(lifecycle: Lifecycle) -> None:
    async def run() -> None:
        app, server, accepted, refused, alive = App(), Server(), Client(), Client(), Client()
        counted = Counted(app, lifecycle)
        answering = asyncio.create_task(accepted.ask(counted))
        await app.entered.wait()
        signalled(lifecycle, server, signal.SIGTERM)
        await refused.ask(counted)
        assert (refused.status, refused.headers[b"retry-after"]) == (503, b"1")
        assert refused.headers[b"connection"] == b"close"
        assert json.loads(refused.sent[1]["body"])["error"].startswith("the service is stopping")
        assert not server.ended.is_set()
        app.open.set()
        await answering
        assert (accepted.status, accepted.headers[b"connection"]) == (200, b"close")
        await server.ended.wait()
        await alive.ask(counted, "/livez")
        assert alive.status == 200
        assert not server.force_exit

    asyncio.run(run())


def test_a_socket_that_will_be_closed_keeps_nobody_waiting(lifecycle: Lifecycle) -> None:
    def pending(listening: socket.socket) -> int:
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        listening.setblocking(False)
        accepted = 0
        with suppress(BlockingIOError):
            while True:
                listening.accept()[0].close()
                accepted += 1
        for client in clients:
            client.close()
        return accepted

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
            assert pending(listening) == 4
            server = Server(servers=[Listening(sockets=[listening])])
            signalled(lifecycle, server, signal.SIGTERM)
            await server.ended.wait()
            assert pending(listening) < 4

    asyncio.run(run())


def test_readyz_is_refused_with_the_rest(lifecycle: Lifecycle) -> None:
    async def run() -> None:
        app, client = App(), Client()
        signalled(lifecycle, Server(), signal.SIGTERM)
        await client.ask(Counted(app, lifecycle), "/readyz")
        assert client.status == 503
        assert not app.entered.is_set()

    asyncio.run(run())


def test_a_refusal_comes_after_the_body_was_read(lifecycle: Lifecycle) -> None:
    async def run() -> None:
        client = Client([b"one", b"two", b"three"])
        signalled(lifecycle, Server(), signal.SIGTERM)
        await client.ask(Counted(App(), lifecycle))
        assert client.received == 3
        huge = Client([b"x" * (1 << 19)] * 100)
        await huge.ask(Counted(App(), lifecycle))
        assert huge.received == 2
        assert huge.status == 503

    asyncio.run(run())


def test_a_request_that_takes_too_long_is_not_waited_for() -> None:
    async def run() -> None:
        lifecycle = Lifecycle(Limits(drain_seconds=0))
        app, server = App(), Server()
        answering = asyncio.create_task(Client().ask(Counted(app, lifecycle)))
        await app.entered.wait()
        signalled(lifecycle, server, signal.SIGTERM)
        await server.ended.wait()
        assert server.force_exit
        app.open.set()
        await answering

    asyncio.run(run())


def test_a_second_sigterm_changes_nothing_and_a_second_sigint_forces_the_end(
    lifecycle: Lifecycle,
) -> None:
    async def run() -> None:
        app, server = App(), Server()
        answering = asyncio.create_task(Client().ask(Counted(app, lifecycle)))
        await app.entered.wait()
        signalled(lifecycle, server, signal.SIGTERM, signal.SIGTERM)
        await asyncio.sleep(0)
        assert server.signals == []
        signalled(lifecycle, server, signal.SIGINT)
        assert server.signals == [signal.SIGINT] * 2
        app.open.set()
        await answering

    asyncio.run(run())


def test_handing_over_stops_listening_and_answers_on_open_connections(
    lifecycle: Lifecycle,
) -> None:
    async def run() -> None:
        app, server, client = App(), Server(), Client()
        app.open.set()
        server.connections.add("a client's")
        signalled(lifecycle, server, HAND_OVER)
        await asyncio.sleep(0.01)
        assert server.servers[0].closed
        await client.ask(Counted(app, lifecycle))
        assert (client.status, client.headers[b"connection"]) == (200, b"close")
        assert not server.ended.is_set()
        server.connections.clear()
        await server.ended.wait()

    asyncio.run(run())


def test_handing_over_may_take_longer_than_draining_until_a_signal_ends_that() -> None:
    async def run() -> None:
        lifecycle = Lifecycle(Limits(drain_seconds=0))
        app, server = App(), Server()
        server.connections.add("of a long stream")
        answering = asyncio.create_task(Client().ask(Counted(app, lifecycle)))
        await app.entered.wait()
        signalled(lifecycle, server, HAND_OVER)
        await asyncio.sleep(0.2)
        assert not server.ended.is_set()
        signalled(lifecycle, server, signal.SIGTERM)
        await server.ended.wait()
        assert server.force_exit
        app.open.set()
        await answering

    asyncio.run(run())


def test_handing_over_has_an_end() -> None:
    async def run() -> None:
        server = Server()
        server.connections.add("of a stream without end")
        signalled(Lifecycle(Limits(hand_over_seconds=0)), server, HAND_OVER)
        await server.ended.wait()
        assert server.force_exit

    asyncio.run(run())


def test_what_is_no_request_is_passed_on(lifecycle: Lifecycle) -> None:
    async def run() -> None:
        passed: list[Scope] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            passed.append(scope)

        client = Client()
        signalled(lifecycle, Server(), signal.SIGTERM)
        await Counted(app, lifecycle)({"type": "lifespan"}, client.receive, client.send)
        assert [scope["type"] for scope in passed] == ["lifespan"]

    asyncio.run(run())
