"""Homes, ports and processes of the end-to-end tests."""

import contextlib
import ipaddress
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
EKIBEN = str(Path(sys.executable).with_name("ekiben"))


@dataclass(frozen=True)
class Homes:
    """The folders that Ekiben, BentoML and Prefect keep their own things in."""

    ekiben: Path
    bentoml: Path
    prefect: Path

    @property
    def sources(self) -> Path:
        """Return the cache of fetched sources."""
        return self.ekiben / "sources"

    @classmethod
    def under(cls, folder: Path, sources: Path) -> Self:
        """Return new homes that share nothing but the cache of sources."""
        homes = cls(folder / "ekiben", folder / "bentoml", folder / "prefect")
        homes.ekiben.mkdir(parents=True)
        homes.sources.symlink_to(sources)
        return homes


_HOOK = """
import json, os, sys

TARGETS = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0,
           "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}

def record(event, arguments):
    if event in TARGETS:
        address = arguments[TARGETS[event]]
        host = address[0] if isinstance(address, tuple) else address
        write(event, host.decode(errors="replace") if isinstance(host, bytes) else str(host))

def write(event, host):
    with open(os.environ["CONNECTIONS"], "a") as log:
        log.write(json.dumps([event, host, " ".join(sys.orig_argv[1:5])]) + chr(10))

write("start", "")
sys.addaudithook(record)
"""


@dataclass(frozen=True)
class Watch:
    """An environment in which each Python process records its start and whom it calls or looks up."""

    folder: Path

    @classmethod
    def under(cls, folder: Path) -> Self:
        """Return a watch that keeps its hook and its records in the folder."""
        (folder / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")
        (folder / "connections.jsonl").touch()
        return cls(folder)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that put the hook into a process and its children."""
        log = str(self.folder / "connections.jsonl")
        path = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(path), "CONNECTIONS": log}

    def records(self) -> list[tuple[str, str, str]]:
        """Return (event, host, command) of every start, connection and look-up so far."""
        lines = (self.folder / "connections.jsonl").read_text(encoding="utf-8").splitlines()
        return [tuple(json.loads(line)) for line in lines]

    def outside(self) -> list[tuple[str, str, str]]:
        """Return the records whose host is not this machine."""
        return [record for record in self.records() if not _is_local(record[1])]


def _is_local(host: str) -> bool:
    if host in ("localhost", socket.gethostname(), "None", "") or host.startswith(("/", "\0")):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@dataclass(frozen=True)
class ReleasedHomes(Homes):
    """Homes in which `ekiben run configs/smoke.yaml` has released a Bento; what it printed."""

    printed: str
    watch: Watch


def line_environment(homes: Homes) -> dict[str, str]:
    """Return this process's environment with the homes in it and no Prefect server of the user's."""
    environment = {
        **os.environ,
        "EKIBEN_HOME": str(homes.ekiben),
        "BENTOML_HOME": str(homes.bentoml),
        "PREFECT_HOME": str(homes.prefect),
        "COLUMNS": "120",
    }
    environment.pop("PREFECT_API_URL", None)
    return environment


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def stopped(process: "subprocess.Popen[Any]") -> Iterator["subprocess.Popen[Any]"]:
    """End a process and all that it has started, also in sessions of their own, on the way out."""
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(process.pid)
            started = [root, *root.children(recursive=True)]
            for stop in (psutil.Process.terminate, psutil.Process.kill):
                for one in started:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        stop(one)
                _, started = psutil.wait_procs(started, timeout=20)
        process.wait(20)
