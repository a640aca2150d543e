"""Child processes that never outlive the step that started them."""

import errno
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from configs.errors import MachineError, TrainingError
from tasks.faults import refusal, refused
from tasks.quiet import SILENCE

log = logging.getLogger("ekiben")
_SECONDS_TO_END = 10.0
_SECONDS_BETWEEN_LOOKS = 0.05
_NO_MEMORY = re.compile(
    r"MemoryError|bad_alloc|(not enough|can't allocate|[Cc]annot allocate|out of) memory"
    r"|could not create a primitive"
)
"""What Python, C++, torch, CUDA, the C library and oneDNN say of memory that is not to be had."""


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
    family = {*_family(process.pid)}
    for stop in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, stop)
            end = time.monotonic() + _SECONDS_TO_END
            while process.poll() is None and time.monotonic() < end:
                # While it ends BentoML may still start a worker again.
                family |= {*_family(process.pid)}
                time.sleep(_SECONDS_BETWEEN_LOOKS)
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


@dataclass(frozen=True)
class Processes:
    """How many processes a machine runs, on how many machines, the first of which is `master`."""

    each: int = 1
    machines: int = 1
    master: str = ""
    port: int = 0

    def launcher(self, machine: int = 0) -> list[str]:
        """Return what starts the given machine's processes, less the Python before it."""
        if self.each * self.machines == 1:
            return []
        torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={self.each}"]
        if self.machines == 1:
            return [*torchrun, "--standalone", "--local-addr=127.0.0.1"]
        where = [f"--master-addr={self.master}", f"--master-port={self.port}"]
        return [*torchrun, f"--nnodes={self.machines}", f"--node-rank={machine}", *where]

    def environment(self) -> dict[str, str]:
        """Return the variables that every machine's processes need."""
        return {
            # Threads that wait give the core away; spinning, two runs on one machine starve each other.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
            # torchrun would give a process one thread; torch alone would not see a container's limit.
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(_threads(self.each)),
            "PYTHONSAFEPATH": "1",  # a folder named tasks where the user stands is not ours
            "TORCH_CPP_LOG_LEVEL": "ERROR",  # DDP warns that every parameter is used
        }


ALONE = Processes()


def run_worker(
    command: str,
    spec: Path,
    on_event: Callable[[dict[str, Any]], None],
    processes: Processes = ALONE,
) -> None:
    """Run `python -m tasks.worker COMMAND SPEC`, under torchrun where there are several processes.

    `on_event` gets each JSON line that the worker prints.

    Raises:
        TrainingError: if the worker ends in any other way than well, with the end of its log.
        MachineError: if it does since the disk is full, fails or may not be written.
    """
    work = ["-m", "tasks.worker", command, str(spec)]
    for machine in range(1, processes.machines):
        needed = [f"{name}={value}" for name, value in processes.environment().items()]
        there = shlex.join(["env", *needed, "python", *processes.launcher(machine), *work])
        log.info("%s: waiting for machine %d; run there: %s", command, machine, there)
    line = [sys.executable, *processes.launcher(), *work]
    printed = spec.with_suffix(".log")
    environment = environment_with(
        EKIBEN_WATCH_STDIN="1",
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_OFFLINE="1",  # all that it reads lies here
        USE_HUB_KERNELS="0",  # and no code that a hub has
        HF_HUB_DISABLE_PROGRESS_BARS="1",  # the log's last lines are an error's words
        **processes.environment(),
    )
    with child(line, printed, environment, piped=True) as process:
        for text in process.stdout or ():
            event = _event(text)
            if event is not None:
                on_event(event)
        code = process.wait()
    if code != 0:
        said = _last_words(printed)
        fault = RuntimeError(said)
        if refused(fault) not in (None, errno.ENOMEM):
            raise MachineError(f"the {command} worker: {refusal(fault, spec.parent)}")
        raise TrainingError(f"the {command} worker {_ended(code, said)}: {said}")
    printed.unlink()


def _ended(code: int, said: str) -> str:
    """Return how a worker ended; the kernel kills by SIGKILL what takes the last of the memory."""
    cure = "(lower `training.max_tokens_per_device`, or end what else runs)"
    if code == -signal.SIGKILL:
        return f"was killed by SIGKILL, most likely since memory ran out {cure}"
    if _NO_MEMORY.search(said):
        return f"ran out of memory {cure}"
    return f"ended with code {code}"


def _last_words(log: Path) -> str:
    """Return why a worker ended: its last lines, or which of torchrun's processes was killed.

    torchrun ends those that are left by SIGTERM, and its report follows what they had to say.
    """
    text = log.read_text(encoding="utf-8", errors="replace")
    for rank, code in re.findall(r"rank +: (\d+) .*\n +exitcode +: (-\d+) ", text):
        if int(code) != -signal.SIGTERM:
            return f"process {rank} was killed by {signal.Signals(-int(code)).name}"
    said = re.split(r"^.*torch/distributed/elastic/", text, maxsplit=1, flags=re.MULTILINE)[0]
    return last_lines("\n".join(dict.fromkeys(said.splitlines())))


def _threads(processes: int) -> int:
    """Return the threads of each of so many processes: the cores that this one may use, shared out."""
    import joblib

    return max(1, int(joblib.cpu_count(only_physical_cores=True)) // processes)


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
    return last_lines(log.read_text(encoding="utf-8", errors="replace"), lines)


def last_lines(text: str, lines: int = 3) -> str:
    """Return the last lines of a text that are not blank, on one line."""
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(kept[-lines:]) or "it printed nothing"
