"""How the loss is weighted and the weights are moved: optimizer, decay, class weights, rate."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from numpy.typing import NDArray

from tasks.worker.batches import Batch, EncodedRows
from tasks.worker.spec import TrainSpec


def make_optimizer(model: torch.nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """Return AdamW over the parameters to train, with moments of 32 or of 8 bits.

    Raises:
        SystemExit: if bitsandbytes is asked for and not installed; in one line.
    """
    groups = parameter_groups(model, spec.weight_decay)
    if spec.optim == "adamw_torch_fused":
        return torch.optim.AdamW(groups, lr=0.0, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ModuleNotFoundError:
        raise SystemExit(
            "training.optim is adamw_8bit, which needs the package bitsandbytes, which is not "
            "installed; run: pip install 'ekiben[adamw8bit]', or use adamw_torch_fused"
        ) from None
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, lr=0.0)
    return optimizer


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters to train in two groups: matrices decay, biases and norms do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def class_weights(spec: TrainSpec, rows: EncodedRows) -> NDArray[np.float64]:
    """Return n / (k * n_label) for each label [n_labels], scikit-learn's "balanced", or ones."""
    if spec.class_weights == "none":
        return np.ones(len(spec.labels))
    counts = np.bincount(rows.labels, minlength=len(spec.labels))
    weights: NDArray[np.float64] = len(rows) / (len(spec.labels) * counts)
    return weights


def row_losses(logits: torch.Tensor, part: Batch, spec: TrainSpec) -> torch.Tensor:
    """Return the loss [n_rows] of logits [n_rows, n_labels]: the cross-entropy with the labels.

    Beside a teacher's logits t, those z of a student have the loss
    `w * CE(label, softmax(z)) + (1 - w) * T^2 * CE(softmax(t / T), softmax(z / T))`, where w is the
    label's weight and T the temperature; T^2 keeps the gradients of both parts alike in size
    (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2).
    """
    of_labels = F.cross_entropy(logits.float(), part.labels, reduction="none")
    if part.teacher is None:
        return of_labels
    taught = (part.teacher / spec.temperature).softmax(dim=1)
    of_teacher = F.cross_entropy(logits.float() / spec.temperature, taught, reduction="none")
    weight = spec.label_weight
    return weight * of_labels + (1 - weight) * spec.temperature**2 * of_teacher


def learning_rate_at(step: int, steps: int, spec: TrainSpec) -> float:
    """Return the rate of update `step` of `steps`: linear warm-up, then linear to zero."""
    warmup = round(steps * spec.warmup_ratio)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    return spec.learning_rate * (steps - step) / max(steps - warmup, 1)
