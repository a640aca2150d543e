"""Which device and number format this process computes with, alone or among torchrun's others."""

import fcntl
import os
import socket
import struct
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

_SILENCE = timedelta(minutes=10)
"""How long processes wait for one that no longer answers; one that ends is noticed at once."""
_SIOCGIFADDR = 0x8915
"""Linux's request for the IPv4 address of a network interface (`man 7 netdevice`)."""


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

    @property
    def name(self) -> str:
        """Return the device as a report names it, with the number of processes if several."""
        cuda = self.torch.type == "cuda"
        one = torch.cuda.get_device_name(self.torch) if cuda else "cpu"
        return one if self.world == 1 else f"{self.world} x {one}"

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
        chosen = _own_cuda_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    found = _precision(precision, chosen)
    torch.set_float32_matmul_precision("high" if found == "tf32" else "highest")
    if world > 1:
        _join(chosen)
    return Device(chosen, found, rank, world)


def _own_cuda_device(number: int) -> torch.device:
    """Return this process's CUDA device, which it shares with none."""
    if number >= torch.cuda.device_count():
        raise SystemExit(
            f"launch.nproc_per_node is {os.environ.get('LOCAL_WORLD_SIZE')}, but torch sees "
            f"{torch.cuda.device_count()} CUDA device(s) on this machine; use no more processes"
        )
    return torch.device("cuda", number)


def _join(device: torch.device) -> None:
    """Join the process group of torchrun's processes."""
    if device.type == "cuda":
        dist.init_process_group("nccl", timeout=_SILENCE, device_id=device)
        return
    interface = _interface_to(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    dist.init_process_group("gloo", timeout=_SILENCE)


def _interface_to(master: str, port: int) -> str | None:
    """Return the network interface by which this machine reaches the first one, if that can be told.

    Left to itself, gloo takes the address of the machine's own name, which on Debian is 127.0.1.1.
    """
    if sys.platform != "linux":
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((master, port))  # sends nothing
        except OSError:
            return None
        own = socket.inet_aton(probe.getsockname()[0])
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:
                continue  # it has no IPv4 address
            if answer[20:24] == own:
                return name
    return None


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        if device.type == "cpu":
            return "fp32"  # bf16 took twice the time on a CPU with AVX-512 BF16 and without AMX
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if wanted in ("fp16", "tf32") and device.type == "cpu":
        raise SystemExit(
            f"training.precision is {wanted}, which a CPU cannot train in; use auto or fp32"
        )
    return wanted
