"""Checkpoints that are whole or absent: written aside, then renamed; safetensors and JSON only."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model


@dataclass
class TrainingState:
    """Where training stands at the end of an epoch."""

    epoch: int = 0
    step: int = 0
    best_value: float | None = None
    best_epoch: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    rows: int = 0


def save_checkpoint(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState
) -> None:
    """Write `checkpoint-STEP/` under the folder and drop the one before.

    It holds the weights now, the best weights so far, the optimizer's moments, the random state
    and the training state.
    """
    target = folder / f"checkpoint-{state.step}"
    partial = folder / f".checkpoint-{state.step}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_model(model, str(partial / "model.safetensors"))
    if state.best_epoch == state.epoch:
        os.link(partial / "model.safetensors", partial / "best.safetensors")
    else:
        os.link(_newest(folder) / "best.safetensors", partial / "best.safetensors")
    save_file(_moments(optimizer) | _random_state(), str(partial / "optimizer.safetensors"))
    (partial / "state.json").write_text(json.dumps(asdict(state)), encoding="utf-8")
    _flush(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    for other in folder.glob("checkpoint-*"):
        if other != target:
            shutil.rmtree(other)


def restore_checkpoint(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Bring model, optimizer and random state back to the newest checkpoint; new if there is none."""
    if not any(folder.glob("checkpoint-*")):
        return TrainingState()
    newest = _newest(folder)
    load_model(model, str(newest / "model.safetensors"))
    tensors = load_file(str(newest / "optimizer.safetensors"))
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(parameters):
        names = [name for name in tensors if name.startswith(f"{number}.")]
        optimizer.state[parameter] = {
            name.partition(".")[2]: tensors[name].to(
                "cpu" if tensors[name].ndim == 0 and not _fused(optimizer) else parameter.device
            )
            for name in names
        }
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return TrainingState(**json.loads((newest / "state.json").read_text(encoding="utf-8")))


def load_best(folder: Path, model: torch.nn.Module) -> None:
    """Load the weights of the best epoch into the model."""
    load_model(model, str(_newest(folder) / "best.safetensors"))


def drop_checkpoints(folder: Path) -> None:
    """Remove every checkpoint, whole or partial; one that is half removed is not read again."""
    for path in folder.glob("checkpoint-*"):
        path.rename(folder / f".{path.name}.partial")
    for path in folder.glob(".checkpoint-*"):
        shutil.rmtree(path)


def _newest(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def _fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.defaults.get("fused"))


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{number}.{name}": tensor
        for number, parameter in enumerate(parameters)
        for name, tensor in optimizer.state[parameter].items()
    }


def _random_state() -> dict[str, torch.Tensor]:
    state = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["random.cuda"] = torch.cuda.get_rng_state()
    return state


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
