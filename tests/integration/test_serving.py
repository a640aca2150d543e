"""Stopping, restarting and swapping the service, served over HTTP by BentoML's own workers."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from toy_bentos import SURE, release, toy_bento, with_version

from tasks.integrity import write_manifest
from tasks.process import child, environment_with, tail
from tasks.rollback import roll_back

BODY = json.dumps({"texts": ["good", "bad"]}).encode()
HEAD = (
    b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(BODY)
)


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds; fail where it does not for long."""
    end = time.monotonic() + 60.0
    while not holds():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)


def has_ended(pid: int) -> bool:
    """Return whether a process is no more, or only waits for somebody to take note of its end."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@dataclass
class Served:
    """A running server, its log, and the address that it listens on."""

    process: subprocess.Popen[str]
    log: Path
    url: str

    @property
    def port(self) -> int:
        port = httpx.URL(self.url).port
        assert port is not None
        return port

    def readyz(self) -> int:
        """Return the status of a probe on a connection of its own; 0 where nobody answers."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5.0, trust_env=False).status_code
        except httpx.TransportError:
            return 0

    def until_ready(self) -> None:
        def holds() -> bool:
            assert self.process.poll() is None, tail(self.log, 8)
            return self.readyz() == 200

        until(holds, "the service is ready")

    def workers(self) -> set[int]:
        """Return the processes of BentoML's workers that run."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return {
            each.pid
            for each in family
            if not has_ended(each.pid) and "_bentoml_impl.worker.service" in each.cmdline()
        }

    def tags(self) -> set[str]:
        answer = httpx.post(
            f"{self.url}/classify", json={"texts": ["good", "bad"]}, timeout=60.0, trust_env=False
        )
        assert answer.status_code == 200, answer.text
        return {row["model"] for row in answer.json()}

    def accepted(self) -> socket.socket:
        """Return a connection with a request that the service has begun to read."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60.0)
        connection.sendall(HEAD)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        return connection

    def until_said(self, words: str) -> None:
        until(lambda: words in self.log.read_text(encoding="utf-8"), f"it says {words!r}")


def answer_on(connection: socket.socket) -> bytes:
    """Send the rest of an accepted request; return all that is answered until the end."""
    with connection:
        connection.sendall(BODY)
        answered = b""
        while part := connection.recv(65536):
            answered += part
        return answered


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bento(tmp_path_factory.mktemp("toy"), "v1", golden=SURE)


@pytest.fixture
def bentos(built: Path, homes: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Return the versions of the toy Bento, of which `v1` is the champion; `bad` fails its check."""
    store = homes / "bentoml_home"
    place = store / "bentos" / "toy"
    place.mkdir(parents=True)
    (place / "v1").symlink_to(built)
    versions = {name: with_version(place / "v1", name) for name in ("v2", "bad")}
    wrong = {"texts": ["good"], "probabilities": [[0.5, 0.5]]}
    golden = versions["bad"] / "src" / "model" / "golden.json"
    golden.write_text(json.dumps(wrong), encoding="utf-8")
    write_manifest(versions["bad"], "toy:bad")
    release(versions["v2"])
    release(place / "v1")
    return {"v1": place / "v1", **versions}


@contextmanager
def bentoml_serve(bento: Path, folder: Path, **variables: str) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", str(bento), "--host", "127.0.0.1"]
    log = folder / "serve.log"
    with child([*command, "--port", str(port)], log, environment_with(**variables)) as process:
        served = Served(process, log, f"http://127.0.0.1:{port}")
        served.until_ready()
        yield served


@contextmanager
def ekiben_serve(folder: Path, *arguments: str) -> Iterator[Served]:
    command = [sys.executable, "-c", "from flows.cli import main; main()", "serve"]
    log = folder / "serve.log"
    with child([*command, *arguments, "--port", "0"], log, environment_with()) as process:
        served = Served(process, log, "")
        served.until_said("http://127.0.0.1:")
        (line,) = [row for row in log.read_text().splitlines() if row.startswith("starting ")]
        served.url = line.partition(" on ")[2]
        served.until_ready()
        yield served


def test_sigterm_lets_accepted_requests_finish_and_refuses_new_ones_in_words(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    with bentoml_serve(bentos["v1"], tmp_path) as served:
        accepted = served.accepted()
        open_before = httpx.Client(base_url=served.url, trust_env=False)
        assert open_before.get("/readyz").status_code == 200
        served.process.send_signal(signal.SIGTERM)
        until(lambda: served.readyz() == 503, "readyz turns 503")
        for client in (open_before, httpx.Client(base_url=served.url, trust_env=False)):
            with closing(client):
                refused = client.post("/classify", json={"texts": ["good"]})
            assert refused.status_code == 503
            assert refused.json()["error"].startswith("the service is stopping")
            assert refused.headers["retry-after"] == "1"
            assert refused.headers["connection"] == "close"
        answered = answer_on(accepted)
        assert answered.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in answered
        assert b'"toy:v1"' in answered
        served.process.wait(60)


def test_a_killed_worker_comes_back_in_a_container_too(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    with bentoml_serve(bentos["v1"], tmp_path, BENTOML_CONTAINERIZED="true") as served:
        (before,) = served.workers()
        os.kill(before, signal.SIGKILL)
        until(lambda: served.workers() - {before} != set(), "another worker runs")
        served.until_ready()
        assert served.tags() == {"toy:v1"}


ARBITER = """
from bentos.text_classifier.lifecycle import respawn_quickly
respawn_quickly()
from bentoml._internal.utils.circus import create_standalone_arbiter
print(create_standalone_arbiter([]).check_delay)
"""


def test_bentomls_arbiter_looks_after_its_workers_every_second() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ARBITER],
        capture_output=True,
        text=True,
        check=True,
        env=environment_with(),
        cwd=Path(__file__).parents[2],
    )
    assert ended.stdout == "1.0\n"


@dataclass
class Load:
    """Clients that ask on and on, and what they were answered."""

    url: str
    clients: int = 4
    seen: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60.0, trust_env=False) as client:
            while not self.stop.is_set():
                try:
                    answer = client.post("/classify", json={"texts": ["good", "bad"]})
                    tags = {row["model"] for row in answer.json()}
                except (httpx.TransportError, ValueError, TypeError, KeyError) as error:
                    self.failed.append(repr(error))
                else:
                    if answer.status_code != 200 or len(tags) != 1:
                        self.failed.append(answer.text)
                    self.seen.update(tags)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        threads = [threading.Thread(target=self.ask) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def until_answered_by(self, tag: str) -> None:
        enough = self.seen[tag] + 20
        until(lambda: self.seen[tag] >= enough, f"{tag} answers")


def test_a_new_champion_is_swapped_to_without_dropping_a_request(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    with ekiben_serve(tmp_path, "toy") as served, Load(served.url).running() as load:
        load.until_answered_by("toy:v1")
        (first,) = served.workers()
        for number, version in enumerate(("v2", "v1", "v2")):
            release(bentos[version])
            load.until_answered_by(f"toy:{version}")
            until(lambda: len(served.workers()) == 1, f"the worker before swap {number} ended")
        assert served.workers() != {first}
        load.stop.set()
    assert load.failed == []
    assert set(load.seen) == {"toy:v1", "toy:v2"}


def test_a_request_that_the_old_worker_accepted_is_answered_by_it_after_the_swap(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    with ekiben_serve(tmp_path, "toy") as served:
        accepted = served.accepted()
        release(bentos["v2"])
        until(lambda: served.tags() == {"toy:v2"}, "v2 answers")
        answered = answer_on(accepted)
        assert answered.startswith(b"HTTP/1.1 200 OK")
        assert b"toy:v1" in answered
        assert b"connection: close" in answered
        until(lambda: len(served.workers()) == 1, "the old worker ended")
        assert served.tags() == {"toy:v2"}


def test_a_champion_that_does_not_answer_as_recorded_is_not_swapped_to(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    with ekiben_serve(tmp_path, "toy") as served:
        release(bentos["bad"])
        served.until_said("toy:bad did not get ready; toy:v1 is served on")
        assert served.tags() == {"toy:v1"}
        assert "the model answers golden text 0" in served.log.read_text(encoding="utf-8")
        release(bentos["v2"])
        served.until_said("toy:v2 is served in the place of toy:v1")
        assert served.tags() == {"toy:v2"}


def test_a_champion_whose_files_were_changed_is_not_swapped_to(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    with ekiben_serve(tmp_path, "toy") as served:
        changed = bentos["v2"] / "src" / "guard.py"
        changed.write_text(changed.read_text(encoding="utf-8") + "# more\n", encoding="utf-8")
        release(bentos["v2"])
        served.until_said("toy:v2 did not get ready; toy:v1 is served on")
        assert "'src/guard.py' was changed" in served.log.read_text(encoding="utf-8")
        assert served.tags() == {"toy:v1"}


def test_a_rollback_is_served_within_moments_and_no_request_fails(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    release(bentos["v2"], previous="toy:v1", at="2026-01-02T00:00:00+00:00")
    with ekiben_serve(tmp_path, "toy") as served:
        assert served.tags() == {"toy:v2"}
        roll_back("toy")
        served.until_said("toy:v1 is served in the place of toy:v2")
        assert served.tags() == {"toy:v1"}


def test_a_first_worker_that_does_not_get_ready_ends_the_command_in_words(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    release(bentos["bad"])
    ended = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "serve", "toy", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        env=environment_with(),
        cwd=Path(__file__).parents[2],
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: toy:bad: its worker was not ready")


def test_a_version_that_was_asked_for_is_served_on_whatever_is_released(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    with ekiben_serve(tmp_path, "toy:v2") as served:
        assert served.tags() == {"toy:v2"}
        (first,) = served.workers()
        release(bentos["v1"])
        served.process.send_signal(signal.SIGHUP)
        served.until_said("toy:v2 is served in the place of toy:v2")
        until(lambda: served.workers() & {first} == set(), "the first worker ended")
        assert served.tags() == {"toy:v2"}


def test_what_connects_while_a_killed_worker_is_started_again_is_answered(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    with ekiben_serve(tmp_path, "toy") as served:
        (before,) = served.workers()
        os.kill(before, signal.SIGKILL)
        until(lambda: has_ended(before), "the worker is dead")
        assert served.tags() == {"toy:v1"}
        assert served.workers() != {before}
        assert "its worker ended with code -9" in served.log.read_text(encoding="utf-8")


def test_the_command_drains_its_worker_and_ends(bentos: dict[str, Path], tmp_path: Path) -> None:
    with ekiben_serve(tmp_path, "toy") as served:
        (worker,) = served.workers()
        accepted = served.accepted()
        served.process.send_signal(signal.SIGTERM)
        until(lambda: served.readyz() == 503, "readyz turns 503")
        assert answer_on(accepted).startswith(b"HTTP/1.1 200 OK")
        assert served.process.wait(60) == 0
        assert has_ended(worker)


def test_the_worker_drains_where_the_command_is_killed(
    bentos: dict[str, Path], tmp_path: Path
) -> None:
    with ekiben_serve(tmp_path, "toy") as served:
        (worker,) = served.workers()
        accepted = served.accepted()
        served.process.kill()
        until(lambda: served.readyz() == 503, "readyz turns 503")
        assert answer_on(accepted).startswith(b"HTTP/1.1 200 OK")
        until(lambda: has_ended(worker), "the worker ended")
