"""Confusion matrix: rows of each label by the label given (scikit-learn's `confusion_matrix`)."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import confusion_matrix


class ConfusionMatrix(evaluate.Metric):
    """Compute `{"confusion_matrix": [n_labels][n_labels]}`, actual label down, given label across."""

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Rows of each label by the label given.",
            citation="",
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(self, predictions: Any, references: Any, *, labels: list[int]) -> dict[str, Any]:
        return {
            "confusion_matrix": confusion_matrix(references, predictions, labels=labels).tolist()
        }
