"""Start a Bento on a free loopback port as its users will, and ask it for labels over HTTP."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from configs.errors import BentoError
from tasks.process import child, environment_with, tail

_SECONDS_TO_READY = 180.0


@contextmanager
def serving(
    tag: str, bento: Path, log: Path, starting: Callable[[], None]
) -> Iterator[tuple[httpx.Client, "PeakMemory", float]]:
    """Serve the Bento in that folder; yield a client, its memory, and the seconds until it was ready.

    `starting` is called while it starts.

    Raises:
        BentoError: if it does not start, with the end of its log.
    """
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        str(bento),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    environment = environment_with(BENTOML_HOME=str(log.with_name("store")))
    with (
        child(command, log, environment) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0, trust_env=False) as client,
        PeakMemory(process.pid) as memory,
    ):
        started = time.perf_counter()
        while not _is_ready(client):
            waited = time.perf_counter() - started
            if process.poll() is not None or waited > _SECONDS_TO_READY or _has_given_up(log):
                raise BentoError(
                    f"{tag}: bentoml serve was not ready after {waited:.0f} s (exit code "
                    f"{process.poll()}); the end of its log: {tail(log, 8)}"
                )
            starting()
            time.sleep(0.2)
        yield client, memory, time.perf_counter() - started


def _has_given_up(log: Path) -> bool:
    """Return whether a worker of the service ended at its start; BentoML starts it for ever anew."""
    return "Application startup failed" in log.read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_ready(client: httpx.Client) -> bool:
    try:
        # While its worker starts, or fails to, the port takes requests that nobody answers.
        return client.get("/readyz", timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False


def classify(
    client: httpx.Client,
    texts: Sequence[str],
    rows: Sequence[int],
    texts_a_request: int,
    answered: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Return the service's answer to each text; `rows` are their numbers, for errors.

    Raises:
        BentoError: if it refuses any.
    """
    answers: list[dict[str, Any]] = []
    for start in range(0, len(texts), texts_a_request):
        some = list(texts[start : start + texts_a_request])
        response = client.post("/classify", json={"texts": some})
        if response.status_code != 200:
            named = f"{rows[start]} to {rows[start + len(some) - 1]}"
            raise BentoError(
                f"the Bento answered {response.status_code} to test rows {named}; expected 200"
            )
        answers += response.json()
        answered(len(answers))
    return answers


class PeakMemory:
    """The largest resident memory, in MB, that a process and its children held together."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                held = sum(process.memory_info().rss for process in family)
            except psutil.NoSuchProcess:
                continue
            self.peak_mb = max(self.peak_mb, held / 1e6)
