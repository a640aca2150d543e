"""Pull a published release into the local store: fetched beside it, checked, renamed into place."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import BentoError, ConfigError
from configs.schema import NAME, redact
from tasks.digests import file_digest
from tasks.history import append, event, withdrawn
from tasks.integrity import MANIFEST, SIGNATURE, IntegrityError, read_manifest, require_intact
from tasks.manifests import ReleaseRecord
from tasks.objects import Objects, opened
from tasks.publishing import POINTER
from tasks.records import read_record
from tasks.releases import (
    champion_tag,
    place_of,
    point_to,
    record_file,
    require_signed_release,
    require_whole_release,
    staging_locked,
    store_locked,
)
from tasks.steps import make_folder, sync_folder, sync_tree, write_json

_VERSION = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
_ADDRESS = rf"([a-z][a-z0-9+.-]*://[^@?#\s]+)/({NAME.strip('^$')})(?::({_VERSION}))?"
_MOST_BYTES = 16 * 1024 * 1024  # of a manifest, a signature or a record


@dataclass(frozen=True)
class Pulled:
    """The release that is the champion now, and the one that was before."""

    tag: str
    before: str | None


@dataclass(frozen=True)
class _Published:
    """A release at an address: the objects, and the tag that its manifest must bear."""

    objects: Objects
    tag: str

    def __str__(self) -> str:
        return f"{self.objects.shown}/{self.tag}"

    def key(self, name: str) -> str:
        return f"{self.tag.replace(':', '/')}/{name}"


def pull(address: str, public_key: Path | None = None) -> Pulled:
    """Make the release at `SCHEME://BUCKET/PREFIX/PIPELINE[:VERSION]` this machine's champion.

    Without a version it is the one that the pointer there names; one that was rolled back on this
    machine is only pulled by its version. Each file is held against the manifest, and the whole
    against `public_key`, before one rename makes it visible. What is here already is not fetched.

    Raises:
        ConfigError: if the address or the key cannot be used.
        BentoError: if there is no such release, a file is missing or was changed, the release is
            not signed by the key, or either store cannot be used.
    """
    match = re.fullmatch(_ADDRESS, address)
    if match is None:
        raise ConfigError(
            f"{redact(address)}: is no published release; expected "
            "SCHEME://BUCKET/PREFIX/PIPELINE or .../PIPELINE:VERSION, without user, ? or #"
        )
    root, pipeline, version = match.groups()
    version = None if version == POINTER else version
    # Not the store's own lock: a slow network must keep no rollback waiting.
    with opened(root) as objects, staging_locked(".ekiben-pull.lock", ".ekiben-pull") as staging:
        published = _Published(objects, f"{pipeline}:{version or _latest(objects, pipeline)}")
        if version is None:
            _require_wanted(pipeline, published.tag)
        copy = staging / place_of(published.tag).name
        record = _fetch(published, copy, public_key)
        return _take_in(record, copy)


def _latest(objects: Objects, pipeline: str) -> str:
    content = objects.get_bytes(f"{pipeline}/{POINTER}", _MOST_BYTES)
    if content is None:
        raise BentoError(
            f"{objects.shown}/{pipeline}: no release is published there; expected the object "
            f"{POINTER!r}, which names one"
        )
    version = content.decode(errors="replace")
    if re.fullmatch(_VERSION, version) is None:
        raise BentoError(
            f"{objects.shown}/{pipeline}/{POINTER}: names {version[:80]!r}, which is no version; "
            "pull one by its name, or publish again"
        )
    return version


def _require_wanted(pipeline: str, tag: str) -> None:
    told = withdrawn(pipeline).get(tag)
    if told is not None:
        raise BentoError(
            f"{tag}: {told.by} rolled it back here to {told.tag} at {told.at}, so it is not pulled "
            f"again; name its version to restore it, or `ekiben rollback {pipeline} {tag}`"
        )


def _fetch(published: _Published, copy: Path, public_key: Path | None) -> ReleaseRecord:
    """Copy a release to a folder and check it, or do without where the store holds the same."""
    copy.mkdir()
    (copy / MANIFEST).write_bytes(_required(published, MANIFEST))
    try:
        manifest = read_manifest(copy)
    except IntegrityError as error:
        raise BentoError(f"{published}: {error}") from None
    if manifest["tag"] != published.tag:
        raise BentoError(f"{published}: its manifest is that of {manifest['tag']!r}")
    _require_plain(published, manifest["files"])
    signature = published.objects.get_bytes(
        published.key(f"{manifest['digest']}.signature"), _MOST_BYTES
    )
    here = place_of(published.tag)
    source = here if _is_here(published.tag, manifest, signature) else None
    if source is None:
        for name, file in manifest["files"].items():
            _fetch_file(published, copy / name, name, file)
        if signature is not None:
            (copy / SIGNATURE).write_bytes(signature)
    try:
        require_intact(source or copy)
    except IntegrityError as error:
        raise BentoError([f"{published}: {line}" for line in str(error).splitlines()]) from None
    if public_key is not None:
        require_signed_release(str(published), public_key, source or copy)
    record = _record(published, source or copy, manifest["digest"])
    if source is not None:
        shutil.rmtree(copy)
    return record


def _required(published: _Published, name: str) -> bytes:
    content = published.objects.get_bytes(published.key(name), _MOST_BYTES)
    if content is None:
        raise BentoError(
            f"{published}: is not published there, or not to its end; expected the object "
            f"{published.key(name)!r}"
        )
    return content


def _require_plain(published: _Published, files: Any) -> None:
    """Refuse a manifest whose names would climb out of the folder, or that is none of a Bento."""
    if not isinstance(files, dict):
        raise BentoError(f"{published}: its manifest names no files; expected those of a Bento")
    folders = {
        "/".join(parts[:end])
        for parts in (name.split("/") for name in files)
        for end in range(1, len(parts))
    }
    for name, file in files.items():
        parts = name.split("/")
        odd = {"", ".", ".."} & {*parts} or name in folders or name in (MANIFEST, SIGNATURE)
        if odd or not name.isprintable() or "\\" in name:
            raise BentoError(
                f"{published}: its manifest names {name!r}; expected paths within the release alone"
            )
        described = file.keys() == {"sha256", "size"} if isinstance(file, dict) else False
        if not described or re.fullmatch("[0-9a-f]{64}", str(file["sha256"])) is None:
            raise BentoError(f"{published}: its manifest gives no size and SHA-256 of {name!r}")
    if "bento.yaml" not in files:
        raise BentoError(f"{published}: its manifest names no 'bento.yaml'; expected a Bento's")


def _is_here(tag: str, manifest: dict[str, Any], signature: bytes | None) -> bool:
    place = place_of(tag)
    try:
        require_whole_release(tag)
        same = read_manifest(place)["digest"] == manifest["digest"]
    except (BentoError, IntegrityError):
        return False
    held = (place / SIGNATURE).read_bytes() if (place / SIGNATURE).exists() else None
    return same and held == signature


def _fetch_file(published: _Published, file: Path, name: str, described: dict[str, Any]) -> None:
    key = published.key(described["sha256"])
    size = published.objects.size(key)
    if size is None:
        raise BentoError(f"{published}: {name!r} is missing; expected it as the object {key!r}")
    file.parent.mkdir(parents=True, exist_ok=True)
    if size == described["size"]:
        published.objects.get(key, file)
    if size != described["size"] or file_digest(file) != described["sha256"]:
        raise BentoError(
            f"{published}: {name!r} was changed: the object {key!r} is not what its name and the "
            "manifest say; publish it again"
        )


def _record(published: _Published, copy: Path, manifest: str) -> ReleaseRecord:
    """Return the release's record, as one of this machine's store."""
    place = place_of(published.tag)
    try:
        told = json.loads(_required(published, f"{manifest}.record"))
        own = {"bento_path": place, "report": place / "report.html", "previous": None}
        record = ReleaseRecord.model_validate({**told, **own})
    except (ValueError, TypeError):
        raise BentoError(
            f"{published}: its record cannot be read; it is damaged, or of another version of "
            "Ekiben: publish it again"
        ) from None
    same = record.tag == published.tag and record.pipeline == published.tag.partition(":")[0]
    decision = copy / "decision.json"
    if decision.exists():
        same = same and read_record(decision)[0].decision == record.decision
    if not same:
        raise BentoError(f"{published}: its record is that of another release; publish it again")
    return record


def _take_in(record: ReleaseRecord, copy: Path) -> Pulled:
    """Rename the copy into the store, if one was needed, write the record, and move `latest`."""
    place = place_of(record.tag)
    with store_locked() as staging:
        before = champion_tag(record.pipeline)
        if copy.exists():
            sync_tree(copy)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():  # and is damaged, or of another run
                place.rename(staging / "replaced")
            copy.rename(place)
            sync_folder(place.parent)
        else:
            require_whole_release(record.tag)  # it may have been pruned since
        file = record_file(record.tag)
        if not file.exists() or before != record.tag:
            make_folder(file.parent)
            previous = before if before != record.tag else None
            record = record.model_copy(update={"previous": previous})
            write_json(file, record.model_dump(mode="json"))
        if before != record.tag:
            append(record.pipeline, event("pulled", record.tag, before))
            point_to(record.tag)
    return Pulled(record.tag, before)
