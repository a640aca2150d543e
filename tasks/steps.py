"""Content-addressed steps: an output folder is named by all that went into it, and is whole.

A step writes under a staging name and is renamed when its manifest is on disk. A second run with
the same inputs finds the folder, checks the digests, and does nothing.
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from configs.errors import ConfigError, StepError
from tasks.digests import code_digest, file_digests, value_digest
from tasks.faults import refused, telling_refusals
from tasks.manifests import Manifest

log = logging.getLogger("ekiben")

M = TypeVar("M", bound=Manifest)
MANIFEST = "manifest.json"
_DISK_DOES_NOT = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_MOST_UNFINISHED = 3  # trainings that were interrupted, to go on from


def home() -> Path:
    """Return the folder of all of Ekiben's own files: `$EKIBEN_HOME`, else `~/.ekiben`."""
    return Path(os.environ.get("EKIBEN_HOME") or Path.home() / ".ekiben").expanduser().absolute()


def make_folder(folder: Path) -> None:
    """Make a folder under the Ekiben home, which only its owner may enter: it holds rows.

    Raises:
        ConfigError: if the home is no folder, or this user may not write it.
        OSError: if its disk is full or fails.
    """
    try:
        home().mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _DISK_DOES_NOT:
            raise
        raise ConfigError(
            f"EKIBEN_HOME: {home()} cannot be used ({error.strerror}); set EKIBEN_HOME to a folder "
            "that can be written"
        ) from None


def run_step(
    stage: str,
    manifest_type: type[M],
    *,
    section: Any,
    parents: Mapping[str, str],
    produce: Callable[[Path], dict[str, Any]],
    resumable: bool = False,
) -> M:
    """Return the stage's manifest, made by `produce(staging folder)` unless it is there already.

    The key is the SHA-256 of the stage, its config `section`, its parents' digests and the code.
    `produce` returns the fields that its own manifest adds. With `resumable`, what an interrupted
    run left in the staging folder is kept for `produce` to go on from; else it is cleared. A file
    lock makes a second process wait and then reuse.

    Raises:
        MachineError: if disk or memory do not do; nothing half-made is visible, and the next run
            makes the step.
    """
    key = value_digest(
        {"stage": stage, "section": section, "parents": dict(parents), "code": code_digest()}
    )
    folder = home() / "steps" / stage / key[:16]
    with telling_refusals(stage, folder.parent), _locked(folder, stage):
        known = _read_whole(folder, manifest_type)
        if known is not None:
            log.info("%s: reused %s, nothing changed", stage, key[:16])
            return known
        staging = folder.parent / f".{key[:16]}.staging"
        _sweep(staging, keep=_MOST_UNFINISHED if resumable else 0)
        if not resumable:
            shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(exist_ok=True)
        (staging / MANIFEST).unlink(missing_ok=True)  # of a run that was killed before the rename
        try:
            fields = produce(staging)
            manifest = manifest_type(
                key=key,
                parents=dict(parents),
                folder=folder,
                files=file_digests(staging),
                **fields,
            )
            write_json(staging / MANIFEST, manifest.model_dump(mode="json"))
        except BaseException:
            if not resumable:
                shutil.rmtree(staging, ignore_errors=True)
            raise
        staging.rename(folder)
        sync_folder(folder.parent)
        return manifest


def require_whole(*manifests: Manifest) -> None:
    """Check that the steps' manifests and files are still those that were made.

    Raises:
        StepError: if a manifest or a file was changed, added or taken away since.
    """
    for manifest in manifests:
        found = file_digests(manifest.folder)
        odd = {MANIFEST} if _manifest_differs(manifest) else set()
        found.pop(MANIFEST, None)
        odd |= {name for name, _ in found.items() ^ manifest.files.items()}
        if odd:
            raise StepError(
                f"{manifest.folder}: {sorted(odd)[0]!r} is not as the step made it ({len(odd)} "
                "differ); nothing is made of it, so run again"
            )


def _manifest_differs(manifest: Manifest) -> bool:
    try:
        return type(manifest).read(manifest.folder / MANIFEST).digest != manifest.digest
    except (OSError, ValueError):
        return True


def clear_unfinished(resumable: Collection[str]) -> None:
    """Remove what killed runs left of steps, but of those stages that a later run goes on with."""
    for stage in (home() / "steps").glob("*"):
        if stage.name not in resumable:
            _sweep(stage / "of no key", keep=0)


def _sweep(own: Path, keep: int) -> None:
    """Remove what killed runs of a stage left of other keys, but the `keep` worked on last."""
    others = [folder for folder in own.parent.glob(".*.staging") if folder != own]
    by_age = sorted(others, key=lambda folder: folder.stat().st_mtime)
    for staging in by_age[: max(len(by_age) - keep, 0)]:
        lock = FileLock(staging.with_suffix(".lock"))
        with suppress(Timeout), lock.acquire(timeout=0):
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _locked(folder: Path, stage: str) -> Iterator[None]:
    """Hold the step's lock, which the kernel frees with the process; say so if it is taken."""
    make_folder(folder.parent)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another run is making the same; waiting for it", stage)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False))


def write_text(file: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the whole new one, never a part."""
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
    sync_folder(file.parent)


def _read_whole(folder: Path, manifest_type: type[M]) -> M | None:
    """Return the folder's manifest if every file is there as written; else clear the folder."""
    if not folder.exists():
        return None
    try:
        manifest = manifest_type.read(folder / MANIFEST)
        found = file_digests(folder)
        found.pop(MANIFEST)
        if found == manifest.files:
            return manifest.model_copy(update={"folder": folder})
        log.warning("%s: files differ from their manifest; the step is made again", folder)
    except (OSError, ValueError, KeyError) as error:  # not there, not JSON, not UTF-8, not whole
        if refused(error) is not None:
            raise  # a disk that cannot be read has not said that the step is damaged
        log.warning("%s: has no usable manifest (%s); made again", folder, type(error).__name__)
    shutil.rmtree(folder)
    return None


def sync_tree(folder: Path) -> None:
    """Make a folder, and all files and folders in it, survive a power cut."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
