"""Recall: of the rows that have a label, the share given it (scikit-learn's `recall_score`)."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import recall_score


class Recall(evaluate.Metric):
    """Compute `{"recall": figure}` of class ids `predictions` against `references`, both [n_rows].

    `labels` are the class ids counted; `average` is macro, weighted, or None for one figure a label
    [n_labels]; `zero_division` is the figure where the denominator is 0.
    """

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Of the rows that have a label, the share given it.",
            citation="",
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(
        self,
        predictions: Any,
        references: Any,
        *,
        labels: list[int],
        average: str | None,
        zero_division: float,
    ) -> dict[str, Any]:
        figure = recall_score(
            references, predictions, labels=labels, average=average, zero_division=zero_division
        )
        return {"recall": figure.tolist() if average is None else float(figure)}
