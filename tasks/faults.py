"""What the machine refuses, in words: a disk that is full, read-only or failing, memory used up."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import EkibenError, MachineError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM)
_FAILING = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO)
_OPEN_FILES = (errno.EMFILE, errno.ENFILE)
_REFUSALS = (*_FULL, *_NOT_OURS, *_FAILING, *_OPEN_FILES, errno.ENOMEM)
# What libraries written in Rust, C and C++ keep of an errno is its text; SQLite has texts of its own.
_TEXTS = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "readonly database": errno.EROFS,
    "iostream error": errno.EIO,  # C++ tells no more of a write, as of OpenVINO's
    "not enough memory": errno.ENOMEM,
    **{os.strerror(number): number for number in (*_FULL, *_FAILING, errno.EROFS, errno.ENOMEM)},
}
_AGAIN = "run again: every step that is whole is reused"


@contextmanager
def telling_refusals(what: str, place: Path) -> Iterator[None]:
    """Raise what the machine refuses within the block as an error that says what to do.

    `place` is named where the error itself names no file, as that of a failed write does not.

    Raises:
        MachineError: in the place of an OSError, a MemoryError, or a library's error that tells of
            one. Any other error passes as it is.
    """
    try:
        yield
    except Exception as error:
        told = refusal(error, place)
        if told is None:
            raise
        raise MachineError(f"{what}: {told}") from error


def refused(error: BaseException) -> int | None:
    """Return the errno of what the machine refused, or None if the error is of another kind."""
    if isinstance(error, EkibenError):
        return None
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return error.errno
    text = str(error)
    return next((number for words, number in _TEXTS.items() if words in text), None)


def refusal(error: BaseException, place: Path) -> str | None:
    """Return what the machine refused, where, and what to do; None if it is no such error."""
    number = refused(error)
    if number is None:
        return None
    if number == errno.ENOMEM:
        return f"memory is used up; end what else runs or use a larger machine, and {_AGAIN}"
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    where = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else place
    if number in _OPEN_FILES:
        return f"{where}: {os.strerror(number)}; raise the limit (`ulimit -n`), and {_AGAIN}"
    return f"{where}: {os.strerror(number)}{_room(where)}; {_cure(number)}, and {_AGAIN}"


def _cure(number: int) -> str:
    if number in _FULL:
        return "make room there, or set EKIBEN_HOME (and TMPDIR) to a larger disk"
    if number in _NOT_OURS:
        return "make it writable for this user, or set EKIBEN_HOME (and TMPDIR) to what is"
    return "check the disk"


def _room(where: Path) -> str:
    """Return how much is free on the disk that a path lies on, where that can be told."""
    try:
        folder = next(folder for folder in (where, *where.parents) if folder.exists())
        return f" ({shutil.disk_usage(folder).free / 1e6:,.0f} MB free)"
    except (OSError, StopIteration):
        return ""
