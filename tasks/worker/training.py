"""Fine-tune a sequence classifier in a plain torch loop.

A plain loop rather than transformers' Trainer: it needs no further library on a GPU worker, computes
no padding, trains the vocabulary in use alone, and reads whole checkpoints only;
`benchmarks/results/training.json` has what that comes to.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.worker.adapters import adapt, inner, merge
from tasks.worker.batches import Batch, EncodedRows, Rows, shared_out, shuffled_batches
from tasks.worker.checkpoints import (
    TrainingState,
    drop_checkpoints,
    flush,
    load_best,
    restore_checkpoint,
    save_checkpoint,
)
from tasks.worker.devices import Device, choose_device
from tasks.worker.families import PADDED, forward_of, padded
from tasks.worker.figures import validation_figures
from tasks.worker.loading import load_model, require_vocabulary
from tasks.worker.meters import Meter, memory_mb
from tasks.worker.optimizing import class_weights, learning_rate_at, make_optimizer, row_losses
from tasks.worker.parallel import (
    Classifier,
    averaging,
    leave,
    meet,
    noticing_loss,
    over_all,
    replicate,
    shard,
    whole,
)
from tasks.worker.scoring import logits_of
from tasks.worker.spec import TrainSpec
from tasks.worker.vocabulary import narrow, widen

_CURVE_POINTS = 100
_ROWS_TRIED = 8


@dataclass
class Trainer:
    """All that one training run holds."""

    spec: TrainSpec
    device: Device
    adapted: Any
    forward: str
    classifier: Classifier
    parallel: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    class_weights: NDArray[np.float64]
    rows: EncodedRows
    held_out: EncodedRows
    state: TrainingState

    @property
    def epoch_updates(self) -> int:
        """Return the updates of one epoch."""
        return -(-len(self.rows) // self.spec.train_batch_size)

    @property
    def updates(self) -> int:
        """Return the updates of the whole run, if it is not stopped early."""
        return self.epoch_updates * self.spec.num_train_epochs

    @property
    def has_waited_enough(self) -> bool:
        """Return whether so many epochs brought nothing better that training stops."""
        return self.state.epoch - self.state.best_epoch >= self.spec.early_stopping_patience


def train(spec: TrainSpec) -> None:
    """Train to the end or to an early stop, then write `model/` and `result.json`."""
    if spec.full_determinism:
        from transformers import enable_full_determinism

        enable_full_determinism(spec.seed)
    device = choose_device(spec.device, spec.precision)
    torch.manual_seed(spec.seed)
    with noticing_loss():
        _train_to_the_end(prepare(spec, device))
    leave()


def _train_to_the_end(trainer: Trainer) -> None:
    spec = trainer.spec
    while trainer.state.epoch < spec.num_train_epochs and not trainer.has_waited_enough:
        train_one_epoch(trainer)
        _judge_epoch(trainer)
        _save(trainer)
    _write_result(trainer)


def _save(trainer: Trainer) -> None:
    """Write a checkpoint and drop the one before; of several processes the leader does."""
    save_checkpoint(
        Path(trainer.spec.output),
        trainer.classifier.model,
        trainer.optimizer,
        trainer.state,
        leads=trainer.device.leads,
    )
    meet(trainer.device)


def prepare(spec: TrainSpec, device: Device) -> Trainer:
    """Load model, optimizer and rows, and go back to the newest checkpoint if there is one."""
    teacher = None if spec.teacher_logits is None else Path(spec.teacher_logits)
    rows, held_out = EncodedRows(Path(spec.train), teacher), EncodedRows(Path(spec.validation))
    adapted = adapt(load_model(spec), spec)
    model = inner(adapted)
    require_vocabulary(model, rows.ids, held_out.ids)
    narrow(model, rows.ids, spec.pad_token_id)
    model.to(device.torch)
    tried = rows.batch(np.arange(min(_ROWS_TRIED, len(rows)))).to(device.torch)
    name, forward = forward_of(model, tried)
    if spec.parallel == "fsdp" and device.world > 1:
        name, forward = PADDED, padded  # a layer's shares are gathered by its own call alone
        shard(model, device)
    classifier = Classifier(
        model, torch.compile(forward, dynamic=True) if spec.torch_compile else forward
    )
    optimizer = make_optimizer(model, spec)
    state = restore_checkpoint(Path(spec.output), model, optimizer)
    return Trainer(
        spec=spec,
        device=device,
        adapted=adapted,
        forward=name,
        classifier=classifier,
        parallel=replicate(classifier, device),
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(device.torch.type, enabled=device.precision == "fp16"),
        class_weights=class_weights(spec, rows),
        rows=rows,
        held_out=held_out,
        state=state,
    )


def train_one_epoch(trainer: Trainer) -> None:
    """Do the updates of one epoch that are left, with a checkpoint now and then.

    Losses stay on the device but for the points of the curve. A checkpoint is written at such a
    point, so that none of them is lost with the process.
    """
    spec, state, device = trainer.spec, trainer.state, trainer.device
    trainer.classifier.train()
    before, meter = state.seconds, Meter(device, state.tokens)
    of_epoch = shuffled_batches(
        trainer.rows.lengths, spec.train_batch_size, spec.seed + state.epoch
    )
    begun = noted = saved = state.step - state.epoch * trainer.epoch_updates
    updates = of_epoch[begun:]
    every = max(1, trainer.updates // _CURVE_POINTS)
    of_point = torch.zeros((), device=device.torch)
    for done, (rows, parts) in enumerate(
        zip(updates, _ahead(trainer, updates), strict=True), begun + 1
    ):
        rate = learning_rate_at(state.step, trainer.updates, spec)
        torch.manual_seed(_seed(spec.seed, state.step, device.rank))
        of_point += _update(trainer, parts, rate)
        state.step += 1
        state.rows += len(rows)
        state.tokens += int(trainer.rows.lengths[rows].sum())
        if state.step % every == 0 or done == len(of_epoch):
            loss = float(over_all(of_point, device).item())
            state.loss += loss
            state.seconds, state.cores = before + meter.seconds, meter.cores
            _note_point(trainer, loss / (done - noted), rate, meter)
            noted = done
            of_point.zero_()
            if done - saved >= spec.save_steps * trainer.updates and done < len(of_epoch):
                _save(trainer)
                saved = done
    state.epoch += 1
    train_loss, state.loss = state.loss / len(of_epoch), 0.0
    state.epochs.append({"epoch": state.epoch, "step": state.step, "train_loss": train_loss})


def _seed(*parts: int) -> int:
    """Return the seed of one process in one update, so that no random state need be kept."""
    return int(np.random.default_rng(parts).integers(2**62))


def _ahead(trainer: Trainer, updates: list[Rows]) -> Iterator[list[Batch]]:
    """Yield this process's parts of each update, the next being laid out while one is computed."""
    spec, device = trainer.spec, trainer.device

    def parts_of(rows: Rows) -> list[Batch]:
        total = trainer.class_weights[trainer.rows.labels[rows]].sum()
        shares = shared_out(rows, trainer.rows.lengths, device.world, spec.max_tokens_per_device)
        return [_part(trainer, part, total, rows).to(device.torch) for part in shares[device.rank]]

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(parts_of, updates[0])
        for following in [*updates[1:], None]:
            parts = coming.result()
            if following is not None:
                coming = thread.submit(parts_of, following)
            yield parts


def _part(trainer: Trainer, part: Rows, total: float, rows: Rows) -> Batch:
    """Return a part as a batch whose rows weigh what they are of the update's weight.

    A process without rows computes one that counts as nothing, since the others wait for it.
    """
    if not len(part):
        return trainer.rows.batch(rows[:1], np.zeros(1))
    return trainer.rows.batch(part, trainer.class_weights[trainer.rows.labels[part]] / total)


def _update(trainer: Trainer, parts: list[Batch], rate: float) -> torch.Tensor:
    """Do one optimizer update; return this process's share of the mean loss over its rows.

    However the rows are cut and shared out, the update is that of one batch holding them all.
    """
    device, optimizer, scaler = trainer.device, trainer.optimizer, trainer.scaler
    total = torch.zeros((), device=device.torch)
    for number, part in enumerate(parts, 1):
        with averaging(trainer.parallel, number == len(parts)):
            with device.autocast():
                logits = trainer.parallel(part)
            loss = (row_losses(logits, part, trainer.spec) * part.weights).sum()
            # The processes' gradients are averaged, so that each must count as all of them.
            torch.autograd.backward(scaler.scale(loss * device.world))
        total += loss.detach()
    scaler.unscale_(optimizer)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, trainer.spec.max_grad_norm)
    for parameters in optimizer.param_groups:
        parameters["lr"] = rate
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return total


def _judge_epoch(trainer: Trainer) -> None:
    """Add the validation figures to the epoch's entry, and note whether it is the best so far."""
    spec, state = trainer.spec, trainer.state
    logits = logits_of(trainer.classifier, trainer.held_out, trainer.device)
    figures = validation_figures(logits, trainer.held_out.labels)
    state.epochs[-1].update(figures)
    sign = -1.0 if spec.metric_for_best_model == "loss" else 1.0
    value = sign * figures[spec.metric_for_best_model]
    if state.best_value is None or value > state.best_value:
        state.best_value, state.best_epoch = value, state.epoch
    _tell(trainer, {"event": "epoch", **state.epochs[-1]})


def _note_point(trainer: Trainer, loss: float, rate: float, meter: Meter) -> None:
    """Add a point to the curve and tell of it."""
    state = trainer.state
    point = {"step": state.step, "loss": loss, "learning_rate": rate, **meter.read(state.tokens)}
    state.curve.append(point)
    left = (trainer.updates - state.step) * state.seconds / state.step
    event = {"event": "step", "done": state.step, "total": trainer.updates, "eta_seconds": left}
    _tell(trainer, {**event, **point})


def _tell(trainer: Trainer, event: dict[str, Any]) -> None:
    if trainer.device.leads:
        print(json.dumps(event), flush=True)


def _write_result(trainer: Trainer) -> None:
    """Write the best epoch's model, whole and plain, and then what training came to.

    `result.json` says that the training is over: it is there whole, beside a whole model, or not.
    """
    output, model = Path(trainer.spec.output), trainer.classifier.model
    load_best(output, model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    widen(model)
    plain = merge(trainer.adapted)
    weights = whole(plain.state_dict())
    meet(trainer.device)  # all have read the checkpoint that the leader removes
    if trainer.device.leads:
        plain.save_pretrained(output / "model", state_dict=weights)
        result = {
            "parameters": sum(p.numel() for p in plain.parameters()),
            **_figures(trainer, trained),
        }
        flush(output / "model")
        partial = output / ".result.json.partial"
        partial.write_text(json.dumps(result), encoding="utf-8")
        partial.rename(output / "result.json")
        drop_checkpoints(output)


def _figures(trainer: Trainer, trained: int) -> dict[str, Any]:
    """Return the fields of the checkpoint's manifest that training gives."""
    state, device = trainer.state, trainer.device
    return {
        "device": device.name,
        "precision": device.precision,
        "best_epoch": state.best_epoch,
        "stopped_early": state.epoch < trainer.spec.num_train_epochs,
        "seconds": state.seconds,
        "rows_per_second": state.rows / state.seconds,
        "epochs": state.epochs,
        "curve": state.curve,
        "hardware": {
            "trained_parameters": trained,
            "forward": trainer.forward,
            "threads": torch.get_num_threads(),
            "cores": state.cores,
            "memory_mb": memory_mb(device),
            "tokens_per_second": state.tokens / state.seconds,
        },
    }
