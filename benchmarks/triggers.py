"""Start the same input many times at once, kill runs with their runner, cancel them: what comes of it.

`python -m benchmarks.triggers [duplicates] [dead] [cancel]`, each on a Prefect server of its own.
duplicates: fifty runs of one config that is new to its homes, as Prefect's UI, the command line and a
schedule start them: how often was it trained and released? dead: SIGKILL to `ekiben deploy`, its run
and all below, beside `ekiben doctor --watch`: the seconds until the run is Crashed. cancel: while a run
trains, as Prefect's UI does: the seconds until none of its training processes is left. `--quick` does
few.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.line import RESULTS, ROOT, surroundings
from benchmarks.prefect_server import EKIBEN, Server, prefect_server, until
from tasks.process import child

SEED = 0
CONFIG = ROOT / "configs" / "smoke.yaml"
_LONG = {"num_train_epochs": 200}  # so that a run still trains when it is cancelled or killed
_SECONDS_BETWEEN_DUE = 15
_ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_STARTS = {"as the UI does": 0.6, "by the command line": 0.2, "by a schedule": 0.2}
"""Which part of the runs is started how."""


def duplicates(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Start one input so many times at once; return what the runs came to, and what was made."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["schedule"] = {"interval_seconds": _SECONDS_BETWEEN_DUE}
    file = server.folder / "smoke.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    counts = [round(part * options.runs) for part in _STARTS.values()]
    with ExitStack() as stack:
        stack.enter_context(server.deployed(file, "deploy.log"))
        for number in range(counts[1]):
            command = [EKIBEN, "run", str(file)]
            log = server.folder / f"run-{number}.log"
            stack.enter_context(child(command, log, server.environment))
        for _ in range(counts[0]):
            server.start_run()
        runs = until(partial(_all_ended, server, counts), "all runs end", 3600)
    reused = [
        any("finetune: reused" in told for told in server.messages(run["id"])) for run in runs
    ]
    finished = [run for run in runs if run["state"]["name"] != "Skipped"]
    return {
        "runs": len(runs),
        "started": dict(zip(_STARTS, _by_start(runs), strict=True)),
        "ended": dict(Counter(run["state"]["name"] for run in runs)),
        "trained": len(finished) - sum(reused),
        "checkpoints": len([*server.folder.glob("ekiben/steps/finetune/*/manifest.json")]),
        "releases": len([*server.folder.glob("bentoml/bentos/smoke/*/bento.yaml")]),
    }


def _all_ended(server: Server, counts: list[int]) -> list[Any] | None:
    """Return the runs once there are so many of each kind and all have ended."""
    runs = server.runs()
    enough = all(there >= asked for there, asked in zip(_by_start(runs), counts, strict=True))
    return runs if enough and all(run["state"]["type"] in _ENDED for run in runs) else None


def _by_start(runs: list[Any]) -> list[int]:
    deployed = [run for run in runs if run["deployment_id"] is not None]
    scheduled = sum(run["auto_scheduled"] for run in deployed)
    return [len(deployed) - scheduled, len(runs) - len(deployed), scheduled]


def dead(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Kill runners with all below them at random times of a run; return how soon each was told of."""
    draw, seconds, causes = random.Random(SEED), [], 0  # noqa: S311  (no secret)
    watching = [EKIBEN, "doctor", "--watch"]
    with child(watching, server.folder / "doctor.log", server.environment):
        for number in track(range(options.times), "dead", disable=options.quick):
            with server.deployed(CONFIG, "deploy.log") as process:
                changed = {"training": {**_LONG, "seed": number}, "launch": {"max_restarts": 0}}
                run = server.start_run(**changed)
                until(partial(_is, server, run, "RUNNING"), "the run begins")
                until(lambda: [*server.folder.glob("ekiben/runs/*.json")], "it is noted")
                time.sleep(draw.uniform(0, 20))
                _kill(process)
            killed = time.monotonic()
            until(partial(_is, server, run, "CRASHED"), "the run is Crashed")
            seconds.append(time.monotonic() - killed)
            causes += "it was killed" in server.states(run)[-1]["message"]
    staging = [*server.folder.glob("ekiben/steps/*/.*.staging")]
    resumable = [each for each in staging if each.parent.name in ("finetune", "distil")]
    return {
        "kills": options.times,
        **_spread(seconds),
        "told_with_a_cause": causes,
        "staging_left": len(staging) - len(resumable),
    }


def cancel(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Cancel runs while they train; return how soon their training processes were gone."""
    seconds, ended = [], Counter[str]()
    with server.deployed(CONFIG, "deploy.log"):
        for number in track(range(options.times), "cancel", disable=options.quick):
            run = server.start_run(training={**_LONG, "seed": number})
            until(server.workers, "a worker trains")
            time.sleep(2)
            asked = time.monotonic()
            state = {"type": "CANCELLING", "name": "Cancelling"}
            server.post(f"/flow_runs/{run}/set_state", state=state)
            until(lambda: not server.workers(), "no worker is left")
            seconds.append(time.monotonic() - asked)
            until(partial(_is, server, run, *_ENDED), "the run ends")
            ended[server.states(run)[-1]["name"]] += 1
    return {"cancels": options.times, **_spread(seconds), "ended": dict(ended)}


def _is(server: Server, run: str, *types: str) -> bool:
    """Return whether a run's last state is of one of the types."""
    states = server.states(run)
    return bool(states) and states[-1]["type"] in types


def _kill(process: psutil.Process) -> None:
    """Kill a process and all below it at once, as a machine that goes down."""
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"seconds_median": float(np.median(seconds)), "seconds_most": max(seconds)}


PARTS: dict[str, Callable[[Server, argparse.Namespace], dict[str, Any]]] = {
    "duplicates": duplicates,
    "dead": dead,
    "cancel": cancel,
}


def main(arguments: list[str]) -> None:
    """Do the parts named, or all, and write `benchmarks/results/triggers.json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.triggers")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--runs", type=int, default=50, help="of one input at once")
    parser.add_argument("--times", type=int, default=20, help="kills, and cancels")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is named {min(unknown)!r}; expected some of {', '.join(PARTS)}")
    if options.quick:
        options.runs, options.times = 5, 1
    file = RESULTS / f"triggers{'_quick' if options.quick else ''}.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    command = " ".join(["python", "-m", "benchmarks.triggers", *arguments])
    for part in options.parts or PARTS:
        with (
            tempfile.TemporaryDirectory(prefix="ekiben-triggers-") as folder,
            prefect_server(Path(folder)) as server,
        ):
            found = PARTS[part](server, options)
        told = {"command": command, **found}
        known = {**known, **surroundings(), "command": command, part: told}
        file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        show(part, found)


def show(part: str, found: dict[str, Any]) -> None:
    """Print what a part came to."""
    table = Table("figure", "value", title=part, title_justify="left")
    for name, value in found.items():
        table.add_row(name, f"{value:.3g}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
