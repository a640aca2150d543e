"""Folders for a process's own files; what a killed one left goes when the next one starts."""

import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from configs.errors import ConfigError


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new folder under the system's temporary folder, and remove it at the end.

    The kernel frees its lock with the process, so that what a killed one left can be told from what
    is in use, and is removed here.

    Raises:
        ConfigError: if the place is another user's.
    """
    place = place_of_user()
    sweep(place)
    name = uuid.uuid4().hex
    with FileLock(place / f"{name}.lock"):
        folder = place / name
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            (place / f"{name}.lock").unlink(missing_ok=True)


def sweep(place: Path) -> int:
    """Remove what killed processes left in the place; return how many folders there were."""
    removed = 0
    for file in place.glob("*.lock"):
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        folder = file.with_suffix("")
        removed += folder.exists()
        shutil.rmtree(folder, ignore_errors=True)
        file.unlink(missing_ok=True)
        lock.release()
    return removed


def place_of_user() -> Path:
    """Return a folder of this user alone, since what is built in it is released."""
    place = Path(tempfile.gettempdir()).absolute() / f"ekiben-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
    except OSError as error:
        raise ConfigError(
            f"TMPDIR: {place} cannot be made ({error.strerror}); set TMPDIR to a folder that can be "
            "written"
        ) from None
    others = stat.S_IMODE(found.st_mode) & 0o077
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or others:
        raise ConfigError(
            f"TMPDIR: {place} is not a folder that only this user may enter; remove it, or set "
            "TMPDIR to another folder"
        )
    return place
