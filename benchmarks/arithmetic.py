"""The least that an update of fine-tuning can take: its FLOPs and bytes, at rates that are measured."""

import time
from collections.abc import Callable
from typing import Any

import torch

from tasks.worker.devices import Device

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
BYTES_A_PARAMETER = 28
"""AdamW in float32 reads weight, gradient and two moments, and writes all but the gradient."""


def measured_rates(device: Device, *, quick: bool) -> dict[str, float]:
    """Return the rates of the device that bound how fast training can be."""
    large = device.torch.type == "cuda" and not quick
    return {
        "matrix_flops_per_second": matrix_rate(device, 512 if quick else 8192 if large else 2048),
        "copy_bytes_per_second": copy_rate(device, 2**31 if large else 2**28),
    }


def matrix_rate(device: Device, size: int) -> float:
    """Return the most FLOP a second of square matrix products in the training's number format."""
    dtype = FORMATS.get(device.precision, torch.float32)
    left, right = (torch.randn(size, size, device=device.torch).to(dtype) for _ in range(2))
    return 2 * size**3 / _best(lambda: left @ right, device)


def copy_rate(device: Device, n_bytes: int) -> float:
    """Return the most bytes a second, read and written, of copying memory."""
    source = torch.zeros(n_bytes // 4, device=device.torch)
    target = torch.empty_like(source)
    return 2 * n_bytes / _best(lambda: target.copy_(source), device)


def _best(work: Callable[[], object], device: Device, tries: int = 20) -> float:
    """Return the fewest seconds of some tries."""
    seconds = []
    for _ in range(tries):
        started = time.perf_counter()
        work()
        if device.torch.type == "cuda":
            torch.cuda.synchronize(device.torch)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def whole_flops(model: dict[str, Any], took: dict[str, float], *, frozen: bool = False) -> float:
    """Return the FLOPs of training on the real tokens, as model FLOP utilisation counts them.

    6 a token and parameter of the layers (2 forward, 4 backward; 4 in all where the weights are
    frozen, as beside an adapter), and 12 * layers * hidden_size * length a token for attention
    (half of it where it is causal); see appendix B of PaLM, arXiv:2204.02311. `model` is what a
    contender tells at its start, `took` the sums over its turns.
    """
    dense = (4 if frozen else 6) * model["layer_parameters"] * took["tokens"]
    attention = 12 * model["layers"] * model["hidden_size"] * took["squared_lengths"]
    return float(dense + (attention / 2 if model["causal"] else attention))


def least_flops(model: dict[str, Any], took: dict[str, float], *, frozen: bool = False) -> float:
    """Return the FLOPs that the loss needs.

    An encoder's head reads the first token alone, so that the last layer is computed for that one,
    but for keys and values.
    """
    whole = whole_flops(model, took, frozen=frozen)
    if model["causal"]:
        return whole
    hidden = model["hidden_size"]
    others = took["tokens"] - took["rows"]
    spared = model["layer_parameters"] / model["layers"] - 2 * hidden**2
    attention = 12 * hidden * (took["squared_lengths"] - took["tokens"])
    return float(whole - 6 * spared * others - attention)


def arithmetic(
    model: dict[str, Any],
    took: dict[str, float],
    trained: int,
    rates: dict[str, float],
    *,
    frozen: bool = False,
) -> dict[str, float]:
    """Return FLOPs, bytes, the floor in seconds, how far above it the turns were, and utilisation.

    `trained` is the number of parameters that an optimizer must move.
    """
    whole, least = (count(model, took, frozen=frozen) for count in (whole_flops, least_flops))
    moved = BYTES_A_PARAMETER * trained * took["updates"]
    floor = least / rates["matrix_flops_per_second"] + moved / rates["copy_bytes_per_second"]
    return {
        "flops_per_token": whole / took["tokens"],
        "least_flops_per_token": least / took["tokens"],
        "optimizer_bytes_per_update": moved / took["updates"],
        "floor_seconds": floor,
        "times_the_floor": took["seconds"] / floor,
        "model_flop_utilisation": whole / took["seconds"] / rates["matrix_flops_per_second"],
        "least_flop_utilisation": least / took["seconds"] / rates["matrix_flops_per_second"],
    }
