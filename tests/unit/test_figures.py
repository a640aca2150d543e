"""The resamples behind the intervals of averages."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from tasks.figures import _resamples, estimates_of

LABELS = 3
CONFUSION = np.array([[50, 6, 2], [8, 25, 1], [3, 2, 3]])
SAMPLES = 4000


def rows_of(confusion: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return actual and predicted class ids [n_rows] with that confusion matrix."""
    actual, predicted = np.divmod(np.arange(confusion.size), len(confusion))
    return np.repeat(actual, confusion.ravel()), np.repeat(predicted, confusion.ravel())


def resampled(
    confusion: NDArray[np.int64], samples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return the averages [samples] of resamples, by name."""
    return _resamples(confusion, samples, seed)._drawn


def row_bootstrap(confusion: NDArray[np.int64], samples: int) -> dict[str, NDArray[np.float64]]:
    """Return the same, by drawing rows and asking scikit-learn."""
    actual, predicted = rows_of(confusion)
    generator = np.random.default_rng(1)
    found: dict[str, list[NDArray[np.float64]]] = {}
    for _ in range(samples):
        drawn = generator.integers(len(actual), size=len(actual))
        by_label = precision_recall_fscore_support(
            actual[drawn], predicted[drawn], labels=range(len(confusion)), zero_division=0.0
        )
        weights = by_label[3] / len(actual)
        for name, values in zip(("precision", "recall", "f1"), by_label, strict=False):
            found.setdefault(f"{name}.macro", []).append(values.mean())
            found.setdefault(f"{name}.weighted", []).append((values * weights).sum())
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("seed", range(10))
def test_the_figures_that_the_gate_makes_of_counts_are_scikit_learn_s(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = tuple(f"label {n}" for n in range(2 + seed % 4))
    n_labels, rows = len(labels), 20 + 60 * seed  # few rows leave labels that are never given
    actual = np.concatenate([np.arange(n_labels), draw.integers(0, n_labels, rows)])
    predicted = np.where(draw.random(len(actual)) < 0.6, actual, draw.integers(0, 2, len(actual)))
    found = estimates_of(confusion_matrix(actual, predicted), labels, 100, 0)
    asked = {"labels": range(n_labels), "zero_division": 0.0}
    expected = {"accuracy": accuracy_score(actual, predicted)}
    for average in ("macro", "weighted", None):
        *scores, _ = precision_recall_fscore_support(actual, predicted, average=average, **asked)
        for name, score in zip(("precision", "recall", "f1"), scores, strict=True):
            parts = (average,) if average else labels
            expected |= {f"{name}.{p}": s for p, s in zip(parts, np.atleast_1d(score), strict=True)}
    assert found.keys() == expected.keys()
    for name, estimate in found.items():
        if estimate is None:
            label = labels.index(name.removeprefix("precision."))
            assert label not in predicted
        else:
            assert estimate.value == pytest.approx(expected[name], abs=1e-12, rel=0.0), name


def test_drawing_confusion_matrices_is_drawing_rows() -> None:
    ours, theirs = resampled(CONFUSION, SAMPLES, seed=0), row_bootstrap(CONFUSION, 200)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert ours[name].shape == (SAMPLES,)
        spread = values.std()
        # The mean of 200 draws is off by about spread / 14, their spread by about 5%.
        assert abs(ours[name].mean() - values.mean()) < spread / 4, name
        assert np.isclose(ours[name].std(), spread, rtol=0.2), name


def test_a_resample_is_decided_by_its_seed() -> None:
    first, same, other = (resampled(CONFUSION, 100, seed) for seed in (0, 0, 1))
    for name, values in first.items():
        assert np.array_equal(values, same[name])
        assert not np.array_equal(values, other[name])


def test_a_model_that_is_always_right_is_always_right_in_every_resample() -> None:
    drawn = resampled(np.diag([500, 300]), 200, seed=0)
    assert all(np.all(values == 1.0) for values in drawn.values())


def test_a_label_that_is_never_given_counts_as_zero() -> None:
    drawn = resampled(np.array([[90, 0], [10, 0]]), 200, seed=0)
    assert np.all(drawn["precision.macro"] <= 0.5)
    assert np.all(drawn["recall.macro"] <= 0.5)
    assert np.all(drawn["f1.macro"] <= 0.5)


def test_the_acceleration_is_that_of_a_jackknife_of_rows() -> None:
    confusion = np.array([[30, 2], [3, 9]])
    actual, predicted = rows_of(confusion)
    rows = range(len(actual))
    left = [_macro_recall(np.delete(actual, row), np.delete(predicted, row)) for row in rows]
    pull = np.mean(left) - np.array(left)
    skew, spread = (pull**3).sum(), (pull**2).sum()
    resamples = _resamples(confusion, 100, 0)
    found = resamples._acceleration(resamples._left_out["recall.macro"])
    assert found == pytest.approx(skew / (6 * spread**1.5))


def _macro_recall(actual: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    return float(np.mean([(predicted[actual == label] == label).mean() for label in (0, 1)]))


def test_a_thousand_labels_take_a_bounded_memory() -> None:
    generator = np.random.default_rng(0)
    confusion = np.diag(np.full(1000, 15))
    np.add.at(confusion, tuple(generator.integers(0, 1000, (2, 5000))), 1)
    tracemalloc.start()
    resampled(confusion, 100, seed=0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200e6  # drawing every cell takes 800 MB


def test_leaving_rows_out_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _resamples(CONFUSION, 10, 0)._left_out
    monkeypatch.setattr("tasks.resampling._MOST_DRAWN", 30)
    in_parts = _resamples(CONFUSION, 10, 0)._left_out
    assert all(np.array_equal(values, in_parts[name]) for name, values in whole.items())
