"""Runs whose processes are killed, on a real server of Prefect: found, told of, started again."""

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2e_support import EKIBEN, ROOT, Homes
from prefect_support import PrefectServer, deploying, until

from flows.heartbeats import AUTOMATION

SMOKE = ROOT / "configs/smoke.yaml"


@pytest.fixture
def server(prefect: PrefectServer, sources: Path, tmp_path: Path) -> PrefectServer:
    return PrefectServer(prefect.ui, Homes.under(tmp_path, sources))


def trains(server: PrefectServer, run: str) -> bool:
    return bool(server.workers()) and "smoke-finetune" in server.artifacts(run)


def kill_all(process: "subprocess.Popen[Any]") -> None:
    """Kill `ekiben deploy`, its runs and their workers, all at once, as a machine that goes down."""
    root = psutil.Process(process.pid)
    for each in [root, *root.children(recursive=True)]:
        each.kill()


def states(server: PrefectServer, run: str) -> list[tuple[str, str]]:
    found = server.get(f"/flow_run_states/?flow_run_id={run}")
    return [(state["name"], state["message"] or "") for state in found]


def doctor(server: PrefectServer) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [EKIBEN, "doctor"],
        cwd=ROOT, env=server.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_run_killed_with_its_runner_is_told_of_and_goes_on_under_the_next(
    server: PrefectServer, tmp_path: Path
) -> None:
    with deploying(server, tmp_path / "deploy.log", SMOKE) as process:
        run = server.start_run("smoke")
        until(partial(trains, server, run), "a worker trains")
        kill_all(process)
    assert server.state(run)["type"] == "RUNNING"
    with deploying(server, tmp_path / "deploy-again.log", SMOKE):
        until(lambda: server.state(run)["name"] == "Released", "it is released", 300)
    told = states(server, run)
    crashed = next(message for name, message in told if name == "Crashed")
    assert "is gone in finetune" in crashed and "it was killed" in crashed
    assert ("AwaitingRetry", "started again after a crash, 1 of 1 times") in told
    assert server.get(f"/flow_runs/{run}")["run_count"] == 2
    assert any(line.startswith("split: reused") for line in server.messages(run))
    assert [*(server.homes.ekiben / "steps").glob("*/.*.staging")] == []
    assert [each["name"] for each in server.post("/automations/filter")].count(AUTOMATION) == 1


def test_a_run_killed_under_its_runner_is_started_again_as_often_as_is_allowed(
    server: PrefectServer, tmp_path: Path
) -> None:
    with deploying(server, tmp_path / "deploy.log", SMOKE) as process:
        run = server.start_run("smoke", launch={"max_restarts": 1}, training={"seed": 3})
        for _ in range(2):
            until(partial(trains, server, run), "a worker trains")
            for each in psutil.Process(process.pid).children():
                each.kill()
            until(lambda: not server.workers(), "the worker ends with its run")
        until(lambda: not [*(server.homes.ekiben / "runs").glob("*.json")], "it is seen to")
    assert server.state(run)["type"] == "CRASHED"
    assert server.get(f"/flow_runs/{run}")["run_count"] == 2


def test_the_doctor_sees_to_dead_runs_once(server: PrefectServer, tmp_path: Path) -> None:
    assert "no run of this machine is dead" in doctor(server).stdout
    with deploying(server, tmp_path / "deploy.log", SMOKE) as process:
        run = server.start_run("smoke", launch={"max_restarts": 0}, training={"seed": 4})
        until(partial(trains, server, run), "a worker trains")
        kill_all(process)
    told = doctor(server)
    assert told.returncode == 0, told.stderr
    assert f"smoke: run {run}: process " in told.stdout
    assert "is not started again: it was started 1 times" in told.stdout
    assert server.state(run)["type"] == "CRASHED"
    assert "no run of this machine is dead" in doctor(server).stdout
