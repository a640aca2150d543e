"""Stage publish: a release as objects that no writer changes, then its manifest, then the pointer.

An object store has neither rename nor lock. So a file's object is named by its own SHA-256: writers
who differ never write to one key, and whoever reads believes only what a whole manifest names.

    PIPELINE/VERSION/SHA256                  each file of the Bento
    PIPELINE/VERSION/MANIFEST-DIGEST.record  and .signature, of the release with that manifest
    PIPELINE/VERSION/manifest.json           last; without it there is no such release
    PIPELINE/latest                          the version of the champion
"""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import BentoError, ConfigError, EkibenError
from configs.schema import PipelineConfig, redact
from tasks.digests import file_digest
from tasks.integrity import MANIFEST, SIGNATURE, read_manifest
from tasks.manifests import ReleaseRecord
from tasks.objects import Objects, opened
from tasks.releases import (
    champion_tag,
    place_of,
    read_release,
    record_file,
    require_whole_release,
)
from tasks.steps import home, make_folder, write_text

log = logging.getLogger("ekiben")
POINTER = "latest"
_OWN = {"bento_path", "report", "previous"}  # of a record: what is true of this machine alone


def require_publishable(config: PipelineConfig) -> None:
    """Check that `release.publish`, where it is set, can be written, by an object that goes again.

    Raises:
        ConfigError: if it cannot, or the package that opens it is not installed.
    """
    address = config.release.publish
    if address is None:
        return
    probe = f"{config.name}/.probe-{uuid.uuid4().hex}"
    try:
        with opened(address) as objects:
            objects.put_bytes(probe, b"may this be written?")
            objects.remove(probe)
    except EkibenError as error:
        raise ConfigError([f"release.publish: {line}" for line in error.problems]) from None


def publish_release(config: PipelineConfig, record: ReleaseRecord) -> None:
    """Copy a release to `release.publish`; if it is the champion, let the pointer there name it.

    What is there already, by its SHA-256, is left as it is: a run goes on where one was killed, and
    publishing again changes nothing. From then on, rollback and prune act there as well.

    Raises:
        BentoError: if the store cannot be written; the release stays in the local store.
    """
    assert config.release.publish is not None
    with _locked(config.name):
        write_text(_address_file(config.name), config.release.publish)
        with _in_words(record.tag):
            _push(config.release.publish, record.tag)


def published_at(pipeline: str) -> str | None:
    """Return the address where a pipeline was published last, if it ever was."""
    file = _address_file(pipeline)
    return file.read_text(encoding="utf-8") if file.exists() else None


def push(pipeline: str) -> str | None:
    """Publish the champion, and let the pointer name it; return where, if anywhere.

    Raises:
        BentoError: if the store cannot be written, or the champion is not as it was released.
    """
    address, tag = published_at(pipeline), champion_tag(pipeline)
    if address is None or tag is None:
        return None
    with _locked(pipeline), _in_words(tag):
        _push(address, tag)
    return redact(address)


def unpublish_pruned(pipeline: str, goes: set[str], *, dry_run: bool = False) -> list[str]:
    """Remove what was pruned here from where the pipeline is published, too; return the tags.

    With `dry_run`, say what would be removed if `goes` were pruned. Another machine's releases
    stay, and what the pointer names.

    Raises:
        BentoError: if the store cannot be read or written.
    """
    address = published_at(pipeline)
    if address is None:
        return []
    with _locked(pipeline), opened(address) as objects:
        named = (objects.get_bytes(f"{pipeline}/{POINTER}", 200) or b"").decode(errors="replace")
        tags = [f"{pipeline}:{version}" for version in objects.names(pipeline)]
        gone = [
            tag
            for tag in tags
            if record_file(tag).exists()
            and tag != f"{pipeline}:{named}"
            and (tag in goes or not place_of(tag).is_dir())
        ]
        for tag in [] if dry_run else gone:
            place = tag.replace(":", "/")
            objects.remove(f"{place}/{MANIFEST}")  # first: from then on it is no release
            objects.remove(place)
    return gone


def _push(address: str, tag: str) -> None:
    """Put all files, then the manifest, then the pointer if the release is the champion."""
    require_whole_release(tag)
    place, base = place_of(tag), tag.replace(":", "/")
    pipeline = tag.partition(":")[0]
    manifest = read_manifest(place)
    record = read_release(tag).model_dump_json(exclude=_OWN, indent=1)
    with opened(address) as objects:
        objects.sweep(pipeline)
        new = 0
        by_digest = {file["sha256"]: place / name for name, file in manifest["files"].items()}
        for sha256, file in by_digest.items():
            new += objects.put(f"{base}/{sha256}", file, sha256)
        if (place / SIGNATURE).exists():
            signature = f"{base}/{manifest['digest']}.signature"
            new += objects.put(signature, place / SIGNATURE, file_digest(place / SIGNATURE))
        new += objects.put_bytes(f"{base}/{manifest['digest']}.record", record.encode())
        new += objects.put(f"{base}/{MANIFEST}", place / MANIFEST, file_digest(place / MANIFEST))
        if champion_tag(pipeline) == tag:
            new += _point(objects, tag)
    log.info("publish: %s at %s, %d objects new", tag, redact(address), new)


def _point(objects: Objects, tag: str) -> bool:
    pipeline, _, version = tag.partition(":")
    return objects.put_bytes(f"{pipeline}/{POINTER}", version.encode())


@contextmanager
def _in_words(tag: str) -> Iterator[None]:
    try:
        yield
    except EkibenError as error:
        pipeline = tag.partition(":")[0]
        raise BentoError(
            f"{tag}: is whole in the local store, but not published: {error}; then "
            f"`ekiben push {pipeline}`, or the next run, goes on with it"
        ) from None


@contextmanager
def _locked(pipeline: str) -> Iterator[None]:
    """Hold a pipeline's publishing against this machine's other processes."""
    make_folder(_address_file(pipeline).parent)
    with FileLock(_address_file(pipeline).with_suffix(".lock")):
        yield


def _address_file(pipeline: str) -> Path:
    return home() / "releases" / pipeline / "published.address"


publish = task(name="publish", task_run_name="publish", cache_policy=NO_CACHE)(publish_release)
