"""Let the writes of a whole line fail, run after run in the same homes, until it is released.

`python -m benchmarks.faults` runs a config's line undisturbed, then again and again in homes of their
own. In each run one write fails, drawn by its number, or all from that one on: the disk is full,
fails, or may only be read. A run reuses what the runs before it made, so that the failures creep
through every stage. After each run it looks at all that a reader could see. `failing_writes.c`
lets writes fail, so gcc must be there.
"""

import argparse
import errno
import json
import math
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console

from benchmarks.line import RESULTS, surroundings
from tasks.digests import file_digest, file_digests
from tasks.steps import MANIFEST, home

SEED = 0
KINDS = [(name, stays) for stays in (False, True) for name in ("ENOSPC", "EIO", "EROFS")]
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["flows.pipeline", "bentoml"])


@dataclass(frozen=True)
class Ended:
    """How a run ended: `released`, in `words`, or with a `traceback`; its writes and those failed."""

    how: str
    told: str
    writes: int
    failed: int


@dataclass
class Found:
    """What came of the runs whose writes failed."""

    runs: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)  # that a run's words name
    kinds: Counter[str] = field(default_factory=Counter)
    harmless: int = 0  # released, though a write failed
    torn: int = 0  # steps, Bentos or a `latest` that a reader would see and that are not whole
    lines: int = 0
    other_weights: int = 0  # lines that trained to other bits than the undisturbed one
    bad: list[str] = field(default_factory=list)


def run(config: Path, homes: dict[str, str], fault: dict[str, str], folder: Path) -> Ended:
    """Run the line once in a process of its own, its writes numbered, and failing as told."""
    count = folder / "count"
    count.write_bytes(bytes(16))
    numbered = {"FAULTS_BELOW": ":".join(homes.values()), "FAULTS_COUNT": str(count), **fault}
    ours, theirs = _fork.Pipe(duplex=False)
    process = _fork.Process(target=_run, args=(config, {**homes, **numbered}, theirs))
    process.start()
    theirs.close()
    try:
        how, told = ours.recv()
    except EOFError:
        how, told = "died", f"exit code {process.exitcode}"
    process.join()
    numbers = count.read_bytes()
    writes, failed = (int.from_bytes(part, sys.byteorder) for part in (numbers[:8], numbers[8:]))
    return Ended(how, told, writes, failed)


def _run(config: Path, environment: dict[str, str], theirs: Connection) -> None:
    """Call the flow's own function; Prefect's engine, which writes nothing of ours, is left out."""
    os.environ.update(environment)
    tempfile.tempdir = None
    from prefect import Task

    from configs.loading import load_config
    from flows import pipeline

    def call(task: Any, *arguments: Any, **keywords: Any) -> Any:
        return task.fn(*arguments, **keywords)

    try:
        with patch.object(Task, "__call__", call), patch.object(pipeline, "artifacts", _Unshown()):
            state: Any = pipeline.pipeline.fn(load_config(config))
        if state.is_failed():
            theirs.send(("words", state.message))
        else:
            theirs.send(("released", state.data.record.tag))
    except BaseException:  # noqa: BLE001  (it is counted)
        theirs.send(("traceback", traceback.format_exc()[-1500:]))


class _Unshown:
    """In the place of what a run shows in Prefect; what is shown is handed back."""

    def ProgressArtifacts(self, _config: Any) -> Any:  # noqa: N802  (a class, where it is)
        return lambda *_told: None

    def __getattr__(self, name: str) -> Any:
        return lambda *shown: shown[-1] if shown else None


def torn(homes: dict[str, str]) -> list[str]:
    """Return what a reader would see, and is not whole: steps, Bentos, the pointer `latest`."""
    steps = Path(homes["EKIBEN_HOME"]) / "steps"
    seen = [place for place in steps.glob("*/[!.]*") if place.is_dir()]
    odd = [str(place) for place in seen if not _is_whole(place)]
    bentos = Path(homes["BENTOML_HOME"]) / "bentos"
    places = [place for place in bentos.glob("*/*") if place.is_dir()]
    with patch.dict(os.environ, homes):
        from configs.errors import BentoError
        from tasks.releases import require_whole_release

        for place in places:
            try:
                require_whole_release(f"{place.parent.name}:{place.name}")
            except BentoError as error:
                odd.append(str(error))
    pointers = [(place, place.read_text(encoding="utf-8")) for place in bentos.glob("*/latest")]
    dangling = [str(at) for at, version in pointers if not (at.parent / version.strip()).is_dir()]
    return [*odd, *dangling]


def _is_whole(place: Path) -> bool:
    try:
        told = json.loads((place / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return False
    found = file_digests(place)
    found.pop(MANIFEST)
    return bool(found == told)


def creep(config: Path, folder: Path, runs: int) -> dict[str, Any]:
    """Have writes fail until there were so many runs, and a whole line came to its end."""
    draw, kinds, found = random.Random(SEED), cycle(KINDS), Found()  # noqa: S311  (no secret)
    with_homes = _homes(folder / "whole")
    whole = run(config, with_homes, {}, folder)
    assert whole.how == "released", whole
    wanted = _weights(with_homes)
    shutil.rmtree(folder / "whole")
    while found.runs < runs:
        homes = _homes(folder / "trial")
        while True:
            # Small and large alike: what is reused takes few writes, a stage that is made takes many.
            at = int(math.exp(draw.uniform(math.log(8), math.log(whole.writes / 2))))
            kind, stays = next(kinds)
            until = sys.maxsize if stays else at + 1
            number = str(getattr(errno, kind))
            fault = {"FAULTS_FROM": at, "FAULTS_UNTIL": until, "FAULTS_ERRNO": number}
            ended = run(config, homes, {name: str(value) for name, value in fault.items()}, folder)
            if not ended.failed:  # the line came to its end before that write
                break
            _note(found, ended, f"{kind}{' from' if stays else ' at'} write {at}", torn(homes))
            if ended.how == "released" or found.runs >= runs:
                break
        last = run(config, homes, {}, folder)
        found.lines += 1
        found.other_weights += _weights(homes) != wanted
        found.torn += len(torn(homes))
        if last.how != "released":
            found.bad.append(f"the next run: {last.how}: {last.told}")
        shutil.rmtree(folder / "trial")
    return {"writes_of_an_undisturbed_line": whole.writes, **vars(found)}


def _weights(homes: dict[str, str]) -> str:
    """Return the digest of the weights; a release's tag also stands for the times that it took."""
    (file,) = Path(homes["EKIBEN_HOME"]).glob("steps/finetune/*/model/model.safetensors")
    return file_digest(file)


def _note(found: Found, ended: Ended, fault: str, odd: list[str]) -> None:
    found.runs += 1
    found.ended[ended.how] += 1
    found.kinds[fault.rpartition(" write")[0]] += 1
    found.torn += len(odd)
    if ended.how == "words":
        found.stages[ended.told.partition(":")[0]] += 1
    found.harmless += ended.how == "released"
    if ended.how not in ("released", "words") or odd:
        found.bad.append(f"{fault}: {ended.how}: {ended.told} {odd}")
    Console(stderr=True).print(f"{fault}: {ended.how}: {ended.told}", markup=False)


def _homes(folder: Path) -> dict[str, str]:
    """Return the variables of empty homes that have what was fetched."""
    homes = {name: folder / name.lower() for name in ("EKIBEN_HOME", "BENTOML_HOME", "TMPDIR")}
    for place in homes.values():
        place.mkdir(parents=True)
    fetched = home() / "sources"
    if fetched.exists():
        (homes["EKIBEN_HOME"] / "sources").symlink_to(fetched)
    return {name: str(place) for name, place in homes.items()}


def library(folder: Path) -> Path:
    """Compile what lets writes fail."""
    built, source = folder / "failing_writes.so", Path(__file__).with_name("failing_writes.c")
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(built), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return built


def main(arguments: list[str]) -> None:
    """Let writes fail and write what was found to `benchmarks/results/faults.json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.faults")
    parser.add_argument("--config", type=Path, default=Path("configs/smoke.yaml"))
    parser.add_argument("--runs", type=int, default=120, help="runs of which writes fail")
    parser.add_argument("--quick", action="store_true", help="a dozen runs")
    options = parser.parse_args(arguments)
    if shutil.which("gcc") is None:
        parser.error("gcc is not installed, which compiles what lets writes fail")
    runs = 12 if options.quick else options.runs
    with tempfile.TemporaryDirectory(prefix="ekiben-faults-") as name:
        folder = Path(name)
        os.environ["LD_PRELOAD"] = str(library(folder))  # of the fork server and all below it
        found = creep(options.config, folder, runs)
    command = " ".join(["python", "-m", "benchmarks.faults", *arguments])
    file = RESULTS / f"faults{'_quick' if options.quick else ''}.json"
    told = {**surroundings(), "command": command, "failed_writes": found}
    file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    Console().print_json(data=found)


if __name__ == "__main__":
    main(sys.argv[1:])
