"""Which process computes on a device of this machine; one at a time, and the others wait."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.scratch import place_of_user
from tasks.steps import write_json

log = logging.getLogger("ekiben")
_SECONDS_BETWEEN_LOOKS = 0.5


@contextmanager
def held(devices: list[str], pipeline: str) -> Iterator[None]:
    """Hold the devices against this user's other runs, whatever their EKIBEN_HOME.

    Waits, and says for whom, while another has one. The kernel frees the locks with the process.
    They are taken in one order, and inside a step's lock, never the other way: no two runs wait for
    each other.

    Raises:
        ConfigError: if the place of the locks is another user's.
    """
    place = place_of_user() / "devices"
    place.mkdir(exist_ok=True)
    with ExitStack() as locks:
        for device in sorted(devices):
            locks.enter_context(_lock(place / f"{device}.lock", device, pipeline))
        yield


@contextmanager
def _lock(file: Path, device: str, pipeline: str) -> Iterator[None]:
    lock, holder = FileLock(file), file.with_suffix(".json")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: in use by %s; waiting for it", device, _told(holder))
        lock.acquire(poll_interval=_SECONDS_BETWEEN_LOOKS)
        log.info("%s: free now, going on", device)
    try:
        write_json(holder, {"pid": os.getpid(), "pipeline": pipeline})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    """Return who holds a device, who may be about to write it down or to let go."""
    try:
        found = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {found['pid']} ({found['pipeline']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def cuda_devices(device: str) -> list[str]:
    """Return the names of the CUDA devices that `auto`, `cpu` or `cuda` takes; none on the CPU.

    A name is the device's own, since CUDA_VISIBLE_DEVICES may number it otherwise for another.
    """
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return []
    numbers = range(torch.cuda.device_count())
    return [f"cuda-{torch.cuda.get_device_properties(number).uuid}" for number in numbers]


def training_devices(device: str) -> list[str]:
    """Return the names of the devices to train on: every CUDA device that is visible, or the CPU.

    Two trainings on one CPU take twice the memory and neither is sooner done; scoring is short.
    """
    return cuda_devices(device) or ["cpu"]
