"""The history of a pipeline's releases: a line for each time that something became of one."""

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import ValidationError

from tasks.manifests import Record
from tasks.steps import home, make_folder, sync_folder

What: TypeAlias = Literal["released", "pulled", "rolled back", "restored", "pruned"]


class Event(Record):
    """What became of a release: `tag` is what is served from then on, or what was taken away."""

    at: str
    what: What
    tag: str
    instead_of: str | None
    by: str
    reason: str | None = None


def event(
    what: What,
    tag: str,
    instead_of: str | None = None,
    reason: str | None = None,
) -> Event:
    """Return an event of now, by the user of this process."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Event(at=at, what=what, tag=tag, instead_of=instead_of, by=_user(), reason=reason)


def append(pipeline: str, told: Event) -> None:
    """Write an event at the end of the history; it is on disk when this returns."""
    file = _file(pipeline)
    make_folder(file.parent)
    line = told.model_dump_json() + "\n"
    with file.open("ab+") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            # A kill in the middle of a line must not take the next one with it.
            line = line if stream.read(1) == b"\n" else "\n" + line
        stream.write(line.encode())
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(file.parent)


def read_history(pipeline: str) -> list[Event]:
    """Return all events, oldest first; a line that a kill cut off is left out."""
    file = _file(pipeline)
    if not file.exists():
        return []
    events = []
    for line in file.read_bytes().splitlines():
        try:
            events.append(Event.model_validate_json(line))
        except ValidationError:
            continue
    return events


def came(pipeline: str) -> dict[str, Event]:
    """Return for each release the event by which a run or a pull made it the champion last.

    They are in that order: the file's, since a clock may be set back between two releases.
    """
    found: dict[str, Event] = {}
    for told in read_history(pipeline):
        if told.what in ("released", "pulled"):
            found.pop(told.tag, None)
            found[told.tag] = told
    return found


def withdrawn(pipeline: str) -> dict[str, Event]:
    """Return the tags that were rolled back and not restored since, with what was told of each."""
    found: dict[str, Event] = {}
    for told in read_history(pipeline):
        if told.what != "pruned":
            found.pop(told.tag, None)
        if told.what == "rolled back" and told.instead_of is not None:
            found[told.instead_of] = told
    return found


def _file(pipeline: str) -> Path:
    return home() / "releases" / pipeline / "history.jsonl"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return str(os.getuid())
