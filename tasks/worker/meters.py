"""What a training run takes: time, tokens, memory, processor time."""

import resource
import sys
import time
from typing import Any

import torch

from tasks.worker.devices import Device

_MIB = 2**20


class Meter:
    """Measures this process from its making on; `tokens` are counted over all processes."""

    def __init__(self, device: Device, tokens: int) -> None:
        self.device = device
        self.started, self.cpu_started = time.perf_counter(), time.process_time()
        self.marked, self.tokens = self.started, tokens

    def read(self, tokens: int) -> dict[str, Any]:
        """Return the speed since the last reading, in tokens a second, and the memory in MiB."""
        now = time.perf_counter()
        speed = (tokens - self.tokens) / (now - self.marked)
        self.marked, self.tokens = now, tokens
        return {"tokens_per_second": speed, "memory_mb": memory_mb(self.device)}

    @property
    def seconds(self) -> float:
        """Return the seconds since the meter was made."""
        return time.perf_counter() - self.started

    @property
    def cores(self) -> float:
        """Return how many cores this process kept busy on average."""
        return (time.process_time() - self.cpu_started) / self.seconds


def memory_mb(device: Device) -> float:
    """Return the most memory taken so far, in MiB: of the CUDA device, else of this process."""
    if device.torch.type == "cuda":
        return torch.cuda.max_memory_reserved(device.torch) / _MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024
