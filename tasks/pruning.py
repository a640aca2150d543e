"""Prune a pipeline's releases: what is removed can be neither served nor rolled back to any more."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.history import append, event
from tasks.releases import champion_tag, place_of, releases_of, store_locked
from tasks.rollback import predecessor
from tasks.steps import sync_folder


@dataclass(frozen=True)
class Pruned:
    """A release that is, or would be, removed, and the bytes of its files."""

    tag: str
    size_bytes: int


def prune(pipeline: str, keep: int, *, dry_run: bool = False) -> list[Pruned]:
    """Remove all releases but the champion, its predecessor and the newest `keep` from the store.

    Their records stay, so that an answer of theirs can still be traced. With `dry_run`, say what
    would be removed.

    Raises:
        BentoError: if the store cannot be written, or a record cannot be read.
    """
    with store_locked() as staging:
        there = [record.tag for record in releases_of(pipeline) if place_of(record.tag).is_dir()]
        kept = {champion_tag(pipeline), predecessor(pipeline), *there[max(len(there) - keep, 0) :]}
        goes = [Pruned(tag, _size(place_of(tag))) for tag in there if tag not in kept]
        for pruned in [] if dry_run else goes:
            place = place_of(pruned.tag)
            append(pipeline, event("pruned", pruned.tag))
            place.rename(staging / place.name)  # at once, so that no part of it is ever seen
            sync_folder(place.parent)
            shutil.rmtree(staging / place.name)
    return goes


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
