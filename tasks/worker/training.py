"""Fine-tune a sequence classifier in a plain torch loop.

A plain loop rather than transformers' Trainer: it needs no further library on a GPU worker, starts
in a third of the import time, and batches rows of similar length, which the Trainer pads.
"""

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.worker.batches import EncodedRows, shuffled_batches
from tasks.worker.checkpoints import (
    TrainingState,
    drop_checkpoints,
    load_best,
    restore_checkpoint,
    save_checkpoint,
)
from tasks.worker.devices import Device, choose_device
from tasks.worker.figures import validation_figures
from tasks.worker.loading import load_model
from tasks.worker.optimizing import class_weights, learning_rate_at, parameter_groups
from tasks.worker.scoring import logits_of
from tasks.worker.spec import TrainSpec

_CURVE_POINTS = 100


@dataclass
class Trainer:
    """All that one training run holds."""

    spec: TrainSpec
    device: Device
    model: Any
    parallel: Any
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    loss: torch.nn.CrossEntropyLoss
    class_weights: NDArray[np.float64]
    rows: EncodedRows
    held_out: EncodedRows
    state: TrainingState

    @property
    def updates_an_epoch(self) -> int:
        """Return the optimizer updates of one epoch."""
        batch = self.spec.per_device_train_batch_size
        return -(-len(self.rows) // (batch * self.updates_share))

    @property
    def updates_share(self) -> int:
        """Return the batches, over all processes, behind one update."""
        return self.device.world * self.spec.gradient_accumulation_steps

    @property
    def updates(self) -> int:
        """Return the updates of the whole run, if it is not stopped early."""
        return self.updates_an_epoch * self.spec.num_train_epochs

    @property
    def has_waited_enough(self) -> bool:
        """Return whether so many epochs brought nothing better that training stops."""
        return self.state.epoch - self.state.best_epoch >= self.spec.early_stopping_patience


def train(spec: TrainSpec) -> None:
    """Train to the end or to an early stop, then write `model/` and `result.json`."""
    device = choose_device(spec.device, spec.precision)
    torch.manual_seed(spec.seed)
    trainer = _prepare(spec, device)
    while trainer.state.epoch < spec.num_train_epochs and not trainer.has_waited_enough:
        _train_one_epoch(trainer)
        _judge_epoch(trainer)
        if device.leads:
            save_checkpoint(Path(spec.output), trainer.model, trainer.optimizer, trainer.state)
    if device.leads:
        _write_result(trainer)
    if device.world > 1:
        torch.distributed.destroy_process_group()


def _prepare(spec: TrainSpec, device: Device) -> Trainer:
    """Load model, optimizer and rows, and go back to the newest checkpoint if there is one."""
    model = load_model(spec).to(device.torch)
    rows = EncodedRows(Path(spec.train))
    weights = class_weights(spec, rows)
    optimizer = torch.optim.AdamW(parameter_groups(model, spec.weight_decay), lr=0.0, fused=True)
    state = restore_checkpoint(Path(spec.output), model, optimizer)
    parallel = model
    if device.world > 1:
        devices = [device.torch.index] if device.torch.type == "cuda" else None
        parallel = torch.nn.parallel.DistributedDataParallel(
            model, device_ids=devices, find_unused_parameters=True
        )
    return Trainer(
        spec,
        device,
        model,
        parallel,
        optimizer,
        torch.amp.GradScaler(device.torch.type, enabled=device.precision == "fp16"),
        torch.nn.CrossEntropyLoss(
            weight=torch.tensor(weights, dtype=torch.float32, device=device.torch), reduction="sum"
        ),
        weights,
        rows,
        EncodedRows(Path(spec.validation)),
        state,
    )


def _train_one_epoch(trainer: Trainer) -> None:
    spec, state, device = trainer.spec, trainer.state, trainer.device
    trainer.model.train()
    started, before = time.perf_counter(), state.seconds
    batches = iter(
        shuffled_batches(
            trainer.rows.lengths,
            spec.per_device_train_batch_size,
            spec.seed + state.epoch,
            device.world,
        )
    )
    losses: list[float] = []
    every = max(1, trainer.updates // _CURVE_POINTS)
    while group := list(islice(batches, trainer.updates_share)):
        rate = learning_rate_at(state.step, trainer.updates, spec)
        losses.append(_update(trainer, group, rate))
        state.step += 1
        state.rows += sum(map(len, group))
        state.seconds = before + time.perf_counter() - started
        if state.step % every == 0 and device.leads:
            state.curve.append(
                {"step": state.step, "loss": float(np.mean(losses[-every:])), "learning_rate": rate}
            )
            _print_step(trainer)
    state.epoch += 1
    state.epochs.append(
        {"epoch": state.epoch, "step": state.step, "train_loss": float(np.mean(losses))}
    )


def _update(trainer: Trainer, group: list[NDArray[np.int64]], rate: float) -> float:
    """Do one optimizer update over the batches of the group, shared out among the processes.

    Returns the mean loss over the group's rows, weighted by class. However the rows are cut into
    batches, the update is that of one batch holding them all.
    """
    device = trainer.device
    weight = float(trainer.class_weights[trainer.rows.labels[np.concatenate(group)]].sum())
    own = group[device.rank :: device.world]
    trainer.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=device.torch)
    for number, batch in enumerate(own, start=1):
        ids, mask, labels = (
            tensor.to(device.torch, non_blocking=True)
            for tensor in trainer.rows.padded(batch, trainer.spec.pad_token_id)
        )
        in_step = device.world == 1 or number == len(own)
        with nullcontext() if in_step else trainer.parallel.no_sync():
            with device.autocast():
                logits = trainer.parallel(input_ids=ids, attention_mask=mask).logits
            loss = trainer.loss(logits.float(), labels) / weight
            # The processes' gradients are averaged, so that each must count as all of them.
            trainer.scaler.scale(loss * device.world).backward()
        total += loss.detach()
    trainer.scaler.unscale_(trainer.optimizer)
    torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), trainer.spec.max_grad_norm)
    for parameters in trainer.optimizer.param_groups:
        parameters["lr"] = rate
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    if device.world > 1:
        torch.distributed.all_reduce(total)
    return total.item()


def _judge_epoch(trainer: Trainer) -> None:
    """Add the validation figures to the epoch's entry, and note whether it is the best so far."""
    spec, state = trainer.spec, trainer.state
    logits = logits_of(trainer.model, trainer.held_out, spec.pad_token_id, trainer.device)
    figures = validation_figures(logits, trainer.held_out.labels)
    state.epochs[-1].update(figures)
    sign = -1.0 if spec.metric_for_best_model == "loss" else 1.0
    value = sign * figures[spec.metric_for_best_model]
    if state.best_value is None or value > state.best_value:
        state.best_value, state.best_epoch = value, state.epoch
    if trainer.device.leads:
        print(json.dumps({"event": "epoch", **state.epochs[-1]}), flush=True)


def _print_step(trainer: Trainer) -> None:
    state = trainer.state
    left = trainer.updates - state.step
    event = {
        "event": "step",
        "done": state.step,
        "total": trainer.updates,
        "loss": state.curve[-1]["loss"],
        "rows_per_second": state.rows / state.seconds,
        "eta_seconds": left * state.seconds / state.step,
    }
    print(json.dumps(event), flush=True)


def _write_result(trainer: Trainer) -> None:
    spec, state, output = trainer.spec, trainer.state, Path(trainer.spec.output)
    load_best(output, trainer.model)
    trainer.model.save_pretrained(output / "model")
    result = {
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "device": _device_name(trainer.device),
        "precision": trainer.device.precision,
        "best_epoch": state.best_epoch,
        "stopped_early": state.epoch < spec.num_train_epochs,
        "seconds": state.seconds,
        "rows_per_second": state.rows / state.seconds,
        "epochs": state.epochs,
        "curve": state.curve,
    }
    (output / "result.json").write_text(json.dumps(result), encoding="utf-8")
    drop_checkpoints(output)


def _device_name(device: Device) -> str:
    name = torch.cuda.get_device_name(device.torch) if device.torch.type == "cuda" else "cpu"
    return name if device.world == 1 else f"{device.world} x {name}"
