"""Run whole lines and record what came of each: figures, the baseline's, times, hardware.

`python -m benchmarks.line` runs sms_spam and tweet_sentiment from cached sources alone; `--quick`
runs smoke, in a minute or two.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results")
LIBRARIES = ("torch", "transformers", "prefect", "bentoml", "great-expectations", "datasets")
FIGURES = ("accuracy", "precision.macro", "recall.macro", "f1.macro")


def run_line(name: str, home: Path) -> dict[str, Any]:
    """Run one shipped config in a fresh home; return its figures, times and outcome."""
    environment = {
        **os.environ,
        "EKIBEN_HOME": str(home / "ekiben"),
        "BENTOML_HOME": str(home / "bentoml"),
        "PREFECT_HOME": str(home / "prefect"),
    }
    command = [str(Path(sys.executable).with_name("ekiben")), "run", f"configs/{name}.yaml"]
    started = time.perf_counter()
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    seconds = time.perf_counter() - started
    stages = {
        stage: json.loads(file.read_text(encoding="utf-8"))
        for stage in ("split", "finetune", "evaluate", "prove")
        for file in (home / "ekiben" / "steps" / stage).glob("*/manifest.json")
    }
    return {"exit_code": code, "seconds": round(seconds, 1), **summarise(stages)}


def summarise(stages: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of a run from its manifests, as parsed from JSON."""
    evaluation, checkpoint = stages["evaluate"], stages["finetune"]
    proof = stages.get("prove", {})
    return {
        "rows": stages["split"]["rows"],
        "duplicates_removed": stages["split"]["duplicates_removed"],
        "conflicts_quarantined": stages["split"]["conflicts_quarantined"],
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
    """Run the lines, print a table, write `benchmarks/results/line.json`."""
    names = ["smoke"] if "--quick" in arguments else ["sms_spam", "tweet_sentiment"]
    cache = Path(os.environ.get("EKIBEN_HOME") or Path.home() / ".ekiben") / "sources"
    lines: dict[str, Any] = {}
    for name in names:
        home = Path(tempfile.mkdtemp(prefix=f"ekiben-{name}-"))
        try:
            (home / "ekiben").mkdir()
            cache.mkdir(parents=True, exist_ok=True)
            (home / "ekiben" / "sources").symlink_to(cache.absolute())
            lines[name] = run_line(name, home)
        finally:
            shutil.rmtree(home)
    table = Table("line", "figure", "model", "95% interval", "baseline", "n")
    for name, line in lines.items():
        for figure in FIGURES:
            own, other = line["model"][figure], line["baseline"][figure]
            interval = f"{own['low']:.4f}-{own['high']:.4f}"
            cells = (f"{own['value']:.4f}", interval, f"{other['value']:.4f}", str(own["n"]))
            table.add_row(name, figure, *cells)
    Console().print(table)
    result = {**surroundings(), "lines": lines}
    file = RESULTS / ("line_quick.json" if "--quick" in arguments else "line.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
