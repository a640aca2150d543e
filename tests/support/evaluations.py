"""Evaluations of models that exist only as confusion matrices, for the tests of the gate."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.figures import estimates_of
from tasks.manifests import EvaluationReport, LeakageReport
from tasks.questions import figure_of

LABELS = ("ham", "spam")
GOOD = np.array([[760, 10], [20, 210]])  # accuracy 0.97, recall of spam 0.913


def report_of(
    confusion: NDArray[np.int64] = GOOD, labels: tuple[str, ...] = LABELS
) -> EvaluationReport:
    """Return the evaluation of a model with that confusion matrix, actual label down."""
    estimates = estimates_of(confusion, labels, 500, 0)
    return EvaluationReport(
        key="k",
        parents={},
        folder=Path("evaluation"),
        files={},
        rows=int(confusion.sum()),
        labels=labels,
        figures={name: figure_of(estimate) for name, estimate in estimates.items()},
        baseline={},
        confusion=tuple(map(tuple, confusion.tolist())),
        bootstrap_samples=500,
        bootstrap_seed=0,
    )


def leakage_of(**changes: Any) -> LeakageReport:
    """Return the report of a test set that no training row is like, changed as asked."""
    fields: dict[str, Any] = {
        "key": "l", "parents": {}, "folder": Path("leakage"), "files": {}, "test_set": "ab" * 32,
        "frozen": False, "rows": 1000, "exact": 0, "near": 0, "near_jaccard": None,
    }  # fmt: skip
    return LeakageReport(**{**fields, **changes})
