"""Which device and number format this process computes with, alone or among torchrun's others."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Device:
    """A torch device, the format of matrix products, and this process's rank among `world`."""

    torch: torch.device
    precision: str
    rank: int
    world: int

    @property
    def leads(self) -> bool:
        """Return whether this process is the one that writes and reports."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which matrix products run in this device's format."""
        formats = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return torch.autocast(
            self.torch.type,
            dtype=formats.get(self.precision, torch.bfloat16),
            enabled=self.precision in formats,
        )


def choose_device(device: str, precision: str) -> Device:
    """Return the device for `auto`, `cpu` or `cuda`, joining torchrun's process group if in one.

    Raises:
        SystemExit: if CUDA, or a format the device lacks, is demanded; in one line.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise SystemExit("training.device is cuda, but torch sees no CUDA device; use auto or cpu")
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if device == "cpu" or not has_cuda:
        chosen = torch.device("cpu")
    else:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if world > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Device(chosen, _precision(precision, chosen), rank, world)


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        if device.type == "cpu":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if wanted == "fp16" and device.type == "cpu":
        raise SystemExit(
            "training.precision is fp16, which a CPU cannot train in; use auto or fp32"
        )
    return wanted
