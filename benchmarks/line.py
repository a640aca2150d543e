"""Run whole lines and record what came of each: figures, the baseline's, times, hardware.

`python -m benchmarks.line [NAME...]` runs the shipped configs but smoke, or those named, from cached
sources alone; `--quick` runs smoke, in a minute or two.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tasks.manifests import CheckpointManifest, EvaluationReport, FormWeight

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results")
LIBRARIES = ("torch", "transformers", "prefect", "bentoml", "great-expectations", "datasets")
FIGURES = ("accuracy", "precision.macro", "recall.macro", "f1.macro")


def run_line(name: str, home: Path, overrides: Sequence[str] = ()) -> float:
    """Run one shipped config in the given Ekiben home; return the seconds it took."""
    environment = {
        **os.environ,
        "EKIBEN_HOME": str(home),
        "BENTOML_HOME": str(home / "bentoml"),
        "PREFECT_HOME": str(home / "prefect"),
    }
    command = [str(Path(sys.executable).with_name("ekiben")), "run", f"configs/{name}.yaml"]
    command += [part for override in overrides for part in ("--set", override)]
    started = time.perf_counter()
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if code not in (0, 3, 4):
        raise SystemExit(f"{name}: ekiben run ended with code {code}; nothing is recorded")
    return round(time.perf_counter() - started, 1)


def collect(home: Path) -> dict[str, Any]:
    """Return figures and times of the one run made in an Ekiben home, from its manifests."""
    stages = {
        stage: [
            json.loads(file.read_text(encoding="utf-8"))
            for file in (home / "steps" / stage).glob("*/manifest.json")
        ]
        for stage in ("deduplicate", "split", "finetune", "evaluate", "prove")
    }
    own = [one for one in stages["evaluate"] if "original" not in one["parents"]]
    one_each = {stage: made[0] for stage, made in {**stages, "evaluate": own}.items() if made}
    return {**summarise(one_each), "forms": forms_in(home / "steps")}


def summarise(stages: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a run from its manifests, as parsed from JSON."""
    evaluation, checkpoint = stages["evaluate"], stages["finetune"]
    proof = stages.get("prove", {})
    return {
        "rows": stages["split"]["rows"],
        "duplicates_removed": stages["deduplicate"]["duplicates"],
        "conflicts_quarantined": stages["deduplicate"]["conflicts"],
        "near_copies": stages["deduplicate"]["near_rows"],
        "device": checkpoint["device"],
        "precision_of_training": checkpoint["precision"],
        "training_seconds": round(checkpoint["seconds"], 1),
        "training_rows_per_second": round(checkpoint["rows_per_second"], 1),
        "model": {figure: evaluation["figures"][figure] for figure in FIGURES},
        "baseline": {figure: evaluation["baseline"][figure] for figure in FIGURES},
        "latency_p50_ms": proof.get("latency_p50_ms"),
        "latency_p99_ms": proof.get("latency_p99_ms"),
        "peak_memory_mb": proof.get("peak_memory_mb"),
    }


def forms_in(steps: Path) -> dict[str, Any]:
    """Return the figures of each form of the model, what it costs, and that of the original."""
    files = [*steps.glob("form/*/manifest.json"), *steps.glob("finetune/*/manifest.json")]
    made = {each.digest: each for each in map(CheckpointManifest.read, files)}
    evaluations = map(EvaluationReport.read, steps.glob("evaluate/*/manifest.json"))
    figures = {each.parents["checkpoint"]: each.figures for each in evaluations}
    weights = map(FormWeight.read, steps.glob("weigh/*/manifest.json"))
    return {
        made[digest].kind: {
            "size_mb": weight.size_mb,
            "cpu_ms": weight.cpu_ms,
            "memory_mb": weight.memory_mb,
            **{name: figures[digest][name].value for name in FIGURES},
        }
        for weight in weights
        if (digest := weight.parents["checkpoint"]) in made and digest in figures
    }


def surroundings() -> dict[str, Any]:
    """Return date, hardware and versions, which every result is read beside."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": f"{os.cpu_count()} x {platform.machine()}",
        "python": platform.python_version(),
        "versions": {library: version(library) for library in LIBRARIES},
        "command": " ".join(["python", "-m", "benchmarks.line", *sys.argv[1:]]),
    }


def main(arguments: list[str]) -> None:
    """Run the lines, print a table, and put them into `benchmarks/results/line.json`."""
    quick = "--quick" in arguments
    named = [argument for argument in arguments if not argument.startswith("-")]
    names = ["smoke"] if quick else named or ["sms_spam", "tweet_sentiment", "zh_reviews"]
    file = RESULTS / ("line_quick.json" if quick else "line.json")
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"lines": {}}
    for name in names:
        known["lines"][name] = {**surroundings(), **measured(name)}
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    _print(known["lines"])


def measured(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run a line in a home of its own that shares nothing but the cache of sources."""
    cache = Path(os.environ.get("EKIBEN_HOME") or Path.home() / ".ekiben") / "sources"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"ekiben-{name}-") as folder:
        home = Path(folder)
        (home / "sources").symlink_to(cache.absolute())
        return {"seconds": run_line(name, home, overrides), **collect(home)}


def _print(lines: dict[str, Any]) -> None:
    table = Table("line", "figure", "model", "95% interval", "baseline", "n")
    for name, line in lines.items():
        for figure in FIGURES:
            own, other = line["model"][figure], line["baseline"][figure]
            interval = f"{own['low']:.4f}-{own['high']:.4f}"
            cells = (f"{own['value']:.4f}", interval, f"{other['value']:.4f}", str(own["n"]))
            table.add_row(name, figure, *cells)
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
