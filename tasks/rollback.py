"""Roll a pipeline back: let `latest` name an earlier release again, by one rename."""

from configs.errors import BentoError
from tasks.history import append, came, event, withdrawn
from tasks.manifests import ReleaseRecord
from tasks.releases import (
    champion_tag,
    point_to,
    read_release,
    releases_of,
    require_whole_release,
    store_locked,
)


def roll_back(pipeline: str, tag: str | None = None, reason: str | None = None) -> str | None:
    """Make the release before the champion, or `tag`, the champion; return what was so before.

    What is rolled back is not released again by a later run of the same config and data; naming it
    as `tag` restores it. A running `ekiben serve` swaps within seconds.

    Raises:
        BentoError: if there is no such release, or its files are not those that were released.
    """
    with store_locked():
        before = champion_tag(pipeline)
        target = _target(pipeline, before, tag)
        require_whole_release(target.tag)
        if target.tag == before:
            raise BentoError(f"{target.tag}: is served already; name another release")
        newer = before is not None and _is_newer(pipeline, before, target)
        # Written first: a history that tells of what did not happen is put right by doing it again,
        # one that leaves out what did is not.
        what = event("rolled back" if newer else "restored", target.tag, before, reason)
        append(pipeline, what)
        point_to(target.tag)
    return before


def _target(pipeline: str, before: str | None, tag: str | None) -> ReleaseRecord:
    if tag is not None:
        return read_release(tag)
    released = releases_of(pipeline)
    if before is None:
        raise BentoError(f"{pipeline}: has no release to roll back; `ekiben releases` lists all")
    previous = _predecessor(pipeline, before)
    if previous is None:
        raise BentoError(
            f"{before}: is the first release of {len(released)}, so there is none to roll back to; "
            f"`ekiben releases {pipeline}` lists all"
        )
    return read_release(previous)


def predecessor(pipeline: str) -> str | None:
    """Return the tag that `ekiben rollback PIPELINE` would take, if there is one."""
    before = champion_tag(pipeline)
    return None if before is None else _predecessor(pipeline, before)


def _predecessor(pipeline: str, tag: str) -> str | None:
    """Return what was served before a release came; what a person took back is passed over."""
    by_tag = {record.tag: record for record in releases_of(pipeline)}
    before = {name: record.previous for name, record in by_tag.items()}
    before |= {name: told.instead_of for name, told in came(pipeline).items()}
    taken_back = withdrawn(pipeline)
    seen = {tag}
    previous = before.get(tag)
    while previous in by_tag and (
        previous in taken_back or not by_tag[previous].bento_path.is_dir()
    ):
        if previous in seen:
            return None
        seen.add(previous)
        previous = before.get(previous)
    return None if previous in seen else previous


def _is_newer(pipeline: str, tag: str, target: ReleaseRecord) -> bool:
    order = [record.tag for record in releases_of(pipeline)]
    return tag in order and order.index(tag) > order.index(target.tag)
