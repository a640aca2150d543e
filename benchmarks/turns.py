"""Contenders train by turns: what each is to do, and what each of its turns took."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from tasks.worker.batches import Batch
from tasks.worker.devices import Device
from tasks.worker.loading import layers_of
from tasks.worker.meters import memory_mb

Judge = Callable[[], dict[str, float]]
"""Returns the validation figures of the model as it is."""


@dataclass(frozen=True)
class Job:
    """What one contender does: `updates` of the spec's schedule, in turns of `turn` each.

    The model is judged on the validation rows after each `judged_every` updates and the last one.
    """

    contender: str
    spec: dict[str, Any]
    updates: int
    turn: int
    judged_every: int

    def dumps(self) -> str:
        """Return the job as the one argument of this module."""
        return json.dumps(asdict(self))


class Ended(Exception):  # noqa: N818 (it ends training, and is no error)
    """All updates of the job are done."""


class Turns:
    """Waits for each turn, and tells what it took and how good the model is after it."""

    def __init__(self, job: Job, device: Device, channel: TextIO) -> None:
        self.job, self.device, self.channel = job, device, channel
        self.updates = 0
        self.lengths: list[torch.Tensor] = []
        self.cells = 0
        self.judge: Judge = dict

    def start(self, model: Any, judge: Judge, forward: str) -> None:
        """Say what is to be trained, and wait for the first turn."""
        self.judge = judge
        layers = layers_of(model)
        self._tell(
            forward=forward,
            threads=torch.get_num_threads(),
            precision=self.device.precision,
            device=self.device.name,
            layers=len(layers),
            layer_parameters=sum(p.numel() for p in layers.parameters()),
            trained_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
            hidden_size=model.config.hidden_size,
            causal=model.config.model_type == "llama",
        )
        self._begin()

    def count_grid(self, module: Any, _: Any, inputs: dict[str, Any]) -> None:
        """Count the tokens that a model of transformers is called with."""
        if module.training:
            self.lengths.append(inputs["attention_mask"].sum(1))
            self.cells += inputs["attention_mask"].numel()

    def count_batch(self, module: Any, inputs: tuple[Batch, ...]) -> None:
        """Count the tokens that the worker's classifier is called with."""
        if module.training:
            self.lengths.append(inputs[0].ends.diff())
            self.cells += len(inputs[0].ids)

    def after_update(self, *_: object) -> None:
        """Note that an update is done; end the turn if it was the turn's last."""
        self.updates += 1
        ended = self.updates == self.job.updates
        if not ended and self.updates % self.job.turn:
            return
        self._end_turn(judged=ended or self.updates % self.job.judged_every == 0)
        if ended:
            raise Ended
        self._begin()

    def _begin(self) -> None:
        if not sys.stdin.readline():
            raise SystemExit("the benchmark that started this process is gone")
        self.lengths, self.cells = [], 0
        forget_peak(self.device)
        self.started, self.cpu_started = time.perf_counter(), time.process_time()

    def _end_turn(self, *, judged: bool) -> None:
        if self.device.torch.type == "cuda":
            torch.cuda.synchronize(self.device.torch)
        took = {
            "seconds": time.perf_counter() - self.started,
            "cpu_seconds": time.process_time() - self.cpu_started,
            "memory_mb": peak_mb(self.device),
        }
        lengths = torch.cat(self.lengths).cpu().numpy().astype(np.float64)
        counts = {
            "updates": self.updates,
            "rows": len(lengths),
            "tokens": int(lengths.sum()),
            "squared_lengths": float((lengths**2).sum()),
            "computed_tokens": self.cells,
        }
        self._tell(**took, **counts, figures=self.judge() if judged else None)

    def _tell(self, **event: object) -> None:
        print(json.dumps(event), file=self.channel, flush=True)


def forget_peak(device: Device) -> None:
    """Let the peak of memory begin anew, so that what loading and judging took does not count."""
    if device.torch.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device.torch)
    else:
        with suppress(OSError):  # proc_pid_clear_refs(5): 5 resets the peak resident set size
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mb(device: Device) -> float:
    """Return the peak in MiB: allocated on the CUDA device, else this process's VmHWM."""
    if device.torch.type == "cuda":
        return torch.cuda.max_memory_allocated(device.torch) / 2**20
    status = Path("/proc/self/status")
    if not status.exists():
        return memory_mb(device)
    lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
