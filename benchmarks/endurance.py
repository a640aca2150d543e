"""Try the service hard: overload, swaps of the champion and kills of its worker, all under load.

`python -m benchmarks.endurance [overload] [swaps] [kills]` serves copies of a released pipeline's
champion (`--pipeline sms_spam`) by `ekiben serve`. Overload: at 70 % of the most that clients who wait
for their answers get, then at twice and five times that, requests come at random times; the load has
a core of its own, and the service the others, or the two would measure each other. Swaps: `ekiben
rollback` to the other of two versions.
Kills: SIGKILL to the worker, and the time until a text is answered. `--quick` does few, briefly.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.line import RESULTS, surroundings
from benchmarks.load import Load, closed_loop, family_of, open_loop, request_of
from benchmarks.serving import models_of
from tasks.building import SERVICE
from tasks.integrity import write_manifest
from tasks.process import child, environment_with
from tasks.releases import champion
from tasks.serving import free_port
from tasks.steps import write_json, write_text

PARTS = ("overload", "swaps", "kills")
VERSIONS = ("first", "second")
EKIBEN = str(Path(sys.executable).with_name("ekiben"))
_CLIENTS = 8
_CLIENTS_AT_CAPACITY = (8, 16, 32)


@dataclass
class Served:
    """`ekiben serve` of two versions of one champion, in homes of its own."""

    port: int
    process: psutil.Process
    bentos: Path
    texts: list[str]
    environment: dict[str, str]
    log: Path
    headers: dict[str, str]

    def requests(self) -> list[bytes]:
        """Return a request for each text."""
        return [request_of({"texts": [text]}, port=self.port) for text in self.texts]

    def tag(self) -> str | None:
        """Return the tag of the model that answers now, or None where nobody answers."""
        with suppress(httpx.TransportError):
            url = f"http://127.0.0.1:{self.port}/classify"
            answer = httpx.post(url, json={"texts": ["Hello"]}, headers=self.headers, timeout=30)
            if answer.status_code == 200:
                return str(answer.json()[0]["model"])
        return None

    def roll_back(self, tag: str) -> None:
        """Make the other version the champion, as a person would."""
        command = [EKIBEN, "rollback", self.bentos.name, tag]
        subprocess.run(command, env=self.environment, check=True, capture_output=True)

    def worker(self) -> psutil.Process:
        """Return the newest process that answers."""
        found = [
            process
            for process in family_of(self.process)
            if "_bentoml_impl.worker" in " ".join(process.cmdline())
        ]
        return max(found, key=psutil.Process.create_time)


@contextmanager
def served(pipeline: str, folder: Path, keys: dict[str, str] | None = None) -> Iterator[Served]:
    """Serve the champion, by the service of this version, from a store that holds it twice.

    Where there are keys by name, the service is open to these alone.
    """
    record = champion(pipeline)
    _, texts = models_of(pipeline)
    assert record is not None  # models_of has ended otherwise
    home, store = folder / "home", folder / "bentoml"
    bentos = store / "bentos" / pipeline
    for version in VERSIONS:
        place = bentos / version
        shutil.copytree(record.bento_path, place)
        for module in (place / "src").glob("*.py"):
            shutil.copyfile(SERVICE / module.name, module)
        told = yaml.safe_load((place / "bento.yaml").read_text(encoding="utf-8"))
        write_text(place / "bento.yaml", yaml.safe_dump({**told, "version": version}))
        card = place / "src" / "model" / "card.json"
        tag = f"{pipeline}:{version}"
        write_json(card, {**json.loads(card.read_text(encoding="utf-8")), "tag": tag})
        released = record.model_copy(update={"tag": tag, "bento_path": place, "previous": None})
        write_manifest(place, tag)
        file = home / "releases" / pipeline / f"{version}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, released.model_dump(mode="json"))
    write_text(bentos / "latest", VERSIONS[0])
    port = free_port()
    environment = environment_with(EKIBEN_HOME=str(home), BENTOML_HOME=str(store))
    command = [EKIBEN, "serve", pipeline, "--port", str(port)]
    headers = {"X-API-Key": next(iter(keys.values()))} if keys else {}
    if keys:
        hashes = {name: hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}
        lines = "".join(f"{name} {hashed}\n" for name, hashed in hashes.items())
        write_text(folder / "keys", lines)
        command += ["--keys-file", str(folder / "keys")]
    with child(command, folder / "serve.log", environment) as process:
        found = Served(
            port,
            psutil.Process(process.pid),
            bentos,
            texts,
            environment,
            folder / "serve.log",
            headers,
        )
        while found.tag() is None:
            if process.poll() is not None:
                raise SystemExit((folder / "serve.log").read_text(encoding="utf-8"))
            time.sleep(0.1)
        yield found


def overload(service: Served, seconds: float) -> dict[str, Any]:
    """Return what came of 70 %, twice and five times the most that is answered."""
    requests, brief = service.requests(), min(seconds, 10)
    rates = []
    for clients in _CLIENTS_AT_CAPACITY:
        load = closed_loop(service.port, requests, clients, brief, service.process)
        rates.append(asyncio.run(load).told()["requests_per_second"])
    capacity = max(rates)
    found: dict[str, Any] = {"capacity": capacity}
    for times in (0.7, 2.0, 5.0):
        load = open_loop(service.port, requests, times * capacity, seconds, service.process)
        found[f"{times:g}"] = _told(asyncio.run(load), capacity)
    return found


def cores_for(part: str) -> tuple[Set[int], Set[int]]:
    """Return the cores of the service and those of the load: apart for overload, if there are two."""
    every = os.sched_getaffinity(0)
    if part != "overload" or len(every) == 1:
        return every, every
    last = {max(every)}
    return every - last, last


@contextmanager
def on_cores(cores: Set[int]) -> Iterator[None]:
    """Have this process, and what it starts, run on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _told(load: Load, capacity: float) -> dict[str, float]:
    told = load.told()
    refusals = 1000 * np.percentile(load.refusals or [0.0], 99)
    return {
        **{name: told[name] for name in ("p50_ms", "p99_ms", "refused", "errors", "lost")},
        "goodput": told["requests_per_second"] / capacity,
        "refusal_p99_ms": float(refusals),
    }


def swaps(service: Served, count: int) -> dict[str, Any]:
    """Return what came of the requests while the champion was swapped so many times."""
    tags = {f"{service.bentos.name}:{version}" for version in VERSIONS}
    taken: list[float] = []

    async def swap_all() -> None:
        for number in range(count):
            version = VERSIONS[(number + 1) % 2]
            started = time.perf_counter()
            tag = f"{service.bentos.name}:{version}"
            await asyncio.to_thread(service.roll_back, tag)
            while await asyncio.to_thread(service.tag) != tag:
                if time.perf_counter() - started > 60:
                    raise SystemExit(f"swap {number + 1} did not come about")
                await asyncio.sleep(0.05)
            taken.append(time.perf_counter() - started)

    load, seen = asyncio.run(_loaded(service, swap_all()))
    return {
        "swaps": count,
        "requests": len(load.latencies),
        "failed": load.lost + sum(n for status, n in load.statuses.items() if status != 200),
        "tags_are_whole": seen <= tags,
        "seconds_to_swap": [float(np.median(taken)), max(taken)],
    }


def kills(service: Served, count: int) -> dict[str, Any]:
    """Return the seconds from a kill of the worker to the next answer, so many times."""
    taken = []
    for _ in range(count):
        worker = service.worker()
        started = time.perf_counter()
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(10)
        while service.tag() is None:
            time.sleep(0.02)
        taken.append(time.perf_counter() - started)
    return {"kills": count, "seconds_to_answer": [float(np.median(taken)), max(taken)]}


async def _loaded(service: Served, work: Any) -> tuple[Load, set[str]]:
    """Do the work while clients ask; return what they got, and the tags in their answers."""
    requests = service.requests()
    load, done, seen = Load(0.0), asyncio.Event(), set[str]()

    async def client(start: int) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as own:
            number = start
            while not done.is_set():
                body = requests[number % len(requests)].partition(b"\r\n\r\n")[2]
                number += _CLIENTS
                headers = {"Content-Type": "application/json"}
                began = time.perf_counter()
                try:
                    answer = await own.post("/classify", content=body, headers=headers, timeout=30)
                except httpx.TransportError:
                    load.lost += 1
                    continue
                load.statuses[answer.status_code] = load.statuses.get(answer.status_code, 0) + 1
                if answer.status_code == 200:
                    load.latencies.append(time.perf_counter() - began)
                    seen.update(each["model"] for each in answer.json())

    clients = [asyncio.create_task(client(start)) for start in range(_CLIENTS)]
    try:
        await work
    finally:
        done.set()
        await asyncio.gather(*clients)
    return load, seen


def main(arguments: list[str]) -> None:
    """Measure the parts named, or all, and write `benchmarks/results/endurance.json`."""
    parser = argparse.ArgumentParser("python -m benchmarks.endurance")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--pipeline", default="sms_spam")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each overload")
    parser.add_argument("--times", type=int, default=50, help="how many swaps and kills")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is named {min(unknown)!r}; expected some of {', '.join(PARTS)}")
    if options.quick:
        options.seconds, options.times = 2.0, 2
    file = RESULTS / f"endurance{'_quick' if options.quick else ''}.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    command = " ".join(["python", "-m", "benchmarks.endurance", *arguments])
    for part in options.parts or PARTS:
        cores, of_the_load = cores_for(part)
        with (
            tempfile.TemporaryDirectory(prefix="ekiben-endurance-") as folder,
            ExitStack() as stack,
        ):
            with on_cores(cores):
                service = stack.enter_context(served(options.pipeline, Path(folder)))
            with on_cores(of_the_load):
                if part == "overload":
                    found = {"cores": len(cores), **overload(service, options.seconds)}
                else:
                    found = {"swaps": swaps, "kills": kills}[part](service, options.times)
        known = {**known, **surroundings(), "command": command, part: {"command": command, **found}}
        file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        show(part, found)


def show(part: str, found: dict[str, Any]) -> None:
    """Print what a part came to."""
    table = Table(title=part, title_justify="left")
    table.add_column("figure")
    table.add_column("value")
    for name, value in found.items():
        told = str(value)
        if isinstance(value, dict):
            told = ", ".join(f"{key} {number:.3g}" for key, number in value.items())
        table.add_row(name, told)
    Console(width=160).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
