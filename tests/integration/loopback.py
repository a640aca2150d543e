"""Servers on loopback that stand in for the network and record what they are asked."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

CLOSED = "http://127.0.0.1:9"
"""An address where nothing listens."""


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    authorization: str | None
    user_agent: str

    @classmethod
    def of(cls, handler: BaseHTTPRequestHandler) -> "Request":
        """Return the request that a handler is about to answer."""
        headers = handler.headers
        agent = headers.get("User-Agent", "")
        return cls(handler.command, handler.path, headers.get("Authorization"), agent)


@dataclass
class Server:
    """Where a stand-in listens, and what it was asked."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """Return the paths that were asked for, in order."""
        return [request.path for request in self.requests]


@contextmanager
def listening(server: Server, handler: Any) -> Iterator[Server]:
    """Answer requests through `handler` on a free port until the block ends."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


@contextmanager
def serve_folder(
    folder: Path, *, sign_in: str | None = None, status: int | None = None
) -> Iterator[Server]:
    """Serve a folder's files to all, or to who signs in as `user:password`; or refuse with `status`."""
    server = Server()
    allowed = None if sign_in is None else f"Basic {base64.b64encode(sign_in.encode()).decode()}"

    class Handler(SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            server.requests.append(Request.of(self))
            if status is not None:
                return self.send_error(status)
            if allowed not in (None, self.headers.get("Authorization")):
                return self.send_error(401)
            return super().send_head()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its base's name)
            pass

    with listening(server, partial(Handler, directory=str(folder))) as started:
        yield started
