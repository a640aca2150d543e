"""The first third of the line by threads, by processes, and by a Dask cluster, all alike."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from bucket import CREDENTIALS, ENDPOINT, serve_bucket
from loopback import CLOSED

from configs.errors import ConfigError
from configs.schema import Workers
from flows.workers import prefect_workers
from tasks.shards import side_by_side

ROOT = Path(__file__).resolve().parents[2]
LINE = """
import json, os, sys
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
from prefect import flow
from configs.schema import PipelineConfig
from flows.workers import prefect_workers
from tasks.comparing import profile_dataset
from tasks.duplicates import find_duplicates
from tasks.ingest import read_dataset
from tasks.validation import validate_dataset

@flow
def first_third(config: PipelineConfig):
    with prefect_workers(config.workers):
        dataset = read_dataset(config.data)
        report = validate_dataset(config, dataset)
        found = find_duplicates(config, dataset, report)
        return [each.files for each in (dataset, report, found, profile_dataset(dataset, found))]

if __name__ == "__main__":
    for line in sys.argv[1:]:
        config = PipelineConfig.model_validate_json(line)
        os.environ["EKIBEN_HOME"] = os.path.join(os.environ["HOMES"], config.workers.kind)
        print("ANSWER" + json.dumps([config.workers.kind, first_third(config)]))
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 3,500 rows with blank texts, wrong labels, copies and near-copies among them."""
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for number in range(3500):
            text = f"{number % 3000:b} lunch box {(number % 3000) ** 3:x} on the train"
            row = {"text": "" if number % 97 == 0 else text, "label": ("ham", "spam")[number % 2]}
            row["label"] = "eggs" if number % 89 == 0 else row["label"]
            stream.write(json.dumps(row) + "\n")
    return file


def run(uri: str, folder: Path, workers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the digests of all files of the first third, by the kind of workers that made them."""
    (folder / "line.py").write_text(LINE, encoding="utf-8")
    configs = [
        {
            "name": "shared",
            "data": {"uri": uri, "labels": ["ham", "spam"], "shard_rows": 1000},
            "gate": {"accuracy": {"min": 0.5}},
            "workers": settings,
        }
        for settings in workers
    ]
    environment = {
        **os.environ,
        "HOMES": str(folder),
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, str(folder / "line.py"), *map(json.dumps, configs)],
        env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    return dict(json.loads(answer.removeprefix("ANSWER")) for answer in answers)


@contextmanager
def cluster(folder: Path, code: Path = ROOT) -> Iterator[str]:
    """Start a Dask scheduler and two workers as processes of their own; yield the address."""
    folder.mkdir(exist_ok=True)
    file = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(code)}
    common = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
    scheduler = ["distributed.cli.dask_scheduler", "--port", "0", *common]
    worker = ["distributed.cli.dask_worker", *common, "--nworkers", "1", "--nthreads", "1",
              "--local-directory", str(folder)]  # fmt: skip
    processes = [
        subprocess.Popen([sys.executable, "-m", *command], env=environment, cwd=folder)
        for command in (scheduler, worker, worker)
    ]
    try:
        from distributed import Client

        with Client(scheduler_file=str(file), timeout=60) as client:  # type: ignore[no-untyped-call]
            client.wait_for_workers(2, timeout=60)
            address: str = client.scheduler.address
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def test_threads_processes_and_a_cluster_make_the_same_files(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source lies in a bucket; the files that the workers share lie in one folder."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with serve_bucket(rows.parent) as server, cluster(tmp_path) as address:
        monkeypatch.setenv(ENDPOINT, server.url)
        kinds: list[dict[str, Any]] = [
            {"kind": "threads", "count": 2},
            {"kind": "processes", "count": 2},
            {"kind": "dask", "dask_address": address},
        ]
        answers = run("s3://bucket/rows.jsonl", tmp_path, kinds)
    assert set(answers) == {"threads", "processes", "dask"}
    assert answers["threads"] == answers["processes"] == answers["dask"]
    _, validated, *_ = answers["threads"]
    assert set(validated) == {"quarantine.parquet", "suite.json"}
    assert server.paths.count("/bucket/rows.jsonl") >= len(kinds)


def refused(address: str) -> str:
    """Return in what words a cluster is refused before it is given any shard."""
    with (
        pytest.raises(ConfigError) as told,
        prefect_workers(Workers(kind="dask", dask_address=address)),
    ):
        side_by_side(os.path.exists, [{"path": "here"}, {"path": "there"}], "validate")
    (problem,) = told.value.problems
    assert problem.startswith(f"workers.dask_address: {address}")
    return problem


def test_a_worker_without_the_home_or_with_other_code_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    for package in ("bentos", "configs", "tasks"):
        shutil.copytree(ROOT / package, code / package)
    with (code / "tasks" / "cleaning.py").open("a") as stream:
        stream.write("# another release\n")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with cluster(tmp_path / "elsewhere", code) as address:
        # The same path leads each process to its own folder, as on machines that share none.
        monkeypatch.setenv("EKIBEN_HOME", "/proc/self/cwd")
        told = refused(address)
        assert "does not see the Ekiben home /proc/self/cwd; set EKIBEN_HOME to a folder" in told
        monkeypatch.setenv("EKIBEN_HOME", str(here))
        assert "does not run the same Ekiben and libraries as this machine" in refused(address)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("address", [CLOSED.replace("http", "tcp"), "teletype://somewhere"])
def test_a_scheduler_out_of_reach_is_told_in_words(address: str, homes: Path) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        assert "does not answer" in refused(address)


def test_dask_without_its_package_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with (
        pytest.raises(ConfigError, match="dask needs the package prefect-dask; run `pip install"),
        prefect_workers(Workers(kind="dask")),
    ):
        pass
