"""The benchmarks run: a quick one of each ends well and writes its figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name", ["base_models", "change", "data", "decision", "gate", "labels", "pools"]
)
def test_a_quick_benchmark_runs_and_writes_what_it_measured(name: str) -> None:
    file = ROOT / "benchmarks" / "results" / f"{name}_quick.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["command"] == f"python -m benchmarks.{name} --quick"
    assert {"date", "hardware", "versions"} < set(results)
