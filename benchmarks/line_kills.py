"""Kill the stages of a whole line, before their writes and at random times, and start them again."""

import argparse
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.killing import Ended, run_and_kill
from benchmarks.stages import Stage, left_bytes, noted, recorded_line, torn_steps
from tasks.digests import file_digest

SEED = 0
WEIGHTS = "model/model.safetensors"
_DEAR_SECONDS = 2.0
_POINTS = {False: 3, True: 1}  # of a stage, by whether it is dear


@dataclass
class Count:
    """What was found after so many kills of a line's stages."""

    kills: int = 0
    torn: int = 0  # steps that a run would reuse and that are not whole
    unfinished: int = 0  # the next start did not come to its end
    left_bytes: int = 0  # of staging after the next start
    started_again: int = 0
    trainings: int = 0
    other_weights: int = 0  # trainings that ended with other bits
    redone: list[float] = field(default_factory=list)  # shares of a training's updates

    def told(self) -> dict[str, Any]:
        """Return the counts, and the most that was done again."""
        counts = {name: value for name, value in vars(self).items() if name != "redone"}
        return {**counts, "most_redone_share_of_a_training": max(self.redone, default=None)}


@contextmanager
def _homes(source: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Yield the variables of empty homes that have what was fetched, and remove them afterwards."""
    places = {"EKIBEN_HOME": "ekiben", "BENTOML_HOME": "bentoml", "TMPDIR": "tmp"}
    for name in places.values():
        (folder / name).mkdir(parents=True)
    fetched = source / "sources"
    if fetched.exists():
        shutil.copytree(fetched, folder / "ekiben" / "sources", copy_function=os.link)
    try:
        yield {variable: str(folder / name) for variable, name in places.items()}
    finally:
        shutil.rmtree(folder)


def _tried(
    stage: Stage, source: Path, folder: Path, count: Count, *, again: bool, **kill: Any
) -> Ended:
    """Kill the stage, look at what a reader would see, and start it again."""
    with _homes(source, folder) as variables:
        home = Path(variables["EKIBEN_HOME"])
        with noted(home) as before:
            ended = run_and_kill(stage.operation, variables, **kill)
        if not ended.killed:
            return ended
        count.kills += 1
        count.torn += torn_steps(home)
        if again or stage.name == "finetune":
            with noted(home) as after:
                next_start = run_and_kill(stage.operation, variables)
            count.started_again += 1
            count.unfinished += not next_start.well
            count.torn += torn_steps(home)
            count.left_bytes += left_bytes(folder)
            if stage.name == "finetune" and next_start.well:
                _compared(stage, home, before, after, count)
    return ended


def _compared(stage: Stage, home: Path, before: list[int], after: list[int], count: Count) -> None:
    """Hold the weights against those of the run that nobody killed; note what was done again."""
    assert stage.made is not None
    count.trainings += 1
    (made,) = home.glob(f"steps/finetune/*/{WEIGHTS}")
    count.other_weights += file_digest(made) != stage.made.files[WEIGHTS]
    updates = stage.made.model_dump()["curve"][-1]["step"]
    first = min(after, default=updates + 1)
    count.redone.append(max(0, max(before, default=0) + 1 - first) / updates)


def line_kills(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Kill each stage of the config's line before some of its writes, then any at random times."""
    from tasks.steps import home

    stages, source = recorded_line(options.config), home()
    at_writes, points = Count(), {}
    for stage in stages:
        with _homes(source, folder / "whole") as variables:
            whole = run_and_kill(stage.operation, variables)
        assert whole.well, stage.name
        chosen = _spread(whole.writes, _POINTS[stage.seconds > _DEAR_SECONDS])
        points[stage.name] = {"writes": len(whole.writes), "killed_before": list(chosen.values())}
        repeats = 1 if options.quick else options.line_repeats
        for number in track([*chosen] * repeats, stage.name, disable=options.quick):
            dear = stage.seconds > _DEAR_SECONDS
            again = not dear or at_writes.kills % 5 == 0
            _tried(stage, source, folder / "trial", at_writes, again=again, before_write=number)
    at_times = _at_random_times(stages, source, folder / "trial", options)
    return {
        "seconds_by_stage": {stage.name: stage.seconds for stage in stages},
        "points": points,
        "before_writes": at_writes.told(),
        "at_random_times": at_times.told(),
    }


def _at_random_times(
    stages: list[Stage], source: Path, folder: Path, options: argparse.Namespace
) -> Count:
    """Kill at times drawn uniformly over the whole line: a stage by its share of it."""
    draw, count = random.Random(SEED), Count()  # noqa: S311  (no secret)
    times = 3 if options.quick else options.line_times
    weights = [stage.seconds for stage in stages]
    for number in track(range(times), "random times", disable=options.quick):
        (stage,) = draw.choices(stages, weights)
        after = draw.uniform(0, stage.seconds)
        _tried(stage, source, folder, count, again=number % 5 == 0, after=after)
    return count


def _spread(writes: list[str], most: int) -> dict[int, str]:
    """Return so many of a stage's writes by number: its last, and others evenly before it."""
    numbers = {len(writes) - 1 - (part * len(writes)) // most for part in range(most)}
    return {number: writes[number] for number in sorted(numbers) if number >= 0}
