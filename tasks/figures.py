"""Figures on a test split with their 95% intervals, through the metric modules of `tasks/metrics`."""

from functools import cache
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.manifests import Figure

Ids = NDArray[np.int64]
CONFIDENCE = 0.95
_MOST_DRAWN = 4_000_000  # cells at once, which bounds the memory of the bootstrap
_METRICS = Path(__file__).with_name("metrics")


@cache
def metric(name: str) -> Any:
    """Return our own `evaluate` module of that name; nothing is fetched from a hub."""
    import evaluate

    return evaluate.load(str(_METRICS / f"{name}.py"))


def confusion_of(predicted: Ids, actual: Ids, n_labels: int) -> NDArray[np.int64]:
    """Return the confusion matrix [n_labels, n_labels], actual label down, given label across."""
    computed = metric("confusion_matrix").compute(
        predictions=predicted, references=actual, labels=list(range(n_labels))
    )
    return np.asarray(computed["confusion_matrix"], dtype=np.int64)


def measure(
    predicted: Ids, actual: Ids, labels: tuple[str, ...], samples: int, seed: int
) -> dict[str, Figure]:
    """Return every figure of predicted against actual class ids, both [n_rows], by name.

    `accuracy`; `precision.`, `recall.` and `f1.` each with `macro`, `weighted` and every label. An
    average counts a label that is never given, or has no rows, as 0; the label's own figure is
    then None, which no limit passes. Accuracy and per-label precision and recall are proportions,
    with the exact interval of Clopper and Pearson (1934); the rest have the percentile interval of
    `samples` bootstrap resamples of the rows (Efron 1979).
    """
    confusion = confusion_of(predicted, actual, len(labels))
    resampled = _resampled(confusion, samples, seed)
    right = int(confusion.trace())
    figures = {"accuracy": _proportion(_compute("accuracy", predicted, actual), right, len(actual))}
    for name in ("precision", "recall", "f1"):
        for average in ("macro", "weighted"):
            value = _compute(
                name,
                predicted,
                actual,
                labels=list(range(len(labels))),
                average=average,
                zero_division=0.0,
            )
            interval = _percentiles(resampled[f"{name}.{average}"])
            figures[f"{name}.{average}"] = Figure(
                value=value,
                low=interval[0],
                high=interval[1],
                n=len(actual),
                method=f"bootstrap, {samples} resamples",
            )
        figures.update(_by_label(name, predicted, actual, labels, confusion, resampled, samples))
    return figures


def _compute(name: str, predicted: Ids, actual: Ids, **arguments: Any) -> Any:
    return metric(name).compute(predictions=predicted, references=actual, **arguments)[name]


def _by_label(
    name: str,
    predicted: Ids,
    actual: Ids,
    labels: tuple[str, ...],
    confusion: NDArray[np.int64],
    resampled: dict[str, NDArray[np.float64]],
    samples: int,
) -> dict[str, Figure]:
    values = _compute(
        name,
        predicted,
        actual,
        labels=list(range(len(labels))),
        average=None,
        zero_division=np.nan,
    )
    given, rows = confusion.sum(axis=0), confusion.sum(axis=1)
    figures = {}
    for number, label in enumerate(labels):
        value, key = values[number], f"{name}.{label}"
        n = int({"precision": given, "recall": rows, "f1": given + rows}[name][number])
        if isnan(value):
            figures[key] = Figure(value=None, n=n, method="undefined: nothing to divide by")
        elif name == "f1":
            low, high = _percentiles(resampled["f1"][:, number])
            method = f"bootstrap, {samples} resamples"
            figures[key] = Figure(value=value, low=low, high=high, n=n, method=method)
        else:
            figures[key] = _proportion(value, int(confusion[number, number]), n)
    return figures


def _proportion(value: float, right: int, n: int) -> Figure:
    """Return a proportion with its exact two-sided interval (Clopper and Pearson 1934)."""
    from scipy.stats import binomtest

    interval = binomtest(right, n).proportion_ci(CONFIDENCE, method="exact")
    return Figure(
        value=value,
        low=float(interval.low),
        high=float(interval.high),
        n=n,
        method="exact binomial",
    )


def _resampled(
    confusion: NDArray[np.int64], samples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return averages [samples] and per-label F1 [samples, n_labels] of bootstrap resamples.

    Drawing n rows with replacement is drawing the confusion matrix from a multinomial with the
    observed cells as probabilities. Cells that are empty stay so and are not drawn, which keeps
    memory in bounds with many labels.
    """
    cells = np.flatnonzero(confusion)
    actual, given = np.divmod(cells, len(confusion))
    shares = confusion.ravel()[cells] / confusion.sum()
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, samples, part := max(1, _MOST_DRAWN // len(cells))):
        size = min(part, samples - start)
        draws = generator.multinomial(int(confusion.sum()), shares, size=size)
        parts.append(_averages(draws, actual, given, len(confusion)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _averages(
    draws: NDArray[np.int64], actual: Ids, given: Ids, n_labels: int
) -> dict[str, NDArray[np.float64]]:
    """Return the figures of resampled cells [samples, n_cells] of those actual and given labels."""
    right = _sums(draws * (actual == given), actual, n_labels)
    rows, named = _sums(draws, actual, n_labels), _sums(draws, given, n_labels)
    by_label = {
        "precision": _ratio(right, named),
        "recall": _ratio(right, rows),
        "f1": _ratio(2 * right, named + rows),
    }
    averages = {"f1": by_label["f1"]}
    for name, values in by_label.items():
        averages[f"{name}.macro"] = values.mean(axis=1)
        averages[f"{name}.weighted"] = (values * rows).sum(axis=1) / rows.sum(axis=1)
    return averages


def _sums(draws: NDArray[np.int64], labels: Ids, n_labels: int) -> NDArray[np.float64]:
    """Return the sums [samples, n_labels] of the cells [samples, n_cells] of each label."""
    from scipy.sparse import csr_array

    cells = np.arange(len(labels))
    member = csr_array((np.ones(len(labels)), (labels, cells)), shape=(n_labels, len(labels)))
    sums: NDArray[np.float64] = np.asarray(member @ draws.T, dtype=np.float64).T
    return sums


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
