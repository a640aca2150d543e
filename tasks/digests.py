"""SHA-256 digests of files, folders, values, and of the code that makes a step's output."""

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PROJECT = Path(__file__).resolve().parent.parent
_LIBRARIES = (
    *("torch", "transformers", "datasets", "great-expectations", "bentoml", "scikit-learn"),
    *("opencc", "phonenumbers", "pypinyin", "python-stdnum", "rjieba", "stopwordsiso"),
)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Return the SHA-256, in hex, of the sorted lines `digest  relative/path` of all its files."""
    lines = [f"{digest}  {name}\n" for name, digest in sorted(file_digests(folder).items())]
    # A file's name may hold bytes that are no text.
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file under the folder by its relative POSIX path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def value_digest(value: Any) -> str:
    """Return the SHA-256, in hex, of a JSON value written with sorted keys; NaN is a value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_digest() -> str:
    """Return the digest of Ekiben's own stages and of the versions of the libraries they use.

    One digest stands for all stages: a step that is rerun needlessly after an edit costs minutes,
    one that is wrongly reused costs trust.
    """
    sources = sorted(
        path
        for package in ("tasks", "bentos", "configs")
        for path in (_PROJECT / package).rglob("*.py")
    )
    return value_digest(
        {
            "sources": {str(path.relative_to(_PROJECT)): file_digest(path) for path in sources},
            "libraries": {name: version(name) for name in _LIBRARIES},
        }
    )
