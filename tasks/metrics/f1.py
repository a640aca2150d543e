"""F1: harmonic mean of precision and recall (scikit-learn's `f1_score`)."""

from typing import Any

import datasets
import evaluate
from sklearn.metrics import f1_score


class F1(evaluate.Metric):
    """Compute `{"f1": figure}` of class ids `predictions` against `references`, both [n_rows].

    `labels` are the class ids counted; `average` is macro, weighted, or None for one figure a label
    [n_labels]; `zero_division` is the figure where the denominator is 0.
    """

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Harmonic mean of precision and recall.",
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
        figure = f1_score(
            references, predictions, labels=labels, average=average, zero_division=zero_division
        )
        return {"f1": figure.tolist() if average is None else float(figure)}
