"""A Prefect server on loopback, what is asked of it, and `ekiben deploy` beside it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from e2e_support import EKIBEN, ROOT, Homes, free_port, line_environment, stopped

PREFECT = str(Path(sys.executable).with_name("prefect"))
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
T = TypeVar("T")


@dataclass(frozen=True)
class PrefectServer:
    """A running server: its addresses, and the environment of those who use it."""

    ui: str
    homes: Homes

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a client that looks for runs every second."""
        return line_environment(self.homes) | {
            "PREFECT_API_URL": f"{self.ui}/api",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }

    def run(self, homes: Homes, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `ekiben run` in other homes, on this server."""
        return subprocess.run(
            [EKIBEN, "run", *arguments],
            cwd=ROOT,
            env=replace(self, homes=homes).environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def get(self, path: str) -> Any:
        """Return the answer to a GET."""
        return self._ask("GET", path)

    def post(self, path: str, **body: Any) -> Any:
        """Return the answer to a POST."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        def answer() -> httpx.Response | None:
            given = httpx.request(method, f"{self.ui}/api{path}", json=body, timeout=60)
            # While its SQLite file is locked the server says to come back, as Prefect's client does.
            return None if given.status_code == 503 else given.raise_for_status()

        return until(answer, f"{path} is answered").json()

    def deployment(self, name: str) -> Any:
        """Return the deployment of a pipeline."""
        return self.get(f"/deployments/name/ekiben/{name}")

    def start_run(self, name: str, **sections: dict[str, Any]) -> str:
        """Start a run with some keys of the config's sections changed, and return its id."""
        deployment = self.deployment(name)
        config = deployment["parameters"]["config"]
        for section, changed in sections.items():
            config[section] |= changed
        run = self.post(
            f"/deployments/{deployment['id']}/create_flow_run", parameters={"config": config}
        )
        return str(run["id"])

    def state(self, run: str) -> Any:
        """Return a run's state."""
        return self.get(f"/flow_runs/{run}")["state"]

    def ended(self, run: str, seconds: float = 300) -> Any:
        """Return a run's state when it has ended."""

        def state() -> Any:
            now = self.state(run)
            return now if now["type"] in ENDED else None

        return until(state, f"run {run} ends", seconds)

    def messages(self, run: str) -> list[str]:
        """Return what a run has logged."""
        wanted = {"flow_run_id": {"any_": [run]}}
        found = self.post("/logs/filter", logs=wanted, sort="TIMESTAMP_ASC")
        return [str(line["message"]) for line in found]

    def artifacts(self, run: str) -> dict[str, Any]:
        """Return a run's artifacts by key."""
        wanted = {"flow_run_id": {"any_": [run]}}
        return {each["key"]: each for each in self.post("/artifacts/filter", artifacts=wanted)}

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes that are training or scoring in these homes."""
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and "tasks.worker" in (command := " ".join(process.info["cmdline"] or ()))
            and str(self.homes.ekiben) in command
        ]


def until(found: Callable[[], T | None], what: str, seconds: float = 120) -> T:
    """Return the first true answer of `found`, asked again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds:.0f} s in vain until {what}")


@contextmanager
def prefect_server(homes: Homes, log: Path, database: str | None = None) -> Iterator[PrefectServer]:
    """Run `prefect server start` in the clone, with the settings that lie there and a port.

    `database` is the address of one to use instead of the SQLite file in Prefect's home.
    """
    port = free_port()
    server = PrefectServer(f"http://127.0.0.1:{port}", homes)
    environment = line_environment(homes)
    environment.pop("PREFECT_SERVER_ANALYTICS_ENABLED", None)
    environment.pop("DO_NOT_TRACK", None)
    # The option `--port` would leave the UI asking the default port.
    environment["PREFECT_SERVER_API_PORT"] = str(port)
    if database is not None:
        environment["PREFECT_API_DATABASE_CONNECTION_URL"] = database
    command = [PREFECT, "server", "start"]
    with log.open("w") as printed, stopped(_start(command, environment, printed)):
        until(lambda: _answers(f"{server.ui}/api/health"), "the Prefect server answers")
        yield server


@contextmanager
def deploying(
    server: PrefectServer, log: Path, *configs: str | Path
) -> Iterator["subprocess.Popen[Any]"]:
    """Run `ekiben deploy` in the clone; what it prints goes to the log."""
    command = [EKIBEN, "deploy", *map(str, configs)]
    with log.open("w") as printed, stopped(_start(command, server.environment, printed)) as process:

        def serving() -> bool:
            assert process.poll() is None, log.read_text()
            return "Start a run" in log.read_text()

        until(serving, "ekiben deploy serves")
        yield process


@contextmanager
def pool_worker(
    server: PrefectServer, name: str, folder: Path
) -> Iterator["subprocess.Popen[Any]"]:
    """Run a worker of the work pool `ekiben` that takes one run at a time."""
    command = [PREFECT, "worker", "start", "--pool", "ekiben", "--name", name, "--limit", "1"]
    log = folder / f"{name}.log"
    with log.open("w") as printed, stopped(_start(command, server.environment, printed)) as process:
        yield process


def _start(command: list[str], environment: dict[str, str], log: Any) -> "subprocess.Popen[Any]":
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
