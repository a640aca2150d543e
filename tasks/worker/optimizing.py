"""How the loss is weighted and the weights are moved: decay, class weights, learning rate."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks.worker.batches import EncodedRows
from tasks.worker.spec import TrainSpec


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters in two groups: matrices decay, biases and norms do not."""
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


def learning_rate_at(step: int, steps: int, spec: TrainSpec) -> float:
    """Return the rate of update `step` of `steps`: linear warm-up, then linear to zero."""
    warmup = round(steps * spec.warmup_ratio)
    if step < warmup:
        return spec.learning_rate * (step + 1) / warmup
    return spec.learning_rate * (steps - step) / max(steps - warmup, 1)
