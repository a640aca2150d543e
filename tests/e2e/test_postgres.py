"""Prefect on PostgreSQL, a work pool and two workers on a shared store: runs at once, one killed."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest
from e2e_support import EKIBEN, ROOT, Homes, ReleasedHomes, line_environment
from postgres import BIN, postgres
from prefect_support import PREFECT, PrefectServer, pool_worker, prefect_server, until

from tasks.history import read_history
from tasks.releases import champion_tag, releases_of, require_whole_release

pytestmark = pytest.mark.skipif(
    BIN is None,
    reason="not run without PostgreSQL: Prefect on a real database server; get it with "
    "`apt-get install postgresql`",
)
PLAIN: dict[str, Any] = {"forms": []}
"""Models are served as they were trained, which takes half the time."""
DAY = (
    datetime.now(UTC) + timedelta(days=14)
).day % 28 + 1  # of the month; a schedule that is not due
SCHEDULE = {"cron": f"0 3 {DAY} * *", "timezone": "Asia/Tokyo"}


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, released: ReleasedHomes
) -> Iterator[PrefectServer]:
    """Start a server on PostgreSQL, for homes in which every step of the smoke line is done."""
    folder = tmp_path_factory.mktemp("postgres")
    homes = Homes.under(folder, released.sources)
    shutil.copytree(released.ekiben / "steps", homes.ekiben / "steps", copy_function=os.link)
    with (
        postgres() as database,
        prefect_server(homes, folder / "server.log", database) as running,
    ):
        yield running
    told = (folder / "server.log").read_text()
    assert "Traceback" not in told, told[-4000:]


@pytest.fixture
def pool(server: PrefectServer, tmp_path: Path) -> None:
    """Register the deployments of prefect.yaml with a work pool; the smoke line has a schedule."""
    shutil.copytree(ROOT / "configs", tmp_path / "clone/configs")
    with (tmp_path / "clone/configs/smoke.yaml").open("a", encoding="utf-8") as smoke:
        smoke.write(f"\nschedule: {json.dumps(SCHEDULE)}\n")
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    assert text.count("&smoke []") == 1
    (tmp_path / "clone/prefect.yaml").write_text(
        text.replace("&smoke []", f"&smoke [{json.dumps(SCHEDULE)}]"), encoding="utf-8"
    )
    for arguments in (("work-pool", "create", "ekiben", "--type", "process"), ("deploy", "--all")):
        done = subprocess.run(
            [PREFECT, "--no-prompt", *arguments],
            cwd=tmp_path / "clone",
            env=server.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_runs_at_once_on_two_workers_train_each_input_once_and_a_killed_one_is_taken_up(
    server: PrefectServer, pool: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, home in (
        ("EKIBEN_HOME", server.homes.ekiben),
        ("BENTOML_HOME", server.homes.bentoml),
    ):
        monkeypatch.setenv(name, str(home))
    address = f"file://{tmp_path}/objects"

    def start(**sections: dict[str, Any]) -> str:
        return server.start_run("smoke", release={"publish": address}, **sections)

    with pool_worker(server, "one", tmp_path) as one, pool_worker(server, "two", tmp_path) as two:
        twins = [start(training={"seed": 7}, serving=PLAIN) for _ in range(2)]
        runs = [*twins, start()]
        for run in runs:
            assert server.ended(run)["name"] == "Released", server.messages(run)
            made = server.artifacts(run).keys()
            assert {"smoke-data", "smoke-evaluation", "smoke-decision", "smoke-report"} <= made
        both = [line for run in twins for line in server.messages(run)]
        assert len([line for line in both if line.startswith("finetune: reused")]) == 1
        assert _consistent() == 2

        killed = start(training={"seed": 8}, serving=PLAIN)
        until(partial(_trains, server, killed), "a worker trains")
        loser = next(each for each in (one, two) if _runs(each, killed))
        _power_off(loser)
        assert _consistent() == 2
        again = start(training={"seed": 8}, serving=PLAIN)
        assert server.ended(again)["name"] == "Released", server.messages(again)
        told = server.messages(again)
        assert [line for line in told if line.startswith("split: reused")]
        assert _consistent() == 3
        # The other worker saw that it is gone, which Prefect alone would never tell, and took it up.
        until(lambda: server.state(killed)["name"] == "Released", "it is started again", 300)
        assert _consistent() == 3
    _pulled_elsewhere(address, tmp_path, server)
    _planned_in_its_own_zone(server)


def _trains(server: PrefectServer, run: str) -> bool:
    return bool(server.workers()) and "smoke-finetune" in server.artifacts(run)


def _runs(worker: "subprocess.Popen[Any]", run: str) -> bool:
    """Return whether a run is a process of a worker."""
    children = psutil.Process(worker.pid).children(recursive=True)
    return any(run in child.environ().values() for child in children)


def _power_off(worker: "subprocess.Popen[Any]") -> None:
    """Kill a worker and all that it has started, as when its machine goes down."""
    root = psutil.Process(worker.pid)
    processes = [root, *root.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=60)


def _consistent() -> int:
    """Check that store, records, history and pointer tell the same; return how many releases."""
    records = releases_of("smoke")
    for record in records:
        require_whole_release(record.tag)
    history = read_history("smoke")
    assert {told.what for told in history} == {"released"}
    assert {told.tag for told in history} == {record.tag for record in records}
    assert history[-1].tag == champion_tag("smoke")
    assert [told.instead_of for told in history[1:]] == [told.tag for told in history[:-1]]
    return len(records)


def _planned_in_its_own_zone(server: PrefectServer) -> None:
    """Check that the database keeps what is planned as the instant that the schedule means."""
    scheduled = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    planned = until(
        lambda: server.post("/flow_runs/filter", flow_runs=scheduled), "runs are planned"
    )
    for run in planned:
        at = datetime.fromisoformat(run["expected_start_time"]).astimezone(ZoneInfo("Asia/Tokyo"))
        assert (at.day, at.hour, at.minute) == (DAY, 3, 0)


def _pulled_elsewhere(address: str, folder: Path, server: PrefectServer) -> None:
    """Another machine pulls what the runs published last, and works its decision out again."""
    homes = Homes.under(folder / "elsewhere", server.homes.sources)
    for command in (("pull", f"{address}/smoke"), ("verify", "smoke"), ("trace", "smoke:latest")):
        done = subprocess.run(
            [EKIBEN, *command],
            env=line_environment(homes),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert str(champion_tag("smoke")) in done.stdout
