"""What a model said of each test row: the worst errors, and precision against recall."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from tasks.predictions import Predictions

LABELS = ("ham", "spam", "eggs")


def predictions(rows: int = 300, labels: int = 3) -> Predictions:
    """Return predictions with many equal probabilities, and a model that is often wrong."""
    draw = np.random.default_rng(0)
    probabilities = np.round(draw.dirichlet(np.ones(labels), rows), 1)
    return Predictions(
        labels=LABELS[:labels],
        rows=np.arange(1000, 1000 + rows),
        actual=draw.integers(0, labels, rows),
        predicted=probabilities.argmax(axis=1),
        probabilities=probabilities,
    )


def test_the_worst_errors_are_rows_whose_label_was_held_least_probable() -> None:
    few = Predictions(
        labels=LABELS,
        rows=np.array([11, 12, 13, 14]),
        actual=np.array([0, 0, 1, 2]),
        predicted=np.array([1, 0, 0, 1]),
        probabilities=np.array([[0.3, 0.6, 0.1], [0.9, 0, 0.1], [0.98, 0.01, 0.01], [0, 0.8, 0.2]]),
    )
    worst = {"row": 13, "label": "spam", "predicted": "ham", "probability of the label": 0.01}
    assert few.worst_errors(1) == [worst]
    assert [error["row"] for error in few.worst_errors()] == [13, 14, 11]


def test_there_are_no_worst_errors_without_an_error() -> None:
    found = predictions()
    right = Predictions(LABELS, found.rows, found.predicted, found.predicted, found.probabilities)
    assert right.worst_errors() == []


@pytest.mark.parametrize("label", [0, 1, 2])
def test_precision_and_recall_are_scikit_learn_s_at_every_threshold(label: int) -> None:
    found = predictions()
    precision, recall, _ = precision_recall_curve(
        found.actual == label, found.probabilities[:, label]
    )
    ours = found.precision_recall(label)
    # Theirs ends with a point of no rows, at precision 1, and goes by rising threshold.
    assert ours[0] == pytest.approx(precision[-2::-1])
    assert ours[1] == pytest.approx(recall[-2::-1])


def test_a_label_without_rows_has_no_recall_at_any_threshold() -> None:
    found = predictions(labels=2)
    never = Predictions(
        LABELS[:2], found.rows, np.zeros_like(found.actual), found.predicted, found.probabilities
    )
    precision, recall = never.precision_recall(1)
    assert not precision.any() and not recall.any()
