"""Stage release: one rename makes the proven Bento visible, then `latest` moves to it."""

import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import BentoError
from configs.schema import PipelineConfig, redact
from tasks.digests import file_digests, value_digest
from tasks.manifests import (
    BentoManifest,
    ProofReport,
    ReleaseRecord,
)
from tasks.records import DecisionRecord, contradictions
from tasks.releases import bento_store, read_release, record_file
from tasks.steps import sync_folder, write_json, write_text

log = logging.getLogger("ekiben")


def release_bento(
    config: PipelineConfig,
    decided: DecisionRecord,
    bento: BentoManifest,
    proof: ProofReport,
    report: Path,
) -> ReleaseRecord:
    """Put the proven Bento into the user's store, move `latest`, and record the release.

    The Bento is copied to a staging folder on the store's file system, checked against its
    manifest, and renamed into place: the store never holds a part of it. The report, the record of
    the decision and the proof travel in the Bento's own folder.

    Raises:
        BentoError: if decision, proof and Bento do not belong together, the decision does not
            follow from its evidence, or the copy is not whole.
    """
    _require_chain(decided, bento, proof)
    name, _, version = bento.tag.partition(":")
    place = bento_store() / "bentos" / name / version
    pointer = place.parent / "latest"
    previous = _previous(pointer, version)
    file = record_file(bento.tag)
    if file.exists() and _is_whole(place, bento):
        log.info("release: reused %s, nothing changed", bento.tag)
        record = read_release(bento.tag)
    else:
        _move_in(bento, proof, decided, report, place)
        record = _record(config, decided, bento, proof, report, place, previous)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, record.model_dump(mode="json"))
    write_text(pointer, version)
    return record


def _require_chain(decided: DecisionRecord, bento: BentoManifest, proof: ProofReport) -> None:
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


def _previous(pointer: Path, version: str) -> str | None:
    """Return the tag that `latest` names now, if it is another one."""
    if not pointer.exists():
        return None
    named = pointer.read_text(encoding="utf-8").strip()
    return f"{pointer.parent.name}:{named}" if named and named != version else None


def _is_whole(place: Path, bento: BentoManifest) -> bool:
    """Return whether the place holds every file of the Bento as it was built."""
    return place.is_dir() and _built_files(bento).items() <= file_digests(place).items()


def _built_files(bento: BentoManifest) -> dict[str, str]:
    inside = "bento/"
    return {
        name.removeprefix(inside): digest
        for name, digest in bento.files.items()
        if name.startswith(inside)
    }


def _move_in(
    bento: BentoManifest, proof: ProofReport, decided: DecisionRecord, report: Path, place: Path
) -> None:
    staging = bento_store() / ".ekiben-staging" / f"{place.parent.name}-{place.name}"
    replaced = staging.with_name(f"{staging.name}.replaced")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        shutil.copytree(bento.path("bento"), staging)
        if not _is_whole(staging, bento):
            raise BentoError(
                f"{bento.tag}: its copy at {staging} differs from what was proven; check the disk"
            )
        shutil.copyfile(report, staging / "report.html")
        write_json(staging / "proof.json", proof.model_dump(mode="json", exclude={"folder"}))
        write_json(staging / "decision.json", decided.model_dump(mode="json"))
        for folder in [staging, *(path for path in staging.rglob("*") if path.is_dir())]:
            sync_folder(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            place.rename(replaced)
        staging.rename(place)
        sync_folder(place.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _record(
    config: PipelineConfig,
    decided: DecisionRecord,
    bento: BentoManifest,
    proof: ProofReport,
    report: Path,
    place: Path,
    previous: str | None,
) -> ReleaseRecord:
    settings = config.model_dump(mode="json")
    settings["data"]["uri"] = redact(config.data.uri)
    return ReleaseRecord(
        tag=bento.tag,
        pipeline=config.name,
        released_at=datetime.now(UTC).isoformat(timespec="seconds"),
        bento_path=place,
        report=report,
        previous=previous,
        digests={
            **bento.parents,
            "bento": bento.digest,
            "proof": proof.digest,
            "config": value_digest(settings),
        },
        config=settings,
        decision=decided.decision,
    )


release = task(name="release", task_run_name="release", cache_policy=NO_CACHE)(release_bento)
