"""What a model said of each test row: how sure it was, and where it was most surely wrong."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.manifests import EvaluationReport

Probabilities = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """The lines of `predictions.parquet`: row numbers and class ids [n_rows], no text."""

    labels: tuple[str, ...]
    rows: Ids
    actual: Ids
    predicted: Ids
    probabilities: Probabilities
    """Of each label [n_rows, n_labels]."""

    def worst_errors(self, most: int = 20) -> list[dict[str, Any]]:
        """Return up to `most` rows whose label was given the least probability, the least first."""
        own = self.probabilities[np.arange(len(self.actual)), self.actual]
        wrong = np.flatnonzero(self.actual != self.predicted)
        worst = wrong[np.argsort(own[wrong], kind="stable")][:most]
        return [
            {
                "row": int(self.rows[at]),
                "label": self.labels[self.actual[at]],
                "predicted": self.labels[self.predicted[at]],
                "probability of the label": round(float(own[at]), 4),
            }
            for at in worst
        ]

    def precision_recall(self, label: int) -> tuple[Probabilities, Probabilities]:
        """Return precision and recall of a label [n_thresholds], by falling threshold.

        At each threshold the rows whose probability of the label reaches it are called by it.
        """
        scores, right = self.probabilities[:, label], self.actual == label
        order = np.argsort(-scores, kind="stable")
        last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of rows of equal score
        found = np.cumsum(right[order])[last]
        return found / (last + 1), found / max(1, int(right.sum()))


def read_predictions(report: EvaluationReport) -> Predictions:
    """Return what the evaluated model said of each test row."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    lines = pq.read_table(report.path("predictions.parquet"))
    numbers = {label: number for number, label in enumerate(report.labels)}

    def ids(column: str) -> Ids:
        return np.array([numbers[name] for name in lines[column].to_pylist()], dtype=np.int64)

    flat = pc.list_flatten(lines["probabilities"]).to_numpy()
    return Predictions(
        labels=report.labels,
        rows=lines["row"].to_numpy(),
        actual=ids("label"),
        predicted=ids("predicted"),
        probabilities=flat.reshape(-1, len(report.labels)),
    )
