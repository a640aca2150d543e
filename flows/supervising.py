"""Keep one worker of the service on a listening socket: start it, start it again, swap it."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import BentoError, EkibenError
from tasks.process import environment_with

HAND_OVER = signal.SIGUSR1  # what bentos/text_classifier/lifecycle.py takes for it
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_READY = 180.0
_SECONDS_TO_DIE = 30.0  # beyond the time that the service gives itself to drain
_LONGEST_PAUSE = 5.0  # seconds before a worker that does not get ready is started again


@dataclass(frozen=True)
class Release:
    """A Bento in the store."""

    tag: str
    place: Path


@dataclass(frozen=True)
class Worker:
    """A process of BentoML that serves a release, and the task that ends with it."""

    release: Release
    process: asyncio.subprocess.Process
    ended: asyncio.Task[int]
    leash: socket.socket

    async def is_ready(self) -> bool:
        """Wait until the worker says that it is ready; return false where it ends before."""
        with suppress(TimeoutError, ConnectionError):
            said = asyncio.get_running_loop().sock_recv(self.leash, 16)
            return bool(await asyncio.wait_for(said, _SECONDS_TO_READY))
        return False


@dataclass
class Supervisor:
    """One worker, which serves what `find` returns, on a socket that outlives it.

    What connects while no worker is ready waits in the socket's queue. A worker that ends is
    started again. When `find` returns another release, or on SIGHUP, a second worker gets ready on
    the same socket before the first is told to hand over. SIGTERM and SIGINT let it drain.

    `options` are further arguments of BentoML's worker, `variables` its environment; it may drain
    for `drain_seconds`. `tell` is told in a line what happens, and `check` refuses a
    release that is not to be started.
    """

    find: Callable[[], Release]
    listening: socket.socket
    options: list[str]
    variables: dict[str, str]
    drain_seconds: int
    tell: Callable[[str], None]
    check: Callable[[Release], None] = lambda _: None
    _workers: set[Worker] = field(default_factory=set)
    _asked: bool = False  # by SIGHUP
    _unfit: str | None = None  # the tag that did not get ready
    _told: str | None = None  # why the store cannot be read

    async def run(self) -> None:
        """Serve until a signal ends it.

        Raises:
            BentoError: if the first worker does not get ready, or no release is found at first.
        """
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._ask)
        stopping, serving = loop.create_task(stop.wait()), loop.create_task(self._serve())
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, serving):
            task.cancel()
        self.listening.close()  # the worker has its own, and closes it when nothing waits there
        await asyncio.gather(*(self._end(worker) for worker in self._workers))
        with suppress(asyncio.CancelledError):
            await serving

    def _ask(self) -> None:
        self._asked, self._unfit = True, None

    async def _serve(self) -> None:
        release = self.find()
        worker = await self._start(release)
        if worker is None:
            raise BentoError(
                f"{release.tag}: its worker was not ready; expected it to start and to answer as it "
                "was recorded; what it printed says why"
            )
        self.tell(f"{release.tag} is served")
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(worker.ended), _SECONDS_BETWEEN_LOOKS)
            if worker.ended.done():
                self.tell(
                    f"{worker.release.tag}: its worker ended with code {worker.ended.result()}"
                )
                worker = await self._start_again(worker.release)
            elif (found := self._next(worker.release)) is not None:
                worker = await self._swap(worker, found)

    def _next(self, serving: Release) -> Release | None:
        """Return the release to swap to, if there is one."""
        try:
            found = self.find()
        except EkibenError as error:
            if str(error) != self._told:
                self._told = str(error)
                self.tell(f"{serving.tag} is served on: {error}")
            return None
        asked, self._asked, self._told = self._asked, False, None
        return found if asked or found.tag not in (serving.tag, self._unfit) else None

    async def _swap(self, old: Worker, release: Release) -> Worker:
        """Return the worker that serves now: the new one, or the old one where that is not ready."""
        new = await self._start(release)
        if new is None:
            self._unfit = release.tag
            self.tell(f"{release.tag} did not get ready; {old.release.tag} is served on")
            return old
        if not old.ended.done():
            old.process.send_signal(HAND_OVER)
        self.tell(f"{release.tag} is served in the place of {old.release.tag}")
        return new

    async def _start_again(self, release: Release) -> Worker:
        """Return a new worker of the champion, tried until one is ready."""
        pause = 0.0
        while True:
            release = self._next(release) or release
            worker = await self._start(release)
            if worker is not None:
                self.tell(f"{release.tag} is served again")
                return worker
            pause = min(2 * pause or 0.5, _LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _start(self, release: Release) -> Worker | None:
        """Start a worker and return it once it is ready; end it where it does not get ready."""
        try:
            await asyncio.to_thread(self.check, release)
        except EkibenError as error:
            self.tell(str(error))
            return None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        metrics = tempfile.mkdtemp(prefix="ekiben-metrics-")
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "_bentoml_impl.worker.service", str(release.place)),
                *("--fd", str(self.listening.fileno()), "--worker-id", "1", *self.options),
                stdin=asyncio.subprocess.DEVNULL,
                env=environment_with(
                    **self.variables,
                    PROMETHEUS_MULTIPROC_DIR=metrics,
                    EKIBEN_LEASH=str(theirs.fileno()),
                ),
                pass_fds=(self.listening.fileno(), theirs.fileno()),
                start_new_session=True,  # Ctrl-C is for the supervisor, who lets it drain
            )

        async def wait() -> int:
            code = await process.wait()
            self._workers.discard(worker)
            ours.close()
            shutil.rmtree(metrics, ignore_errors=True)
            return code

        worker = Worker(release, process, asyncio.create_task(wait()), ours)
        self._workers.add(worker)
        if await worker.is_ready():
            return worker
        await self._end(worker)
        return None

    async def _end(self, worker: Worker) -> None:
        """Let a worker drain and end; kill it where it does not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, number)
            with suppress(TimeoutError):
                longest = self.drain_seconds + _SECONDS_TO_DIE
                await asyncio.wait_for(asyncio.shield(worker.ended), longest)
                return
