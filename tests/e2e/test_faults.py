"""What happens to a machine in mid-run: the run ends in words or goes on, and the next one releases."""

import csv
import os
import shlex
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from e2e_support import EKIBEN, Homes
from loopback import Server, listening
from prefect_support import PrefectServer, prefect_server, until

from configs.loading import load_config
from configs.training import MINILM
from tasks.reading import read_rows
from tasks.sources import fetch
from tasks.steps import MANIFEST

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.yaml"
TRACEBACK = "Traceback (most recent call last)"


@dataclass
class Line:
    """A small line in homes of its own, on a Prefect server."""

    server: PrefectServer
    homes: Homes
    config: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a run."""
        server = PrefectServer(self.server.ui, self.homes)
        return server.environment | {"PREFECT_CLIENT_MAX_RETRIES": "2"}

    def run(
        self, meanwhile: Callable[["subprocess.Popen[str]"], object] = lambda _: None
    ) -> tuple[int, str]:
        """Run the line; return its code and all it printed. `meanwhile` gets the process."""
        command = [EKIBEN, "run", str(self.config)]
        with subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            meanwhile(process)
            printed, _ = process.communicate(timeout=400)
        return process.returncode, printed

    def require_next_run_releases(self) -> None:
        """Run again; require a whole release and nothing half-made beside it."""
        code, printed = self.run()
        assert code == 0, printed
        version = (self.homes.bentoml / "bentos" / "faulty" / "latest").read_text()
        assert (self.homes.bentoml / "bentos" / "faulty" / version / "manifest.json").exists()
        assert half_made(self.homes) == []


def half_made(homes: Homes) -> list[Path]:
    """Return what is neither whole nor will go: staging, partial files, steps without manifest."""
    found = [*homes.ekiben.rglob("*.staging"), *homes.ekiben.rglob("*.partial")]
    found += homes.bentoml.rglob(".*.staging")
    steps = (homes.ekiben / "steps").glob("*/*")
    return found + [step for step in steps if step.is_dir() and not (step / MANIFEST).exists()]


def worker_of(process: "subprocess.Popen[str]", command: str = "train") -> psutil.Process:
    """Return the worker of a run as soon as it is at work."""
    end = time.monotonic() + 200
    while time.monotonic() < end and process.poll() is None:
        for each in psutil.Process(process.pid).children(recursive=True):
            try:
                if {"tasks.worker", command} <= {*each.cmdline()} and each.cpu_times().user > 1:
                    return each
            except psutil.Error:
                continue
        time.sleep(0.05)
    raise AssertionError(f"no {command} worker was at work")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Path:
    data = load_config(SMOKE).data
    file = tmp_path_factory.mktemp("rows") / "rows.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        kept = [(row.text, row.label) for row in read_rows(fetch(data.uri).path, data)][:500]
        csv.writer(stream).writerows([("text", "label"), *kept])
    return file


@pytest.fixture
def line(prefect: PrefectServer, rows: Path, sources: Path, tmp_path: Path) -> Line:
    return line_in(tmp_path, prefect, sources, str(rows))


def line_in(folder: Path, server: PrefectServer, sources: Path, uri: str) -> Line:
    """Return a line over the rows at an address, with a model of one layer."""
    file = folder / "config.yaml"
    config: dict[str, Any] = {
        "name": "faulty",
        "data": {"uri": uri, "labels": ["ham", "spam"]},
        "training": {
            "base_model": MINILM, "num_hidden_layers": 1, "max_length": 32, "num_train_epochs": 5,
            "learning_rate": 1e-3, "device": "cpu",
        },
        "gate": {"accuracy": {"min": 0.6}, "min_test_rows": 20},
        "serving": {"forms": [], "proof_rows": 20},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return Line(server, Homes.under(folder, sources), file)


# --- The network ----------------------------------------------------------------------------------


@contextmanager
def serve_cut_off(content: bytes, healed: list[bool]) -> Iterator[Server]:
    """Serve a file whose connection breaks half-way, until there is something in `healed`."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content if healed else content[: len(content) // 2])
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (its base's name)
            pass

    with listening(server, Handler) as started:
        yield started


def test_a_network_that_is_gone_in_ingest_ends_in_words_and_keeps_nothing(
    prefect: PrefectServer, rows: Path, sources: Path, tmp_path: Path
) -> None:
    healed: list[bool] = []
    with serve_cut_off(rows.read_bytes(), healed) as server:
        line = line_in(tmp_path, prefect, sources, f"{server.url}/rows.csv")
        line.homes.sources.unlink()
        shutil.copytree(sources, line.homes.sources, copy_function=os.link)
        before = {*line.homes.sources.rglob("*")}
        code, printed = line.run()
        assert code == 1, printed
        assert f"{server.url}/rows.csv" in printed and "the network" in printed, printed
        assert TRACEBACK not in printed
        new = [path for path in line.homes.sources.rglob("*") if path not in before]
        assert [path.suffix for path in new] == [".lock"]
        healed.append(True)
        line.require_next_run_releases()


# --- Memory ---------------------------------------------------------------------------------------


def test_a_training_without_memory_ends_in_words_and_the_next_goes_on(line: Line) -> None:
    def let_no_more(process: "subprocess.Popen[str]") -> None:
        worker = worker_of(process)
        until(lambda: [*line.homes.ekiben.rglob("checkpoint-*")], "it trains")
        worker.rlimit(psutil.RLIMIT_AS, (1, 1))

    code, printed = line.run(let_no_more)
    assert code == 1, printed
    assert "memory" in printed and "training.max_tokens_per_device" in printed, printed
    assert TRACEBACK not in printed
    line.require_next_run_releases()


# --- Prefect's server -----------------------------------------------------------------------------


@pytest.fixture
def own_server(line: Line, tmp_path: Path) -> Iterator[Callable[[], Line]]:
    """Return what starts a Prefect server of the line's own, again and again on one database."""
    with ExitStack() as servers:

        def start() -> Line:
            server = servers.enter_context(prefect_server(line.homes, tmp_path / "server.log"))
            return Line(server, line.homes, line.config)

        yield start


def test_a_server_of_prefect_is_waited_for_while_locked_and_told_of_when_gone(
    own_server: Callable[[], Line],
) -> None:
    line = own_server()

    def lock_for_a_while_then_kill(process: "subprocess.Popen[str]") -> None:
        worker_of(process)
        with closing(sqlite3.connect(line.homes.prefect / "prefect.db", timeout=60)) as database:
            database.execute("BEGIN EXCLUSIVE")
            time.sleep(15)
            database.rollback()
        worker_of(process, "score")  # so the line went on
        for each in psutil.process_iter(["cmdline", "environ"]):
            environ, command = each.info["environ"] or {}, each.info["cmdline"] or []
            if environ.get("PREFECT_HOME") == str(line.homes.prefect) and "server" in command:
                each.kill()

    code, printed = line.run(lock_for_a_while_then_kill)
    assert code == 1, printed
    assert "Prefect's server no longer answers" in printed, printed
    assert TRACEBACK not in printed
    own_server().require_next_run_releases()


# --- The disk -------------------------------------------------------------------------------------

MOUNTED = """
set -u
mount -t tmpfs -o size=30m none {home}
mkdir {home}/ekiben && ln -s {sources} {home}/ekiben/sources
{run} >{log}/full.txt 2>&1; echo $? >{log}/full.code
mount -o remount,ro {home}
{run} >{log}/read-only.txt 2>&1; echo $? >{log}/read-only.code
mount -o remount,rw,size=500m {home}
{run} >{log}/next.txt 2>&1; echo $? >{log}/next.code
find {home} -name '*.staging' -o -name '*.partial' >{log}/left.txt
"""


def test_a_disk_that_is_full_or_read_only_ends_in_words_and_the_next_run_releases(
    line: Line, sources: Path, tmp_path: Path
) -> None:
    home, log = tmp_path / "disk", tmp_path / "log"
    home.mkdir()
    log.mkdir()
    variables = {
        **line.environment,
        "EKIBEN_HOME": str(home / "ekiben"),
        "BENTOML_HOME": str(home / "bentoml"),
    }
    script = MOUNTED.format(
        home=home,
        sources=sources,
        log=log,
        run=shlex.join([EKIBEN, "run", str(line.config)]),
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    if "not permitted" in done.stderr:
        pytest.skip(f"a disk of one's own needs root and mount namespaces: {done.stderr.strip()}")
    told = {file.stem: file.read_text() for file in log.glob("*.txt")}
    codes = {file.stem: int(file.read_text()) for file in log.glob("*.code")}
    assert codes == {"full": 1, "read-only": 1, "next": 0}, told
    assert "split: train" in told["full"] and "No space left" in told["full"], told["full"]
    assert "Read-only file system" in told["read-only"], told["read-only"]
    assert told["left"] == ""
    assert TRACEBACK not in told["full"] + told["read-only"]
