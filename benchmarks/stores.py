"""Copies of a store with a released pipeline in it, and what is done to them."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from configs.schema import PipelineConfig
from tasks.digests import file_digests
from tasks.history import append, event
from tasks.integrity import IntegrityError, require_intact, write_manifest
from tasks.manifests import BentoManifest, ProofReport
from tasks.pruning import prune
from tasks.records import read_record
from tasks.releases import STAGING, champion, point_to
from tasks.releasing import release_bento
from tasks.rollback import roll_back
from tasks.steps import home, write_json

OLD = ("v1", "v2", "v3")


@dataclass(frozen=True)
class Store:
    """A store of Bentos with the records of their releases, and what a further release is made of."""

    pipeline: str
    folder: Path
    parts: tuple[Any, ...]  # of a release: config, decision record, Bento, proof, report

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables by which Ekiben and BentoML find it."""
        named = {"EKIBEN_HOME": "ekiben", "BENTOML_HOME": "bentoml"}
        return {variable: str(self.folder / name) for variable, name in named.items()}

    @property
    def bentos(self) -> Path:
        """Return the folder of the pipeline's Bentos."""
        return self.folder / "bentoml" / "bentos" / self.pipeline

    @contextmanager
    def copied(self, folder: Path) -> Iterator["Store"]:
        """Yield a copy in a folder that is removed afterwards; what is never written to is linked."""
        shutil.copytree(self.folder / "ekiben", folder / "ekiben")
        shutil.copytree(self.folder / "bentoml", folder / "bentoml", copy_function=os.link)
        try:
            yield Store(self.pipeline, folder, self.parts)
        finally:
            shutil.rmtree(folder)

    def visible(self) -> list[Path]:
        """Return every Bento that `bentoml list` would show."""
        return sorted(place for place in self.bentos.iterdir() if place.is_dir())

    def served(self) -> str:
        """Return the version that `latest` names."""
        return (self.bentos / "latest").read_text(encoding="utf-8").strip()

    def pointer_is_valid(self) -> bool:
        """Return whether `latest` names a whole Bento."""
        return intact(self.bentos / self.served())

    def left_bytes(self) -> int:
        """Return the bytes of all that is neither a Bento, a record, nor `latest`."""
        staging = self.folder / "bentoml" / STAGING
        partial_files = [*self.folder.rglob("*.partial")]
        inside = [*staging.rglob("*")] if staging.exists() else []
        return sum(file.stat().st_size for file in [*inside, *partial_files] if file.is_file())


def intact(bento: Path) -> bool:
    """Return whether a Bento is there, with every file that its manifest names and no other."""
    try:
        require_intact(bento)
    except IntegrityError:
        return False
    return (bento / "manifest.json").is_file()


@contextmanager
def template(pipeline: str, folder: Path) -> Iterator[Store]:
    """Yield a store with three releases of the pipeline's champion under versions of their own."""
    record = champion(pipeline)
    assert record is not None
    store = Store(pipeline, folder, _parts_of_a_release(pipeline))
    before = dict(os.environ)
    os.environ.update(store.environment)
    try:
        previous = None
        for number, version in enumerate(OLD, 1):
            tag, place = f"{pipeline}:{version}", store.bentos / version
            shutil.copytree(record.bento_path, place)
            write_manifest(place, tag)
            at = f"2026-01-0{number}T00:00:00+00:00"
            told = {"tag": tag, "bento_path": place, "previous": previous, "released_at": at}
            file = home() / "releases" / pipeline / f"{version}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, record.model_copy(update=told).model_dump(mode="json"))
            append(pipeline, event("released", tag, previous))
            previous = tag
        assert previous is not None
        point_to(previous)
        yield store
    finally:
        os.environ.clear()
        os.environ.update(before)


def _parts_of_a_release(pipeline: str) -> tuple[Any, ...]:
    record = champion(pipeline)
    assert record is not None
    steps = home() / "steps"
    built = (BentoManifest.read(file) for file in steps.glob("build/*/manifest.json"))
    bento = next(bento for bento in built if bento.tag == record.tag)
    proofs = (ProofReport.read(file) for file in steps.glob("prove/*/manifest.json"))
    proof = next(proof for proof in proofs if proof.parents["bento"] == bento.digest)
    decided, _ = read_record(record.bento_path / "decision.json")
    config = PipelineConfig.model_validate(record.config)
    return config, decided, bento, proof, record.report


def release_as(parts: tuple[Any, ...], version: str) -> None:
    """Release the same Bento under another version."""
    config, decided, bento, proof, report = parts
    bento = bento.model_copy(update={"tag": f"{config.name}:{version}"})
    proof = proof.model_copy(update={"parents": {**proof.parents, "bento": bento.digest}})
    release_bento(config, decided, bento, proof, report)


@dataclass(frozen=True)
class Trial:
    """An operation on a store, and whether it came to its end."""

    store: Store
    name: str
    version: str = "v4"

    @property
    def operation(self) -> Callable[[], Any]:
        """Return what is run, and killed."""
        pipeline = self.store.pipeline
        operations: dict[str, Callable[[], Any]] = {
            "release": partial(release_as, self.store.parts, self.version),
            "rollback": partial(roll_back, pipeline, f"{pipeline}:v2"),
            "prune": partial(prune, pipeline, 0),
            "bentoml": partial(build_by_bentoml, self.store.folder),
        }
        return operations[self.name]

    def was_done(self) -> bool:
        """Return whether the store is as the operation is to leave it."""
        versions = {place.name for place in self.store.visible()}
        if self.name == "release":
            return self.store.served() == self.version and self.version in versions
        if self.name == "rollback":
            return self.store.served() == "v2"
        return versions == {"v2", "v3"}


def build_by_bentoml(folder: Path) -> None:
    """Build the champion's files as BentoML's tutorial does, straight into the store."""
    from bentoml import bentos
    from bentoml._internal.configuration.containers import BentoMLContainer

    BentoMLContainer.bentoml_home.set(str(folder / "bentoml"))
    (folder / "bentoml" / "tmp").mkdir(exist_ok=True)  # as BentoML makes it when it is imported
    (source,) = (folder / "bentoml" / "bentos").glob("*/v3/src")
    context = folder / "context"
    if not context.exists():
        shutil.copytree(source, context)
        for name in ("env/python/requirements.txt", "README.md"):
            shutil.copy(source.parent / name, context)
    os.chdir(context)  # it refuses to build elsewhere
    bentos.build_bentofile(build_ctx=str(context), version="built")


def rival_torn(store: Store) -> bool:
    """Return whether BentoML lists a Bento that is not what was built, or can list none any more."""
    from bentoml._internal.bento.bento import BentoStore
    from bentoml.exceptions import BentoMLException

    try:
        listed = {bento.tag.version for bento in BentoStore(store.bentos.parent).list()}
    except BentoMLException:  # a folder without bento.yaml ends `bentoml list` for all Bentos
        return True
    made = file_digests(store.bentos / "built" / "src")
    given = file_digests(store.bentos / "v3" / "src")
    files = {name: digest for name, digest in given.items() if "__pycache__" not in name}
    return "built" in listed and not files.items() <= made.items()
