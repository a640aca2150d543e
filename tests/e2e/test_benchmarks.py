"""The benchmarks run: a quick one of each ends well and writes its figures."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from e2e_support import ReleasedHomes, line_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(1500)  # dozens of killed lines, on a machine that does more


@pytest.mark.parametrize(
    "name",
    ["base_models", "change", "data", "decision", "forms", "gate", "labels", "pools", "training"],
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


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc compiles what lets writes fail")
def test_failed_writes_end_in_words_and_tear_nothing(sources: Path) -> None:
    file = ROOT / "benchmarks" / "results" / "faults_quick.json"
    file.unlink(missing_ok=True)
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", "--quick"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = json.loads(file.read_text(encoding="utf-8"))["failed_writes"]
    assert found["runs"] == 12 and len(found["kinds"]) == 6
    assert set(found["ended"]) <= {"words", "released"} and found["bad"] == []
    assert found["torn"] == found["other_weights"] == 0


def test_one_input_is_trained_once_and_dead_and_cancelled_runs_are_seen_to(sources: Path) -> None:
    file = ROOT / "benchmarks" / "results" / "triggers_quick.json"
    file.unlink(missing_ok=True)
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.triggers", "--quick"],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    results = json.loads(file.read_text(encoding="utf-8"))
    same = results["duplicates"]
    assert same["runs"] >= 5 and set(same["ended"]) <= {"Released", "Skipped"}
    assert same["trained"] == same["checkpoints"] == same["releases"] == 1
    assert results["dead"]["told_with_a_cause"] == results["dead"]["kills"] == 1
    assert results["dead"]["staging_left"] == 0
    assert results["cancel"]["ended"] == {"Cancelled": 1}


@pytest.mark.parametrize("name", ["serving", "endurance", "reliability"])
def test_a_quick_benchmark_of_the_service_runs_on_a_release(
    name: str, released: ReleasedHomes
) -> None:
    file = ROOT / "benchmarks" / "results" / f"{name}_quick.json"
    file.unlink(missing_ok=True)
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--pipeline", "smoke"],
        cwd=ROOT, env=line_environment(released), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    results = json.loads(file.read_text(encoding="utf-8"))
    if name == "endurance":
        assert results["swaps"]["failed"] == 0 and results["swaps"]["tags_are_whole"]
        assert results["kills"]["kills"] == 2
        assert all(results["overload"][rate]["errors"] == 0 for rate in ("0.7", "2", "5"))
    elif name == "reliability":
        line = [results["line"][name] for name in ("before_writes", "at_random_times")]
        bad = ("torn", "unfinished", "left_bytes", "other_weights")
        assert line[0]["trainings"] and {told[failure] for told in line for failure in bad} == {0}
        found = [results["kills"][name] for name in ("release", "rollback", "prune")]
        found.append(results["times"])
        assert all(told["kills"] for told in found)
        failures = ("torn", "dangling", "unanswered", "unfinished", "left_bytes")
        assert {told[failure] for told in found for failure in failures} == {0}
        assert all(
            0 < told["files"] == told["refused"] == told["named"] == told["refused_at_load"]
            for told in results["tamper"]["changes"].values()
        )
        assert results["tamper"]["false_refusals"] == 0
    else:
        assert {"Ekiben openvino-int8", "Ekiben linear", "BentoML documented"} < set(
            results["ratios"]
        )


def test_training_is_measured_where_only_the_worker_s_own_libraries_are(tmp_path: Path) -> None:
    file = ROOT / "benchmarks" / "results" / "training_quick.json"
    file.unlink(missing_ok=True)
    link_packages(["torch", "transformers", "safetensors", "numpy"], tmp_path)
    command = [sys._base_executable, "-m", "benchmarks.training", "--quick", "--parts", "speed"]  # type: ignore[attr-defined]
    bare = {"PYTHONPATH": str(tmp_path), "PYTHONNOUSERSITE": "1", "HOME": str(tmp_path)}
    ended = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["versions"]["accelerate"] is None
    raced = results["speed"]["sms_spam"]["contenders"]
    assert raced["grouped"]["forward"] == "plain loop with the Trainer's arithmetic"
    assert raced["ours"]["forward"] == "packed BERT"


def link_packages(names: list[str], folder: Path) -> None:
    """Put these installed packages and all that they need into an otherwise empty folder."""
    waiting, known = list(names), set[str]()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in known:
            continue
        known.add(name)
        own = distribution(name)
        site = Path(str(own.locate_file("")))
        for part in {Path(file).parts[0] for file in own.files or []} - {"..", "__pycache__"}:
            (folder / part).symlink_to(site / part)
        needs = [Requirement(line) for line in own.requires or []]
        waiting += [n.name for n in needs if n.marker is None or n.marker.evaluate({"extra": ""})]
