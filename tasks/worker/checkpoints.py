"""Checkpoints that are whole or absent: written aside, then renamed; safetensors and JSON only.

They hold what is trained: frozen weights are the base model's. The random state is drawn anew from
seed, update and rank, so that a run can go on from any update, with another number of processes.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tasks.worker.parallel import as_shared, whole


@dataclass
class TrainingState:
    """Where training stands: epochs and updates done, and the sum of losses of the epoch begun."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    best_value: float | None = None
    best_epoch: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0
    cores: float = 0.0

    @property
    def is_at_best(self) -> bool:
        """Return whether the weights are those of the best epoch, judged and not trained on."""
        return self.best_epoch == self.epoch > 0 and self.epochs[-1]["step"] == self.step


def save_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    *,
    leads: bool = True,
) -> None:
    """Write `checkpoint-STEP/` under the folder and drop the one before.

    It holds the trained weights now, those of the best epoch if one is over, the optimizer's moments
    and the training state. Of several processes all must call it, and the one that `leads` writes.
    """
    weights, moments = whole(_trained(model)), whole(_moments(optimizer))
    if not leads:
        return
    target = folder / f"checkpoint-{state.step}"
    partial = folder / f".checkpoint-{state.step}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    _write(weights, partial / "model.safetensors")
    best = partial if state.is_at_best else _newest(folder) if state.best_epoch else None
    if best is not None:
        name = "model.safetensors" if best == partial else "best.safetensors"
        os.link(best / name, partial / "best.safetensors")
    _write(moments, partial / "optimizer.safetensors")
    (partial / "state.json").write_text(json.dumps(asdict(state)), encoding="utf-8")
    flush(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    _sync(folder)  # before the one that it replaces goes
    for other in folder.glob("checkpoint-*"):
        if other != target:
            shutil.rmtree(other)


def restore_checkpoint(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Bring model and optimizer back to the newest checkpoint; a new state if there is none.

    Raises:
        SystemExit: if the checkpoint is not as it was written; in one line.
    """
    if not any(folder.glob("checkpoint-*")):
        return TrainingState()
    newest = _newest(folder)
    try:
        return _restore(newest, model, optimizer)
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise SystemExit(
            f"{newest}: is not as it was written ({type(error).__name__}); remove it, and training "
            "begins anew"
        ) from None


def _restore(
    newest: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingState:
    _load(newest / "model.safetensors", model)
    tensors = load_file(str(newest / "optimizer.safetensors"))
    for number, parameter in enumerate(_parameters(optimizer)):
        found = {
            name.partition(".")[2]: tensor
            for name, tensor in tensors.items()
            if name.partition(".")[0] == str(number)
        }
        if found:
            optimizer.state[parameter] = {
                name.removeprefix(_PLAIN): int(tensor)
                if name.startswith(_PLAIN)
                else as_shared(tensor, parameter)
                for name, tensor in found.items()
            }
    return TrainingState(**json.loads((newest / "state.json").read_text(encoding="utf-8")))


def load_best(folder: Path, model: torch.nn.Module) -> None:
    """Load the trained weights of the best epoch into the model."""
    _load(_newest(folder) / "best.safetensors", model)


def drop_checkpoints(folder: Path) -> None:
    """Remove every checkpoint, whole or partial; one that is half removed is not read again."""
    for path in folder.glob("checkpoint-*"):
        path.rename(folder / f".{path.name}.partial")
    for path in folder.glob(".checkpoint-*"):
        shutil.rmtree(path)


_PLAIN = "plain-"
"""Marks what is a plain number in the optimizer, not a tensor: bitsandbytes counts updates so."""


def _newest(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def _trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def _load(file: Path, model: torch.nn.Module) -> None:
    parameters = _trained(model)
    for name, tensor in load_file(str(file)).items():
        parameters[name].copy_(as_shared(tensor, parameters[name]))


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    moments: dict[str, torch.Tensor] = {}
    for number, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state[parameter].items():
            if isinstance(value, torch.Tensor):  # bitsandbytes' tables are shared: each has a copy
                moments[f"{number}.{name}"] = value.clone() if name.startswith("qmap") else value
            else:
                moments[f"{number}.{_PLAIN}{name}"] = torch.tensor(value)
    return moments


def _write(tensors: dict[str, torch.Tensor], file: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(file))


def flush(folder: Path) -> None:
    """Make a folder's files survive a power cut."""
    for path in folder.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    _sync(folder)


def _sync(folder: Path) -> None:
    """Make what was renamed inside the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
