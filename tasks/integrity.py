"""The manifest of a Bento: every file with its size and SHA-256, and how the Bento differs from it."""

import hashlib
import importlib.util
import json
import marshal
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
SIGNATURE = "model.sig"
"""The one file that the manifest does not name: it is made of all the others."""
_SCHEMA_VERSION = 1
_MOST_BYTES = 16 * 1024 * 1024
_MOST_TOLD = 20
_MADE_IN_AN_IMAGE = "env/docker/"  # `bentoml containerize` writes these files anew


class IntegrityError(Exception):
    """A Bento's files are not those that were released; a line of the message for each."""


def write_manifest(bento: Path, tag: str) -> None:
    """Write `manifest.json` over all files of a Bento, in the place of the one it has.

    Raises:
        IntegrityError: if a link or another thing that is no plain file lies in it.
    """
    for name in (MANIFEST, SIGNATURE):
        (bento / name).unlink(missing_ok=True)
    found, odd = _found(bento)
    if odd:
        raise IntegrityError("\n".join(odd))
    files = {name: _described(bento / name) for name in sorted(found) if not _is_bytecode(name)}
    tree = {"schema_version": _SCHEMA_VERSION, "tag": tag, "files": files}
    (bento / MANIFEST).write_bytes(_written(tree | {"digest": _digest(tree)}))


def require_intact(bento: Path, *, in_image: bool = False) -> None:
    """Check a Bento's files against its manifest; one that is being built has none, and no name yet.

    Raises:
        IntegrityError: if a file was changed, added or taken away, naming it.
    """
    if not (bento / "bento.yaml").exists() and not (bento / MANIFEST).exists():
        return
    told = [*differences(bento, in_image=in_image), *_elsewhere(bento)]
    if len(told) > _MOST_TOLD:
        told = [*told[:_MOST_TOLD], f"and {len(told) - _MOST_TOLD} more"]
    if told:
        raise IntegrityError("\n".join(f"{bento}: {line}" for line in told))


def differences(bento: Path, *, in_image: bool = False) -> Iterator[str]:
    """Yield in words how a Bento's files differ from its manifest; nothing where they do not.

    Reads every byte once. Python's own cached bytecode may lie beside the files if it is what they
    compile to. With `in_image`, what containerizing writes anew may differ.
    """
    try:
        listed = read_manifest(bento)["files"]
    except IntegrityError as error:
        yield str(error)
        return
    found, odd = _found(bento)
    yield from odd
    covered = {name for name in listed if not (in_image and name.startswith(_MADE_IN_AN_IMAGE))}
    for name in sorted(covered - found):
        yield f"{name!r} is missing; expected a file of {listed[name]['size']} bytes"
    for name in sorted(found - listed.keys() - {MANIFEST, SIGNATURE}):
        if not (in_image and name.startswith(_MADE_IN_AN_IMAGE)) and not _is_cache(bento, name):
            yield f"{name!r} is no file of the release; expected those of {MANIFEST} alone"
    for name in sorted(covered & found):
        described = _described(bento / name)
        if described != listed[name]:
            yield (
                f"{name!r} was changed: expected sha256 {listed[name]['sha256'][:16]}…, "
                f"got {described['sha256'][:16]}…"
            )


def _elsewhere(bento: Path) -> Iterator[str]:
    """Yield that a Bento lies where another release belongs: an older one may be put in its place."""
    store, pipeline = bento.parent.parent, bento.parent
    if store.name != "bentos":
        return
    expected = f"{pipeline.name}:{bento.name}"
    with suppress(IntegrityError):
        told = read_manifest(bento)["tag"]
        if told != expected:
            yield f"{MANIFEST!r} is that of {told}; expected that of {expected}"


def read_manifest(bento: Path) -> dict[str, Any]:
    """Return the manifest, which holds `tag`, `files` and `digest`.

    Raises:
        IntegrityError: if there is none, or it is not as it was written.
    """
    file = bento / MANIFEST
    try:
        if file.is_symlink():
            raise ValueError
        with file.open("rb") as stream:
            written = stream.read(_MOST_BYTES)
        tree = json.loads(written)
        # Equal bytes, so that no second reading of the same file says something else.
        if written != _written(tree) or tree["schema_version"] != _SCHEMA_VERSION:
            raise ValueError
        if (
            _digest({key: tree[key] for key in ("schema_version", "tag", "files")})
            != tree["digest"]
        ):
            raise ValueError
    except FileNotFoundError:
        raise IntegrityError(
            f"{MANIFEST!r} is missing; expected the one that Ekiben releases with every Bento"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError(f"{MANIFEST!r} was changed, or cannot be read") from None
    return dict(tree)


def _found(bento: Path) -> tuple[set[str], list[str]]:
    """Return the relative POSIX paths of all plain files, and in words what else there is."""
    files, odd = set(), []
    for folder, inner, names in os.walk(bento):
        for name in [*inner, *names]:
            path = Path(folder, name)
            relative = path.relative_to(bento).as_posix()
            if path.is_symlink():
                odd.append(f"{relative!r} is a link; expected files and folders alone")
            elif path.is_file():
                files.add(relative)
            elif not path.is_dir():
                odd.append(f"{relative!r} is no plain file; expected files and folders alone")
    return files, odd


def _described(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {
            "size": os.fstat(stream.fileno()).st_size,
            "sha256": hashlib.file_digest(stream, "sha256").hexdigest(),
        }


def _is_bytecode(name: str) -> bool:
    return "__pycache__" in Path(name).parts and name.endswith(".pyc")


def _is_cache(bento: Path, name: str) -> bool:
    """Return whether a file is bytecode that this Python never loads, or makes of its source."""
    if not _is_bytecode(name):
        return False
    file = bento / name
    source = file.parent.parent / f"{file.name.partition('.')[0]}.py"
    try:
        written = file.read_bytes()
        if written[:4] != importlib.util.MAGIC_NUMBER:
            return source.is_file()
        level = int(file.stem.partition(".opt-")[2] or 0)
        made = compile(source.read_bytes(), str(source), "exec", dont_inherit=True, optimize=level)
        # Reads data of a damaged file, and runs none of it.
        return bool(marshal.loads(written[16:]) == made)  # noqa: S302
    except (OSError, ValueError, EOFError, TypeError, SyntaxError):
        return False


def _digest(tree: dict[str, Any]) -> str:
    return hashlib.sha256(_written(tree)).hexdigest()


def _written(tree: dict[str, Any]) -> bytes:
    text = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=True)
    return f"{text}\n".encode()
