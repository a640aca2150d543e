"""What was released: BentoML's store, the record of each release, and the champion of a pipeline."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from configs.errors import BentoError, ConfigError
from configs.loading import explain
from tasks.history import came
from tasks.integrity import SIGNATURE, IntegrityError, read_manifest, require_intact
from tasks.manifests import ReleaseRecord
from tasks.steps import home, write_text

STAGING = ".ekiben-staging"


def bento_store() -> Path:
    """Return BentoML's store: `$BENTOML_HOME`, else `~/bentoml`."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml").expanduser()


@contextmanager
def store_locked() -> Iterator[Path]:
    """Hold the store against every other process that changes releases; yield a clear staging folder.

    What a killed process left in the staging folder is removed. The kernel frees the lock with the
    process.

    Raises:
        BentoError: if the store cannot be written.
    """
    with staging_locked(".ekiben.lock", STAGING) as staging:
        yield staging


@contextmanager
def staging_locked(lock: str, name: str) -> Iterator[Path]:
    """Yield a clear folder in the store, held against every other process that uses it.

    Raises:
        BentoError: if the store cannot be written.
    """
    store = bento_store()
    try:
        store.mkdir(parents=True, exist_ok=True)
        with FileLock(store / lock):
            staging = store / name
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            try:
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise BentoError(
            f"{store}: cannot be written ({error.strerror or error}); expected a folder with room "
            "that this user may write: set BENTOML_HOME to one, and run again"
        ) from None


def place_of(tag: str) -> Path:
    """Return where a release lies in the store."""
    name, _, version = tag.partition(":")
    return bento_store() / "bentos" / name / version


def record_file(tag: str) -> Path:
    """Return where the record of a release lies."""
    name, _, version = tag.partition(":")
    return home() / "releases" / name / f"{version}.json"


def read_release(tag: str) -> ReleaseRecord:
    """Return the record of a release.

    Raises:
        BentoError: if there is none, the file is damaged, or another version of Ekiben wrote it.
    """
    file = record_file(tag)
    try:
        return ReleaseRecord.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise BentoError(
            f"{tag}: Ekiben released no such version; expected a record at {file}"
        ) from None
    except ValidationError as error:
        problems = explain(error, str(file))
        raise BentoError(
            f"{problems[0]}; the file is damaged or of another version of Ekiben: remove it, and "
            f"{tag} is served as before but no longer compared with"
        ) from None


def releases_of(pipeline: str) -> list[ReleaseRecord]:
    """Return the records of all releases of a pipeline, in the order in which they came.

    Those that the history does not tell of are put first, by their time.
    """
    versions = _versions(home() / "releases" / pipeline)
    records = [read_release(f"{pipeline}:{version}") for version in versions]
    order = {tag: number for number, tag in enumerate(came(pipeline))}
    return sorted(records, key=lambda record: (order.get(record.tag, -1), record.released_at))


def _versions(folder: Path) -> list[str]:
    """Return the versions that have a record; beside it lies, as `V.profile.json`, its profile."""
    return [file.stem for file in folder.glob("*.json") if "." not in file.stem]


def pipelines() -> list[str]:
    """Return the names of all pipelines that have released anything."""
    return sorted(folder.name for folder in (home() / "releases").glob("*") if _versions(folder))


def champion_tag(pipeline: str) -> str | None:
    """Return the tag that `latest` names, whether Ekiben released it or not."""
    pointer = bento_store() / "bentos" / pipeline / "latest"
    try:
        version = pointer.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    return f"{pipeline}:{version}" if version else None


def champion(pipeline: str) -> ReleaseRecord | None:
    """Return the record of the release that `latest` names, or None where there is none."""
    tag = champion_tag(pipeline)
    return read_release(tag) if tag is not None and record_file(tag).exists() else None


def point_to(tag: str) -> None:
    """Make a release the one that `latest` names, by one rename."""
    place = place_of(tag)
    write_text(place.parent / "latest", place.name)


def require_whole_release(tag: str) -> None:
    """Check every file of a release against its manifest, and that against the tag.

    Raises:
        BentoError: if the release is not in the store, or is not what was released.
    """
    place = place_of(tag)
    if not place.is_dir():
        raise BentoError(f"{tag}: is not in the store at {place}; expected the released Bento")
    try:
        read_manifest(place)  # what has neither this nor a bento.yaml passes for being built
        require_intact(place)
    except IntegrityError as error:
        raise BentoError([f"{tag}: {line}" for line in str(error).splitlines()]) from None


def require_as_released(record: ReleaseRecord) -> None:
    """Check that a release's files are whole, and those that its record is of.

    Raises:
        BentoError: if the release is not in the store, or is not what was released.
    """
    require_whole_release(record.tag)
    place = place_of(record.tag)
    recorded, found = record.digests.get("manifest", ""), read_manifest(place)["digest"]
    if recorded != found:
        raise BentoError(
            f"{record.tag}: the record of its release is of other files than {place} holds; "
            f"expected the manifest {recorded[:16]}…, got {found[:16]}…"
        )


def require_signed_release(tag: str, public_key: Path, place: Path | None = None) -> None:
    """Check that the owner of a key signed a release, in the store or at `place`.

    Raises:
        ConfigError: if the key, or the packages that signing needs, are not there.
        BentoError: if the release is not signed by it.
    """
    try:
        from tasks.signing import SignatureError, require_public_key, require_signed
    except ImportError as error:
        raise ConfigError(
            f"{public_key}: a signature needs the package {error.name!r}, which is not installed; "
            "pip install 'ekiben[signing]'"
        ) from None
    try:
        require_public_key(public_key)
    except SignatureError as error:
        raise ConfigError(str(error)) from None
    place = place or place_of(tag)
    try:
        require_signed(place, place / SIGNATURE, public_key)
    except SignatureError as error:
        raise BentoError(f"{tag}: {error}") from None
