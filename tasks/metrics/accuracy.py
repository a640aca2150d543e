"""Accuracy: the share of rows given their own label (scikit-learn's `accuracy_score`)."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import accuracy_score


class Accuracy(evaluate.Metric):
    """Compute `{"accuracy": float}` of class ids `predictions` against `references`, both [n_rows]."""

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Share of rows given their own label.",
            citation="",
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        return {"accuracy": float(accuracy_score(references, predictions))}
