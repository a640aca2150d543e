"""Kill lines and releases at their writes and at random times, damage Bentos, and count what is torn.

`python -m benchmarks.reliability [line] [kills] [times] [bentoml] [tamper]`. line: SIGKILL
of every stage of a config's line (`--config`) before its writes and at random times; what was killed
is started again. The others work on copies of a released pipeline (`--pipeline smoke`). kills: SIGKILL
before each write of a release, a rollback and a prune. times: SIGKILL at random times of a release.
bentoml: the same of `bentoml build`, as its tutorial has it. tamper: every file of a Bento changed,
removed, added, renamed, swapped and linked, each held against its manifest and loaded, and a
thousand times nothing. `--quick` does few of each.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.asking import asked
from benchmarks.killing import run_and_kill
from benchmarks.line import RESULTS, surroundings
from benchmarks.line_kills import line_kills
from benchmarks.stores import Store, Trial, intact, rival_torn, template
from tasks.integrity import IntegrityError, require_intact
from tasks.releases import champion

PARTS = ("line", "kills", "times", "bentoml", "tamper")
_AT = ("before_writes", "at_random_times")
OPERATIONS = ("release", "rollback", "prune")
SEED = 0


@dataclass
class Count:
    """What was found after so many kills."""

    kills: int = 0
    torn: int = 0  # visible Bentos that are not whole
    dangling: int = 0  # `latest` that names no whole Bento
    unanswered: int = 0  # a moment in which the last good Bento did not answer
    unfinished: int = 0  # the next start did not come to its end
    left_bytes: int = 0  # of staging after the next start

    @property
    def failures(self) -> int:
        """Return how many kills had any consequence."""
        return self.torn + self.dangling + self.unanswered + self.unfinished + self.left_bytes

    def told(self) -> dict[str, Any]:
        """Return the counts, and what they show: the rule of three bounds the true share."""
        bound = 3 / self.kills if self.kills and not self.failures else None
        return {**vars(self), "true_share_below_with_95_percent_confidence": bound}


def judged(count: Count, trial: Trial) -> None:
    """Look at the store after a kill, start again, and look once more."""
    store = trial.store
    count.kills += 1
    count.torn += sum(not intact(place) for place in store.visible())
    count.dangling += not store.pointer_is_valid()
    if not trial.was_done():  # a rollback that was done is refused the second time
        count.unfinished += not run_and_kill(trial.operation, store.environment).well
    count.unfinished += not trial.was_done()
    if trial.name != "rollback":
        run_and_kill(Trial(store, "prune").operation, store.environment)
    count.left_bytes += store.left_bytes()


def kills(source: Store, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill each operation before each of its writes, `--repeats` times."""
    found: dict[str, Any] = {}
    for name in OPERATIONS:
        with source.copied(folder / "whole") as store:
            points = run_and_kill(Trial(store, name).operation, store.environment).writes
        numbers = range(0, len(points), max(1, len(points) // 5) if options.quick else 1)
        count = Count()
        for number in track([*numbers] * options.repeats, name, disable=options.quick):
            with source.copied(folder / "trial") as store:
                trial = Trial(store, name)
                ended = run_and_kill(trial.operation, store.environment, before_write=number)
                if ended.killed:
                    judged(count, trial)
        found[name] = {"points": len(points), **count.told(), "writes": _named(points)}
    return found


def _named(points: list[str]) -> list[str]:
    """Return the kinds of writes, each once, in order."""
    return list(dict.fromkeys(points))


def times(source: Store, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill releases at random times, one after the other, while the champion is served and asked."""
    with source.copied(folder / "whole") as store:
        trial = Trial(store, "release")
        seconds = run_and_kill(trial.operation, store.environment).seconds
    draw, count = random.Random(SEED), Count()  # noqa: S311  (no secret)
    with source.copied(folder / "trial") as store, asked(store, folder / "serve.log") as answers:
        for number in track(range(options.times), "times", disable=options.quick):
            trial = Trial(store, "release", f"r{number}")
            after = draw.uniform(0, 1.1 * seconds)
            if run_and_kill(trial.operation, store.environment, after=after).killed:
                judged(count, trial)
    count.unanswered = answers.failed
    return {"seconds_whole": seconds, "answered": answers.well, **count.told()}


def bentoml(source: Store, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill `bentoml build` of the same files before its writes: what does its store show then?"""
    with source.copied(folder / "whole") as store:
        trial = Trial(store, "bentoml")
        whole = run_and_kill(trial.operation, store.environment)
    assert whole.well, whole
    step = max(1, len(whole.writes) // options.times)
    kills_of_it = torn = 0
    for number in range(0, len(whole.writes), step):
        with source.copied(folder / "trial") as store:
            trial = Trial(store, "bentoml")
            if run_and_kill(trial.operation, store.environment, before_write=number).killed:
                kills_of_it += 1
                torn += rival_torn(store)
    return {"points": len(whole.writes), "kills": kills_of_it, "torn": torn}


def tamper(source: Store, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Hold a Bento against its manifest after every change, and often after none."""
    with source.copied(folder / "trial") as store:
        bento = store.visible()[0]
        size = sum(file.stat().st_size for file in bento.rglob("*") if file.is_file())
        found = {name: _tried(bento, change) for name, change in _CHANGES.items()}
        started = time.perf_counter()
        false = sum(not intact(bento) for _ in range(options.verifications))
        seconds = (time.perf_counter() - started) / options.verifications
    return {
        "changes": found,
        "verifications_of_nothing": options.verifications,
        "false_refusals": false,
        "seconds_a_gb": 1e9 * seconds / size,
    }


def _flip(file: Path, *_: Path) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[random.Random(file.name).randrange(len(content))] ^= 1  # noqa: S311  (no secret)
    file.write_bytes(content or b"x")


def _remove(file: Path, *_: Path) -> None:
    file.unlink()


def _rename(file: Path, *_: Path) -> None:
    file.rename(file.with_name(f"{file.name}.old"))


def _add(file: Path, *_: Path) -> None:
    file.with_name(f"{file.name}.more").write_bytes(b"x")


def _swap(file: Path, other: Path, _: Path) -> None:
    mine, its = file.read_bytes(), other.read_bytes()
    file.write_bytes(its)
    other.write_bytes(mine)


def _link(file: Path, _: Path, outside: Path) -> None:
    shutil.move(file, outside)
    file.symlink_to(outside)


_CHANGES: dict[str, Callable[[Path, Path, Path], None]] = {
    "one bit flipped": _flip,
    "removed": _remove,
    "renamed": _rename,
    "another added beside it": _add,
    "swapped with the next": _swap,
    "replaced by a link to itself": _link,
}


def _tried(bento: Path, change: Callable[[Path, Path, Path], None]) -> dict[str, int]:
    """Return of how many files the change was refused, and by name."""
    names = sorted(f.relative_to(bento) for f in bento.rglob("*") if f.is_file())
    others = cycle([*names[1:], names[0]])
    refused = named = at_load = 0
    for name, other in zip(names, others, strict=False):
        copy = bento.parents[2] / "tampered"  # outside the store, where any folder's name will do
        shutil.copytree(bento, copy)
        assert intact(copy)
        same = (copy / name).read_bytes() == (copy / other).read_bytes()
        change(copy / name, copy / other, copy.with_name("outside"))
        try:
            require_intact(copy)
            refused += change is _swap and same
            named += change is _swap and same
        except IntegrityError as error:
            refused += 1
            named += str(name) in str(error) or "manifest.json" in str(error)
        at_load += _is_refused_at_load(copy) or (change is _swap and same)
        shutil.rmtree(copy)
    return {"files": len(names), "refused": refused, "named": named, "refused_at_load": at_load}


def _is_refused_at_load(bento: Path) -> bool:
    """Return whether the Bento's service cannot even be imported, as BentoML would import it."""
    source = bento / "src"
    if not source.is_dir():
        return True
    load = [sys.executable, "-c", "from service import TextClassifier"]
    return subprocess.run(load, capture_output=True, cwd=source, check=False).returncode != 0


def main(arguments: list[str]) -> None:
    """Do the parts named, or all, and write `benchmarks/results/reliability.json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.reliability")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--pipeline", default="smoke")
    parser.add_argument("--config", type=Path, default=Path("configs/smoke.yaml"))
    parser.add_argument(
        "--line-repeats", type=int, default=25, help="kills at each point of a line"
    )
    parser.add_argument(
        "--line-times", type=int, default=200, help="kills of a line at random times"
    )
    parser.add_argument(
        "--repeats", type=int, default=6, help="kills before each write of a release"
    )
    parser.add_argument("--times", type=int, default=200, help="kills at random times")
    parser.add_argument("--verifications", type=int, default=1000)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is named {min(unknown)!r}; expected some of {', '.join(PARTS)}")
    if options.quick:
        options.repeats, options.times, options.verifications = 1, 3, 3
    parts = options.parts or PARTS
    if "line" not in parts and champion(options.pipeline) is None:
        parser.error(f"{options.pipeline} has no release; `ekiben run` its config first")
    file = RESULTS / f"reliability{'_quick' if options.quick else ''}.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    command = " ".join(["python", "-m", "benchmarks.reliability", *arguments])
    measure = {
        "kills": kills,
        "times": times,
        "bentoml": bentoml,
        "tamper": tamper,
    }
    for part in parts:
        with (
            tempfile.TemporaryDirectory(prefix="ekiben-reliability-") as name,
            ExitStack() as stack,
        ):
            folder = Path(name)
            if part == "line":
                found = line_kills(options, folder)
            else:
                source = stack.enter_context(template(options.pipeline, folder / "template"))
                found = measure[part](source, options, folder)
        told = {"command": command, **found}
        known = {**known, **surroundings(), "command": command, part: told}
        file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        show(part, found)


def show(part: str, found: dict[str, Any]) -> None:
    """Print what was found of one part."""
    table = Table(title=part, title_justify="left")
    if part == "kills":
        columns = ["operation", "points", "kills", "torn", "dangling", "unfinished", "left_bytes"]
        rows = [[name, *(str(told[key]) for key in columns[1:])] for name, told in found.items()]
    elif part == "line":
        columns = ["killed", *(key for key in found["before_writes"])]
        rows = [[name, *(str(each) for each in found[name].values())] for name in _AT]
    elif part == "tamper":
        columns = ["change", "files", "refused", "named", "refused at load"]
        rows = [[name, *map(str, told.values())] for name, told in found["changes"].items()]
        rows.append(["none", str(found["verifications_of_nothing"]), str(found["false_refusals"])])
        rows.append([f"{found['seconds_a_gb']:.2f} s a GB"])
    else:
        columns = [key for key, value in found.items() if value is not None]
        rows = [[f"{found[key]:.4g}" for key in columns]]
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
