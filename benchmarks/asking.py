"""Ask a served champion for a label again and again, and count what does not come."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.stores import Store
from tasks.process import child, environment_with
from tasks.serving import free_port

_SECONDS_BETWEEN = 0.1


class Answers:
    """How many requests were answered well, and how many failed."""

    def __init__(self, url: str) -> None:
        self.well = self.failed = 0
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def begin(self) -> None:
        """Ask from now on."""
        self._thread.start()

    def end(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join()

    def is_answered(self) -> bool:
        """Ask once."""
        try:
            answer = httpx.post(self._url, json={"texts": ["Hello"]}, timeout=30)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    def _ask(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN):
            if self.is_answered():
                self.well += 1
            else:
                self.failed += 1


@contextmanager
def asked(store: Store, log: Path) -> Iterator[Answers]:
    """Serve a store's champion by `ekiben serve`, and ask it all the while."""
    port = free_port()
    ekiben = str(Path(sys.executable).with_name("ekiben"))
    command = [ekiben, "serve", store.pipeline, "--port", str(port)]
    answers = Answers(f"http://127.0.0.1:{port}/classify")
    with child(command, log, environment_with(**store.environment)) as process:
        while not answers.is_answered():
            if process.poll() is not None:
                raise SystemExit(log.read_text(encoding="utf-8"))
            time.sleep(0.1)
        answers.begin()
        try:
            yield answers
        finally:
            answers.end()
