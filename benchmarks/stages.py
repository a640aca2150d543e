"""The stages of a whole line as calls that can be made again, each alone, and what they left."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

from prefect import Task

from configs.loading import load_config
from tasks.digests import file_digests
from tasks.manifests import Manifest
from tasks.progress import listening
from tasks.steps import home

PROGRESS = "progress.txt"


@dataclass(frozen=True)
class Stage:
    """One call of a stage: its function with what it was given, what it took, and what it made."""

    name: str
    call: Callable[[], Any]
    seconds: float
    made: Manifest | None

    @property
    def operation(self) -> Callable[[], Any]:
        """Return what is run, and killed; it notes its progress in the home that it works in."""
        return partial(_noting_progress, self.call)


def recorded_line(config: Path) -> list[Stage]:
    """Run a config's whole line and return its stages in order, but for what a release does.

    Prefect's engine is left out, which writes nothing of ours and would take most of the time.
    """
    from flows import pipeline

    stages: list[Stage] = []

    def call(task: Any, *arguments: Any, **keywords: Any) -> Any:
        started = perf_counter()
        made = task.fn(*arguments, **keywords)
        seconds = perf_counter() - started
        names = [stage.name for stage in stages]
        form = f" {keywords.get('form') or arguments[-1]}" if task.name == "form" else ""
        again = sum(name.split(" #")[0] == task.name for name in names)
        name = f"{task.name}{form}" if form or not again else f"{task.name} #{again + 1}"
        manifest = made if isinstance(made, Manifest) else None
        stages.append(Stage(name, partial(task.fn, *arguments, **keywords), seconds, manifest))
        return made

    with patch.object(Task, "__call__", call), patch.object(pipeline, "artifacts", _Unshown()):
        outcome = pipeline.run_line(load_config(config))
    assert outcome.record is not None, f"{config}: is not released"
    return [stage for stage in stages if stage.made is not None and stage.made.folder.exists()]


class _Unshown:
    """In the place of what a run shows in Prefect; what is shown is handed back."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *shown: shown[-1] if shown else None


def _noting_progress(call: Callable[[], Any]) -> None:
    with (
        (home() / PROGRESS).open("a", encoding="utf-8", buffering=1) as notes,
        listening(lambda stage, done, total, _: print(stage, done, total, file=notes)),
    ):
        call()


@contextmanager
def noted(home: Path) -> Iterator[list[int]]:
    """Yield a list that holds, after the block, the updates of training told of within it."""
    file = home / PROGRESS
    before = file.stat().st_size if file.exists() else 0
    updates: list[int] = []
    yield updates
    if file.exists():
        told = (line.split() for line in file.read_text(encoding="utf-8")[before:].splitlines())
        updates += [int(line[1]) for line in told if len(line) == 3 and line[0] == "finetune"]


def torn_steps(home: Path) -> int:
    """Return how many of the steps that a run would reuse are not as their manifest has them."""
    folders = [f for f in home.glob("steps/*/*") if f.is_dir() and not f.name.startswith(".")]
    return sum(not _is_whole(folder) for folder in folders)


def _is_whole(folder: Path) -> bool:
    try:
        files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return False
    found = file_digests(folder)
    found.pop("manifest.json")
    return bool(found == files)


def left_bytes(folder: Path) -> int:
    """Return the bytes of what is neither a step nor a cache: staging, parts, scratch folders."""
    parts = [p for p in folder.rglob("*") if p.name.endswith((".staging", ".partial"))]
    scratch = [p for p in folder.glob("tmp/ekiben-*/*") if p.is_dir()]
    inside = {file for part in [*parts, *scratch] for file in [part, *part.rglob("*")]}
    return sum(file.stat().st_size for file in inside if file.is_file())
