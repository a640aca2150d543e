"""Bentos served by `bentoml serve`, as their users serve them."""

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tasks.process import environment_with


@dataclass(frozen=True)
class Served:
    """A service that runs, and where its log goes."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """Send a body: bytes as they are, all else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return httpx.post(self.url + path, content=content, headers=sent, timeout=30)

    def raw(self, head: str, body: bytes = b"") -> int:
        """Send a request as it is written, and return the status of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
            return int(connection.makefile("rb").readline().split()[1])


@contextmanager
def serving(
    bento: Path,
    folder: Path,
    *options: str,
    verify: ssl.SSLContext | None = None,
    **variables: str,
) -> Iterator[Served]:
    """Serve a Bento by `bentoml serve` until the block ends; over TLS where it is to be verified."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / f"{port}.log"
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve", str(bento), "--port", str(port), *options],
            env=environment_with(**variables),
            stdout=stream,
            stderr=stream,
        )
        try:
            served = Served(port, log)
            deadline = time.monotonic() + 120
            while not _is_ready(served, verify):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield served
        finally:
            process.terminate()
            process.wait(60)


def _is_ready(served: Served, verify: ssl.SSLContext | None) -> bool:
    url = served.url if verify is None else served.url.replace("http:", "https:")
    try:
        return httpx.get(f"{url}/readyz", verify=verify or True).status_code == 200
    except httpx.TransportError:
        return False
