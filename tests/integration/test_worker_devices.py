"""Devices: what is chosen on a CPU, and what is refused in one line."""

import pytest
import torch

from tasks.worker.devices import choose_device

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run outside of torchrun."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("asked", "given"), [("auto", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")])
def test_a_cpu_trains_in_fp32_unless_asked_for_bf16(asked: str, given: str) -> None:
    device = choose_device("cpu", asked)
    assert (device.torch, device.precision) == (torch.device("cpu"), given)
    assert (device.rank, device.world, device.leads) == (0, 1, True)


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(
        SystemExit, match=r"training\.precision is fp16, which a CPU cannot train in"
    ):
        choose_device("cpu", "fp16")


@without_cuda
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(
        SystemExit, match=r"training\.device is cuda, but torch sees no CUDA device"
    ):
        choose_device("cuda", "auto")


@without_cuda
def test_auto_takes_the_cpu_where_there_is_no_cuda() -> None:
    assert choose_device("auto", "auto").torch == torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_matrix_products_are_computed_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    square = torch.ones(2, 2)
    with choose_device("cpu", precision).autocast():
        assert (square @ square).dtype == dtype
    assert (square @ square).dtype == torch.float32
