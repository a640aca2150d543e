"""Objects below an address that fsspec opens: put and read back, fetched and checked, removed."""

import logging
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from configs.errors import BentoError, ConfigError
from configs.schema import reason, redact
from tasks.digests import file_digest
from tasks.scratch import scratch
from tasks.sources import conceal, expand

log = logging.getLogger("ekiben")
T = TypeVar("T")
_ABANDONED = timedelta(days=1)


@dataclass(frozen=True)
class Objects:
    """The objects below an address, by their keys; `shown` is the address in messages."""

    system: Any
    root: str
    shown: str
    folder: Path

    def put(self, key: str, file: Path, sha256: str) -> bool:
        """Put a file and read it back; return False where the same bytes were there already.

        Raises:
            BentoError: if it cannot be put, or is not there afterwards.
        """
        size = file.stat().st_size
        if self.holds(key, size, sha256):
            return False
        self._in_words("written", key, lambda path: self._put(path, file))
        if not self.holds(key, size, sha256):
            raise BentoError(
                f"{self.shown}/{key}: was put without an error, but does not read back as it was "
                "put; expected a store that keeps what it accepts"
            )
        return True

    def put_bytes(self, key: str, content: bytes) -> bool:
        """Put a small object, as `put` does."""
        file = self.folder / "put"
        file.write_bytes(content)
        return self.put(key, file, file_digest(file))

    def holds(self, key: str, size: int, sha256: str) -> bool:
        """Return whether the object has this size and SHA-256, which takes reading it."""
        if self.size(key) != size:
            return False
        file = self.folder / "back"
        self.get(key, file)
        return file_digest(file) == sha256

    def size(self, key: str) -> int | None:
        """Return the bytes of an object, or None where there is none."""

        def size(path: str) -> int | None:
            self.system.invalidate_cache()
            try:
                found = self.system.info(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return None if found["type"] == "directory" else int(found["size"])

        return self._in_words("read", key, size)

    def get(self, key: str, file: Path) -> None:
        """Copy an object to a file."""
        self._in_words("read", key, lambda path: self.system.get_file(path, str(file)))

    def get_bytes(self, key: str, most: int) -> bytes | None:
        """Return a small object, or None where there is none.

        Raises:
            BentoError: if it is larger than `most` bytes, or cannot be read.
        """
        size = self.size(key)
        if size is None:
            return None
        if size > most:
            raise BentoError(
                f"{self.shown}/{key}: has {size} bytes; expected what Ekiben wrote, at most {most}"
            )
        file = self.folder / "got"
        self.get(key, file)
        return file.read_bytes()

    def names(self, key: str) -> list[str]:
        """Return the names that lie directly below a key."""

        def names(path: str) -> list[str]:
            self.system.invalidate_cache()
            try:
                found = self.system.ls(path, detail=False)
            except FileNotFoundError:
                return []
            return sorted({str(each).rstrip("/").rsplit("/", 1)[-1] for each in found})

        return self._in_words("listed", key, names)

    def remove(self, key: str) -> None:
        """Remove an object, or all below a key, if there is any."""

        def remove(path: str) -> None:
            self.system.invalidate_cache()
            if self.system.exists(path):
                self.system.rm(path, recursive=True)

        self._in_words("removed", key, remove)

    def sweep(self, key: str) -> None:
        """Remove what killed uploads left below a key over a day ago; a younger one may go on.

        Nobody reads it, but it takes room. Of object stores, s3fs alone tells of it.
        """
        ended = datetime.now(UTC) - _ABANDONED
        path = f"{self.root}/{key}"
        if self._is_local:
            for partial in Path(path).rglob("*.partial"):
                if partial.stat().st_mtime < ended.timestamp():
                    partial.unlink(missing_ok=True)
        if not hasattr(self.system, "list_multipart_uploads"):
            return
        bucket, prefix, _ = self.system.split_path(path)
        try:
            for upload in self.system.list_multipart_uploads(bucket):
                if upload["Key"].startswith(f"{prefix}/") and upload["Initiated"] < ended:
                    self.system.abort_mpu(bucket, upload["Key"], upload["UploadId"])
        except Exception as error:  # noqa: BLE001  (a store may not let its uploads be listed)
            log.info("publish: unfinished uploads are left there (%s)", reason(error))

    @property
    def _is_local(self) -> bool:
        from fsspec.implementations.local import LocalFileSystem

        return isinstance(self.system, LocalFileSystem)

    def _put(self, path: str, file: Path) -> None:
        if not self._is_local:
            self.system.put_file(str(file), path)
            return
        # Unlike an object, a file is seen while it is written.
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        partial = Path(f"{path}.{uuid.uuid4().hex}.partial")
        shutil.copyfile(file, partial)
        partial.replace(path)

    def _in_words(self, done: str, key: str, call: Callable[[str], T]) -> T:
        try:
            return call(f"{self.root}/{key}")
        except Exception as error:  # noqa: BLE001  (each file system raises its own library's)
            told = conceal(reason(error.__cause__ or error), self.shown)
            raise BentoError(
                f"{self.shown}/{key}: cannot be {done} ({told}); check the address, its "
                "credentials and the network"
            ) from None


@contextmanager
def opened(address: str) -> Iterator[Objects]:
    """Yield the objects below an address, in which `${NAME}` reads the environment.

    Raises:
        ConfigError: if no package that is installed opens it.
        SourceError: if a variable is not set.
    """
    import fsspec

    shown = redact(address)
    try:
        # A file system that is already open may hold an old listing.
        system, root = fsspec.core.url_to_fs(expand(address), skip_instance_cache=True)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{shown}: needs a package that is not installed ({reason(error)}); add it with pip, "
            "as s3fs for s3://"
        ) from None
    with scratch() as folder:
        yield Objects(system, root.rstrip("/"), shown, folder)
