"""Run a function in a process of its own, and kill it and its children before a write or at a time."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import psutil

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["benchmarks.stores", "bentoml", "bentoml.bentos", "flows.pipeline"])
_EVENTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Ended:
    """How a run ended: by itself and well, or killed; its writes by name, if it came to its end."""

    well: bool
    killed: bool
    seconds: float
    writes: list[str] = field(default_factory=list)


def run_and_kill(
    operation: Callable[[], Any],
    environment: dict[str, str],
    *,
    before_write: int | None = None,
    after: float | None = None,
) -> Ended:
    """Run the operation; SIGKILL all its processes before its n-th write, or after so many seconds.

    A write is what changes a file system: a file opened for writing, a rename, a removal, a folder.
    Python's own audit events tell of each, in whatever library it happens.
    """
    ours, theirs = _fork.Pipe(duplex=False)
    process = _fork.Process(target=_run, args=(operation, environment, before_write, theirs))
    started = time.perf_counter()
    process.start()
    theirs.close()
    if after is not None:
        with suppress(EOFError):
            ours.recv()  # it has begun
        time.sleep(after)
        _kill(process.pid or 0)
    writes: list[str] = []
    seconds = time.perf_counter() - started
    with suppress(EOFError):
        while True:
            told = ours.recv()
            if isinstance(told, tuple):
                seconds, writes = told
    process.join()
    return Ended(process.exitcode == 0, process.exitcode == -signal.SIGKILL, seconds, writes)


def _kill(pid: int) -> None:
    """Kill a process and all below it; those it started have groups of their own."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        below = process.children(recursive=True)
        for each in [*below, process]:  # itself last, where it is this one
            with suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGKILL)


def _run(
    operation: Callable[[], Any],
    environment: dict[str, str],
    before_write: int | None,
    theirs: Connection,
) -> None:
    os.setsid()
    os.environ.update(environment)
    homes = tuple(environment.values())
    writes: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if _writes(event, arguments, homes):
            if len(writes) == before_write:
                _kill(os.getpid())
            writes.append(_name(event, arguments, homes))

    theirs.send("begun")
    sys.addaudithook(watch)
    started = time.perf_counter()
    operation()
    theirs.send((time.perf_counter() - started, writes))


def _writes(event: str, arguments: tuple[Any, ...], homes: tuple[str, ...]) -> bool:
    if event == "open":
        path, _, flags = arguments
        return isinstance(flags, int) and bool(flags & _WRITING) and str(path).startswith(homes)
    return event in _EVENTS and str(arguments[0]).startswith(homes)


def _name(event: str, arguments: tuple[Any, ...], homes: tuple[str, ...]) -> str:
    path = str(arguments[0])
    for home in homes:
        path = path.removeprefix(home)
    return f"{event} {path.lstrip('/')}"
