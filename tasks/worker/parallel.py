"""Several processes that train one model: each with all of its weights, or each with a share."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from tasks.worker.devices import Device
from tasks.worker.families import Forward
from tasks.worker.loading import layers_of


class Classifier(torch.nn.Module):
    """A model and the forward pass that computes its logits, as one module."""

    def __init__(self, model: Any, forward: Forward) -> None:
        super().__init__()
        self.model = model
        self.compute = forward

    def forward(self, batch: Any) -> torch.Tensor:
        """Return the logits [n_rows, n_labels] of a batch."""
        return self.compute(self.model, batch)


def shard(model: Any, device: Device) -> None:
    """Leave each process a share of every weight; a layer's are together only while it computes."""
    mesh = init_device_mesh(device.torch.type, (device.world,))
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh)
    # What is no layer's would stay together after a pass without gradients, a copy that is not trained.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def replicate(classifier: Classifier, device: Device) -> torch.nn.Module:
    """Return the classifier so that the processes' gradients are averaged at each update."""
    if device.world == 1 or isinstance(classifier.model, FSDPModule):
        return classifier
    devices = [device.torch.index] if device.torch.type == "cuda" else None
    return DistributedDataParallel(
        classifier,
        device_ids=devices,
        find_unused_parameters=True,
        forward_sync_buffers=False,  # all processes have the same, and none is trained
        gradient_as_bucket_view=True,
    )


@contextmanager
def averaging(parallel: torch.nn.Module, wanted: bool) -> Iterator[None]:
    """Average the gradients of the backward passes inside, or leave them for a later one that does."""
    if isinstance(parallel, Classifier) and isinstance(parallel.model, FSDPModule):
        parallel.model.set_requires_gradient_sync(wanted)
    context: AbstractContextManager[None] = nullcontext()
    if isinstance(parallel, DistributedDataParallel) and not wanted:
        context = parallel.no_sync()
    with context:
        yield


def whole(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whole; every process that has a share of them must ask."""
    return {
        name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        for name, tensor in tensors.items()
    }


def as_shared(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Return a whole tensor as the parameter is: on its device, and this process's share of it."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor) and tensor.ndim:
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def over_all(share: torch.Tensor, device: Device) -> torch.Tensor:
    """Return the sum of what each process has, the same to the last bit in all of them."""
    summed = share.clone()
    if device.world > 1:
        dist.all_reduce(summed)
    return summed


@contextmanager
def noticing_loss() -> Iterator[None]:
    """End in one line where another process of the run is gone.

    Raises:
        SystemExit: in place of what gloo or NCCL says of it.
    """
    try:
        yield
    except RuntimeError as error:  # gloo has no error of its own
        if isinstance(error, dist.DistError) or "/gloo/" in str(error):
            raise SystemExit(
                "another process of this run ended or no longer answers: "
                + str(error).splitlines()[0].partition(". ")[0]
            ) from None
        raise


def meet(device: Device) -> None:
    """Wait until every process has come this far."""
    if device.world > 1:
        dist.barrier()


def leave() -> None:
    """Leave the process group that torchrun's processes share, if there is one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.destroy_process_group()
