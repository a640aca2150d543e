"""Stage release: one rename makes the proven Bento visible, then `latest` moves to it."""

import logging
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import BentoError, ConfigError
from configs.schema import PipelineConfig, redact
from tasks.digests import value_digest
from tasks.history import append, event, withdrawn
from tasks.integrity import MANIFEST, SIGNATURE, read_manifest, write_manifest
from tasks.manifests import BentoManifest, ProofReport, ReleaseRecord
from tasks.records import DecisionRecord, contradictions
from tasks.releases import (
    champion_tag,
    place_of,
    point_to,
    read_release,
    record_file,
    require_whole_release,
    store_locked,
)
from tasks.steps import make_folder, sync_folder, sync_tree, write_json

log = logging.getLogger("ekiben")


@dataclass(frozen=True)
class Proven:
    """A Bento with all that lets it be released: its decision, its proof, and the run's report."""

    bento: BentoManifest
    proof: ProofReport
    decided: DecisionRecord
    report: Path


def release_bento(
    config: PipelineConfig,
    decided: DecisionRecord,
    bento: BentoManifest,
    proof: ProofReport,
    report: Path,
) -> ReleaseRecord:
    """Put the proven Bento into the user's store, move `latest`, and record the release.

    The Bento is copied to a staging folder on the store's file system, checked against what was
    proven, brought to the disk, and renamed into place: the store never holds a part of it. The
    report, the record of the decision and the proof travel in the Bento's own folder, and its
    manifest names them all.

    Raises:
        BentoError: if decision, proof and Bento do not belong together, the decision does not
            follow from its evidence, the copy is not whole, the store cannot be written, or this
            very Bento was released before and rolled back.
    """
    proven = Proven(bento, proof, decided, report)
    _require_chain(proven)
    key = Path(config.release.signing_key) if config.release.signing_key else None
    with store_locked() as staging:
        _require_wanted(config.name, bento.tag)
        before = champion_tag(config.name)
        if _is_whole(bento) and (key is None or _is_signed(bento, key, staging)):
            log.info("release: reused %s, nothing changed", bento.tag)
        else:
            _move_in(proven, staging, key)
        file = record_file(bento.tag)
        if not file.exists():
            make_folder(file.parent)
            previous = before if before != bento.tag else None
            write_json(file, _record(config, proven, previous).model_dump(mode="json"))
        if before != bento.tag:
            append(config.name, event("released", bento.tag, before))
            point_to(bento.tag)
        return read_release(bento.tag)


def require_signing_key(config: PipelineConfig) -> None:
    """Check that `release.signing_key`, where it is set, can sign.

    Raises:
        ConfigError: if it cannot, or the packages that sign are not installed.
    """
    key = config.release.signing_key
    if key is None:
        return
    missing = [name for name in ("model_signing", "OpenSSL") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"release.signing_key needs the package {missing[0]!r}, which is not installed; "
            "pip install 'ekiben[signing]', or leave it out"
        )
    from tasks.signing import SignatureError, require_private_key

    try:
        require_private_key(Path(key))
    except SignatureError as error:
        raise ConfigError(f"release.signing_key: {error}") from None


def _require_chain(proven: Proven) -> None:
    decided, bento, proof = proven.decided, proven.bento, proven.proof
    chained = (
        decided.decision.action == "release"
        and bento.parents["decision"] == decided.decision.digest
        and bento.parents["evaluation"] == decided.evidence.evaluation.digest
        and proof.parents["bento"] == bento.digest
    )
    if not chained:
        raise BentoError(
            f"{bento.tag}: decision, Bento and proof are not of one run; only a Bento that is "
            "to be released and was proven is"
        )
    if problems := list(contradictions(decided)):
        raise BentoError([f"{bento.tag}: is not released: {problem}" for problem in problems])


def _require_wanted(pipeline: str, tag: str) -> None:
    """Refuse what a person took back: a schedule that runs again must not bring it forth again."""
    told = withdrawn(pipeline).get(tag)
    if told is not None:
        raise BentoError(
            f"{tag}: {told.by} rolled it back to {told.tag} at {told.at}, so it is not released "
            f"again; `ekiben rollback {pipeline} {tag}` restores it"
        )


def _is_whole(bento: BentoManifest) -> bool:
    """Return whether the store holds the Bento as it was built, with what a release adds."""
    try:
        require_whole_release(bento.tag)
    except BentoError:
        return False
    return _holds(place_of(bento.tag), bento)


def _is_signed(bento: BentoManifest, key: Path, staging: Path) -> bool:
    from tasks.signing import SignatureError, public_key_of, require_signed

    place, public = place_of(bento.tag), staging / "key.pub"
    public.write_bytes(public_key_of(key))
    try:
        require_signed(place, place / SIGNATURE, public)
    except SignatureError:
        return False
    return True


def _holds(place: Path, bento: BentoManifest) -> bool:
    """Return whether a manifest names every file that was built, as it was built."""
    listed = {name: file["sha256"] for name, file in read_manifest(place)["files"].items()}
    return _built_files(bento).items() <= listed.items()


def _built_files(bento: BentoManifest) -> dict[str, str]:
    inside = "bento/"
    return {
        name.removeprefix(inside): digest
        for name, digest in bento.files.items()
        if name.startswith(inside) and name != f"{inside}{MANIFEST}"
    }


def _move_in(proven: Proven, staging: Path, key: Path | None) -> None:
    """Copy the Bento, add what a release adds, sign it, and rename it into place."""
    bento = proven.bento
    place = place_of(bento.tag)
    copy = staging / place.name
    shutil.copytree(bento.path("bento"), copy)
    shutil.copyfile(proven.report, copy / "report.html")
    write_json(copy / "proof.json", proven.proof.model_dump(mode="json", exclude={"folder"}))
    write_json(copy / "decision.json", proven.decided.model_dump(mode="json"))
    write_manifest(copy, bento.tag)
    if not _holds(copy, bento):
        raise BentoError(
            f"{bento.tag}: its copy at {copy} differs from what was proven; check the disk"
        )
    if key is not None:
        from tasks.signing import sign

        sign(copy, copy / SIGNATURE, key)
    sync_tree(copy)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():  # and is damaged, or it would have stayed
        place.rename(staging / "damaged")
    copy.rename(place)
    sync_folder(place.parent)


def _record(config: PipelineConfig, proven: Proven, previous: str | None) -> ReleaseRecord:
    bento = proven.bento
    place = place_of(bento.tag)
    settings = config.model_dump(mode="json")
    settings["data"]["uri"] = redact(config.data.uri)
    return ReleaseRecord(
        tag=bento.tag,
        pipeline=config.name,
        released_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bento_path=place,
        report=proven.report,
        previous=previous,
        digests={
            **bento.parents,
            "bento": bento.digest,
            "proof": proven.proof.digest,
            "manifest": read_manifest(place)["digest"],
            "config": value_digest(settings),
        },
        config=settings,
        decision=proven.decided.decision,
    )


release = task(name="release", task_run_name="release", cache_policy=NO_CACHE)(release_bento)
