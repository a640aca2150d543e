"""Calibration: scale a model's logits so that its confidence is the share that it has right."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.manifests import Scaling

Logits = NDArray[np.float32] | NDArray[np.float64]
Values = NDArray[np.float64]
Method = Literal["temperature", "vector", "none"]
COLDEST, HOTTEST = 0.05, 20.0  # temperatures; rows that are all right would ask for 0
_AT_BOUND = 1e-6


def probabilities_of(logits: Logits, scaling: Scaling) -> Values:
    """Return the calibrated probabilities of logits, both [n_rows, n_labels]."""
    return np.exp(_log_softmax(_scaled(logits, np.array([scaling.scale, scaling.bias]))))


def unscaled(n_labels: int) -> Scaling:
    """Return the scaling that leaves the logits as they are."""
    return Scaling(method="none", scale=(1.0,) * n_labels, bias=(0.0,) * n_labels)


def loss_of(logits: Logits, actual: NDArray[np.int64], scaling: Scaling) -> float:
    """Return the mean negative log-likelihood, in nats, of class ids [n_rows]."""
    return _loss(logits, actual, np.array([scaling.scale, scaling.bias])) / len(actual)


def fit(logits: Logits, actual: NDArray[np.int64], method: Method) -> Scaling:
    """Return the scaling of logits [n_rows, n_labels] that makes class ids [n_rows] likeliest.

    `temperature` divides all logits by one number, which changes no label; `vector` has a scale and
    a bias a label, and may (Guo et al. 2017). A ridge of 1/2 on the square of each bias, and of each
    scale less 1, is added to the summed negative log-likelihood. It weighs as much as a few rows, and
    holds what the rows do not tell: rows that are all right would ask for a temperature of 0, and
    a label that none has for a bias of minus infinity. The sum is convex, so there is one answer.
    """
    from scipy.optimize import minimize

    n_labels = logits.shape[1]
    if method == "none":
        return unscaled(n_labels)
    # A row of parameters is [scale, bias] by label; `spread` says which of them go together.
    spread = np.eye(2 * n_labels)
    if method == "temperature":
        spread = np.concatenate([np.ones(n_labels), np.zeros(n_labels)])[None]
    n_scales = 1 if method == "temperature" else n_labels
    start = np.concatenate([np.ones(n_scales), np.zeros(len(spread) - n_scales)])

    def penalised(free: Values) -> tuple[float, Values]:
        parameters = (free @ spread).reshape(2, n_labels)
        loss = _loss(logits, actual, parameters) + ((free - start) ** 2).sum() / 2
        return loss, spread @ _slope(logits, actual, parameters).ravel() + free - start

    bounds = [(1 / HOTTEST, 1 / COLDEST)] * n_scales + [(None, None)] * (len(spread) - n_scales)
    found = minimize(penalised, start, jac=True, method="L-BFGS-B", bounds=bounds)
    scale, bias = (found.x @ spread).reshape(2, n_labels).tolist()
    return Scaling(method=method, scale=scale, bias=bias)


def is_at_bound(scaling: Scaling) -> bool:
    """Return whether a scale ended where it may go no farther."""
    ends = np.array([1 / HOTTEST, 1 / COLDEST])
    return bool((np.abs(np.array(scaling.scale)[:, None] - ends) < _AT_BOUND).any())


def _scaled(logits: Logits, parameters: Values) -> Values:
    """Return logits [n_rows, n_labels] scaled by [scale, bias], each [n_labels], in float64."""
    scaled: Values = logits.astype(np.float64) * parameters[0] + parameters[1]
    return scaled


def _log_softmax(scaled: Values) -> Values:
    above = scaled - scaled.max(axis=1, keepdims=True)
    logs: Values = above - np.log(np.exp(above).sum(axis=1, keepdims=True))
    return logs


def _loss(logits: Logits, actual: NDArray[np.int64], parameters: Values) -> float:
    logs = _log_softmax(_scaled(logits, parameters))
    return -float(logs[np.arange(len(actual)), actual].sum())


def _slope(logits: Logits, actual: NDArray[np.int64], parameters: Values) -> Values:
    """Return the derivatives [2, n_labels] of the summed loss by scale and bias."""
    excess = np.exp(_log_softmax(_scaled(logits, parameters)))
    excess[np.arange(len(actual)), actual] -= 1
    return np.stack([(excess * logits).sum(axis=0), excess.sum(axis=0)])
