"""Child processes that never outlive the step that started them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from configs.errors import TrainingError
from tasks.quiet import SILENCE

_SECONDS_TO_END = 10.0


@contextmanager
def child(
    command: list[str], log: Path, env: dict[str, str], *, piped: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in its own process group and end the group on the way out.

    What it prints goes to `log`, or, with `piped`, only its errors, and the rest to `stdout` of the
    process. Standard input is a pipe that closes with this process, however it dies.
    """
    with log.open("w", encoding="utf-8") as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if piped else printed,
            stderr=printed,
            env=env,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Ask the process group to end; kill what is left of the family, whatever its group."""
    family = _family(process.pid)
    for stop in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            try:
                os.killpg(process.pid, stop)
                process.wait(_SECONDS_TO_END)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _family(pid: int) -> list[psutil.Process]:
    """Return the children of a process, and theirs; BentoML's workers have groups of their own."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def run_worker(
    command: str, spec: Path, on_event: Callable[[dict[str, Any]], None], devices: int = 1
) -> None:
    """Run `python -m tasks.worker COMMAND SPEC`, under torchrun where there are several devices.

    `on_event` gets each JSON line that the worker prints.

    Raises:
        TrainingError: if the worker ends in any other way than well, with the end of its log.
    """
    launcher = [sys.executable]
    if devices > 1:
        launcher += [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(devices),
        ]
    line = [*launcher, "-m", "tasks.worker", command, str(spec)]
    log = spec.with_suffix(".log")
    environment = environment_with(
        EKIBEN_WATCH_STDIN="1",
        TOKENIZERS_PARALLELISM="false",
        # Threads that wait give the core away; spinning, two runs on one machine starve each other.
        OMP_WAIT_POLICY=os.environ.get("OMP_WAIT_POLICY", "passive"),
        PYTHONSAFEPATH="1",  # a folder named tasks where the user stands is not ours
    )
    with child(line, log, environment, piped=True) as process:
        for text in process.stdout or ():
            event = _event(text)
            if event is not None:
                on_event(event)
        code = process.wait()
    if code != 0:
        raise TrainingError(f"the {command} worker ended with code {code}: {tail(log)}")
    log.unlink()


def _event(text: str) -> dict[str, Any] | None:
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def environment_with(**variables: str) -> dict[str, str]:
    """Return this process's environment with telemetry off and the given variables set."""
    return {**os.environ, **SILENCE, **variables}


def tail(log: Path, lines: int = 3) -> str:
    """Return the last lines of a log that are not blank, on one line."""
    text = log.read_text(encoding="utf-8", errors="replace")
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(kept[-lines:]) or "it printed nothing"
