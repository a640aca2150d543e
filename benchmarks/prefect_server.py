"""A Prefect server with homes of its own, the pipelines that are deployed there, and their runs."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from tasks.process import child, environment_with
from tasks.serving import free_port
from tasks.steps import home

EKIBEN = str(Path(sys.executable).with_name("ekiben"))
_PREFECT = str(Path(sys.executable).with_name("prefect"))
_SECONDS_BETWEEN_LOOKS = 0.1
T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """A server that answers, the folder of its homes, and how those who use it find both."""

    api: str
    folder: Path
    environment: dict[str, str]

    @contextmanager
    def deployed(self, config: Path, log: str) -> Iterator[psutil.Process]:
        """Keep a config's pipeline there by `ekiben deploy`; yield its process."""
        file = self.folder / log
        command = [EKIBEN, "deploy", str(config)]
        with child(command, file, self.environment) as process:
            until(lambda: process.poll() is not None or "Start a run" in file.read_text(), log)
            if process.poll() is not None:
                raise SystemExit(file.read_text(encoding="utf-8"))
            yield psutil.Process(process.pid)

    def start_run(self, **sections: dict[str, Any]) -> str:
        """Start a run of the one deployment, as the page in Prefect's UI does; return its id.

        `sections` are keys of sections of the config to change for this run.
        """
        (deployment,) = self.post("/deployments/filter")
        config = deployment["parameters"]["config"]
        for section, changed in sections.items():
            config[section] |= changed
        made = self.post(
            f"/deployments/{deployment['id']}/create_flow_run", parameters={"config": config}
        )
        return str(made["id"])

    def runs(self) -> list[Any]:
        """Return all runs but those that are only planned."""
        wanted = {"state": {"type": {"not_any_": ["SCHEDULED"]}}}
        return list(self.post("/flow_runs/filter", flow_runs=wanted))

    def states(self, run: str) -> list[Any]:
        """Return the states that a run was in, first to last."""
        return list(self._ask("GET", f"/flow_run_states/?flow_run_id={run}"))

    def messages(self, run: str) -> list[str]:
        """Return what a run has logged."""
        found = self.post("/logs/filter", logs={"flow_run_id": {"any_": [run]}})
        return [str(line["message"]) for line in found]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that train or score in these homes."""
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and "tasks.worker" in (command := " ".join(process.info["cmdline"] or ()))
            and str(self.folder) in command
        ]

    def post(self, path: str, **body: Any) -> Any:
        """Return the answer to a POST."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        def answer() -> httpx.Response | None:
            given = httpx.request(method, f"{self.api}{path}", json=body, timeout=600)
            # While its database is locked the server says to come back, as Prefect's client does.
            return None if given.status_code == 503 else given.raise_for_status()

        return until(answer, path).json()


@contextmanager
def prefect_server(folder: Path) -> Iterator[Server]:
    """Start a server whose users share nothing with others but what was fetched."""
    cache = home() / "sources"
    cache.mkdir(parents=True, exist_ok=True)
    (folder / "ekiben").mkdir()
    (folder / "ekiben" / "sources").symlink_to(cache.absolute())
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = environment_with(
        EKIBEN_HOME=str(folder / "ekiben"),
        BENTOML_HOME=str(folder / "bentoml"),
        PREFECT_HOME=str(folder / "prefect"),
        PREFECT_API_URL=api,
        PREFECT_RUNNER_POLL_FREQUENCY="1",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_API_PORT=str(port),
    )
    with child([_PREFECT, "server", "start"], folder / "server.log", environment):
        until(lambda: _answers(f"{api}/health"), "the server answers")
        yield Server(api, folder, environment)


def until(found: Callable[[], T | None], what: str, seconds: float = 900) -> T:
    """Return the first true answer of `found`, asked again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    raise SystemExit(f"waited {seconds:.0f} s in vain: {what}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
