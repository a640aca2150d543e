"""Figures on a test split with their 95% intervals, through the metric modules of `tasks/metrics`."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.estimates import Average, Estimate, Overlap, Share
from tasks.manifests import Figure
from tasks.questions import figure_of
from tasks.resampling import METRICS, Counts, Ids, Resamples, averages_of, ratios_of

AVERAGES = ("macro", "weighted")
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
    average counts a label that is never given as 0; the label's own figure is then None, which no
    limit passes. Without rows of a label there is no macro average. `estimates_of` tells the 95%
    intervals.
    """
    confusion = confusion_of(predicted, actual, len(labels))
    estimates = estimates_of(confusion, labels, samples, seed)
    accuracy = metric("accuracy").compute(predictions=predicted, references=actual)["accuracy"]
    values = {"accuracy": accuracy}
    for name in METRICS:
        for average in AVERAGES:
            values[f"{name}.{average}"] = _compute(name, predicted, actual, labels, average, 0.0)
        by_label = _compute(name, predicted, actual, labels, None, np.nan)
        values |= {f"{name}.{label}": by_label[i] for i, label in enumerate(labels)}
    return {name: figure_of(estimate, values[name]) for name, estimate in estimates.items()}


def _compute(
    name: str,
    predicted: Ids,
    actual: Ids,
    labels: tuple[str, ...],
    average: str | None,
    zero_division: float,
) -> Any:
    return metric(name).compute(
        predictions=predicted,
        references=actual,
        labels=list(range(len(labels))),
        average=average,
        zero_division=zero_division,
    )[name]


def estimates_of(
    confusion: Counts, labels: tuple[str, ...], samples: int, seed: int, *, averages: bool = True
) -> dict[str, Estimate | None]:
    """Return the estimate of each figure of a confusion matrix [n_labels, n_labels], by its name.

    None stands for a label's figure that has nothing to divide by, and for macro averages where a
    label has no rows. `samples` resamples are drawn, but none without `averages`, which are then
    left out.
    """
    right, given, rows = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    total = int(rows.sum())
    found: dict[str, Estimate | None] = {"accuracy": _share(right.sum(), rows.sum())}
    resamples = _resamples(confusion, samples, seed) if averages and total else None
    by_metric: dict[str, list[Share | Overlap | None]] = {
        "precision": [_share(*pair) for pair in zip(right, given, strict=True)],
        "recall": [_share(*pair) for pair in zip(right, rows, strict=True)],
        "f1": [share and Overlap(share) for share in map(_share, right, given + rows - right)],
    }
    for name in METRICS:
        parts = by_metric[name]
        for average in AVERAGES if resamples else ():
            assert resamples is not None
            weights = np.full(len(labels), 1 / len(labels)) if average == "macro" else rows / total
            resampled = resamples.resampled(f"{name}.{average}")
            estimate = Average(resampled, total, weights, tuple(parts))
            found[f"{name}.{average}"] = None if average == "macro" and not rows.all() else estimate
        found |= {f"{name}.{label}": part for label, part in zip(labels, parts, strict=True)}
    return found


def _share(right: np.int64, whole: np.int64) -> Share | None:
    return Share(int(right), int(whole)) if whole else None


def _resamples(confusion: Counts, samples: int, seed: int) -> Resamples:
    cells = np.flatnonzero(confusion)
    actual, given = np.divmod(cells, len(confusion))

    def averages(drawn: Counts) -> dict[str, NDArray[np.float64]]:
        return averages_of(ratios_of(drawn, actual, given, len(confusion)))

    return Resamples(confusion.ravel()[cells], averages, samples, seed)
