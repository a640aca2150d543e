"""Which runs live on this machine, and whose turn it is: locks that the kernel frees with a process."""

import json
import logging
import os
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from tasks.manifests import Record
from tasks.steps import home, make_folder, write_json

log = logging.getLogger("ekiben")
_SECONDS_BETWEEN_LOOKS = 0.5


class RunNote(Record):
    """A run that goes on: Prefect's id of it, on which server, in which process of which machine."""

    run: str
    pipeline: str
    server: str
    host: str
    pid: int
    max_restarts: int


def note_of(run: str, pipeline: str, server: str, max_restarts: int) -> RunNote:
    """Return the note of a run in this process."""
    return RunNote(
        run=run,
        pipeline=pipeline,
        server=server,
        host=socket.gethostname(),
        pid=os.getpid(),
        max_restarts=max_restarts,
    )


@contextmanager
def noted(note: RunNote) -> Iterator[None]:
    """Keep a note of a run, and a lock beside it, for as long as the run lives."""
    file = _folder() / f"{note.run}-{note.pid}.json"
    with FileLock(file.with_suffix(".lock")):
        write_json(file, note.model_dump())
        try:
            yield
        finally:
            _forget(file)


def dead_runs(server: str) -> Generator[RunNote]:
    """Yield the notes of this machine's runs on a server whose process is gone, and forget them.

    One is forgotten when the next is asked for, and locked until then, so that two who look never
    see to the same one. What another machine noted is left to it: whether its locks reach here is
    not known.
    """
    for file in sorted(_folder().glob("*.json")):
        try:
            note = RunNote.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):  # it ended, or is of another kind
            continue
        if note.host != socket.gethostname() or note.server != server:
            continue
        lock = FileLock(file.with_suffix(".lock"))
        with suppress(Timeout), lock.acquire(timeout=0):
            if file.exists():
                yield note
                _forget(file)


def _forget(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.with_suffix(".lock").unlink(missing_ok=True)


@contextmanager
def turn(pipeline: str, run: str, due: datetime | None = None) -> Iterator[str | None]:
    """Hold a pipeline against its other runs; yield None, or why this run is to be left out.

    A run that a person started (`due` is None) waits for its turn. One that a schedule started is
    left out while another goes on, or if one that began after it was due has ended well: so
    neither runs that overlap pile up, nor those that were missed while nothing was there to run
    them.
    """
    file = _folder() / f"{pipeline}.turn"
    lock = FileLock(file.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        other = _told(file)
        if due is not None:
            yield f"{other} is still going on; the next one that is due stands for this one"
            return
        log.info("%s: %s is going on; waiting for it", pipeline, other)
        lock.acquire(poll_interval=_SECONDS_BETWEEN_LOOKS)
    try:
        began = datetime.now(UTC)
        done = file.with_suffix(".done")
        if due is not None and (stands := _done_since(done, due, began)) is not None:
            yield f"was due at {due:%Y-%m-%d %H:%M} UTC; {stands}, which began later, stands for it"
            return
        write_json(file, {"run": run, "pid": os.getpid()})
        try:
            yield None
        finally:
            file.unlink(missing_ok=True)
        write_json(done, {"run": run, "began": began.isoformat()})
    finally:
        lock.release()


def _told(file: Path) -> str:
    """Return which run has the turn; it may be about to write it down."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return f"run {found['run']} (process {found['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"


def _done_since(file: Path, due: datetime, now: datetime) -> str | None:
    """Return the last run that ended well, if it began since `due`, by a clock not set back since."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        began = datetime.fromisoformat(found["began"])
        return f"run {found['run']}" if due <= began <= now else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _folder() -> Path:
    folder = home() / "runs"
    make_folder(folder)
    return folder
