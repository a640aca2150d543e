"""The intervals behind the figures: exact for proportions, bootstrap for averages."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.metrics import precision_recall_fscore_support

from tasks.figures import CONFIDENCE, _percentiles, _proportion, _resampled

LABELS = 3
CONFUSION = np.array([[50, 6, 2], [8, 25, 1], [3, 2, 3]])
SAMPLES = 4000


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Exact 95% limits of a binomial proportion, as printed in tables to four places.
    [
        (0, 10, 0.0, 0.3085),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (10, 10, 0.6915, 1.0),
        (1, 1, 0.025, 1.0),
    ],
)
def test_a_proportion_has_the_interval_of_clopper_and_pearson(
    right: int, n: int, low: float, high: float
) -> None:
    figure = _proportion(right / n, right, n)
    assert (figure.value, figure.n, figure.method) == (right / n, n, "exact binomial")
    assert figure.low == pytest.approx(low, abs=5e-5)
    assert figure.high == pytest.approx(high, abs=5e-5)


def test_a_proportion_s_interval_holds_for_every_count() -> None:
    n, tail = 50, (1 - CONFIDENCE) / 2
    for right in range(1, n):
        figure = _proportion(right / n, right, n)
        assert figure.low == pytest.approx(beta.ppf(tail, right, n - right + 1))
        assert figure.high == pytest.approx(beta.ppf(1 - tail, right + 1, n - right))


def rows_of(confusion: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return actual and predicted class ids [n_rows] with that confusion matrix."""
    actual, predicted = np.divmod(np.arange(confusion.size), len(confusion))
    return np.repeat(actual, confusion.ravel()), np.repeat(predicted, confusion.ravel())


def row_bootstrap(confusion: NDArray[np.int64], samples: int) -> dict[str, NDArray[np.float64]]:
    """Return the same figures as `_resampled`, by drawing rows and asking scikit-learn."""
    actual, predicted = rows_of(confusion)
    generator = np.random.default_rng(1)
    found: dict[str, list[NDArray[np.float64]]] = {}
    for _ in range(samples):
        drawn = generator.integers(len(actual), size=len(actual))
        by_label = precision_recall_fscore_support(
            actual[drawn], predicted[drawn], labels=range(len(confusion)), zero_division=0.0
        )
        weights = by_label[3] / len(actual)
        found.setdefault("f1", []).append(by_label[2])
        for name, values in zip(("precision", "recall", "f1"), by_label, strict=False):
            found.setdefault(f"{name}.macro", []).append(values.mean())
            found.setdefault(f"{name}.weighted", []).append((values * weights).sum())
    return {name: np.array(values) for name, values in found.items()}


def test_drawing_confusion_matrices_is_drawing_rows() -> None:
    ours, theirs = _resampled(CONFUSION, SAMPLES, seed=0), row_bootstrap(CONFUSION, 200)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert ours[name].shape == (SAMPLES, *values.shape[1:])
        spread = values.std(axis=0)
        # The mean of 200 draws is off by about spread / 14, their spread by about 5%.
        assert np.all(np.abs(ours[name].mean(axis=0) - values.mean(axis=0)) < spread / 4), name
        assert np.allclose(ours[name].std(axis=0), spread, rtol=0.2), name


def test_a_resample_is_decided_by_its_seed() -> None:
    first, same, other = (_resampled(CONFUSION, 100, seed) for seed in (0, 0, 1))
    for name, values in first.items():
        assert np.array_equal(values, same[name])
        assert not np.array_equal(values, other[name])


def test_a_model_that_is_always_right_is_always_right_in_every_resample() -> None:
    drawn = _resampled(np.diag([500, 300]), 200, seed=0)
    assert all(np.all(values == 1.0) for values in drawn.values())


def test_a_label_that_is_never_given_counts_as_zero() -> None:
    drawn = _resampled(np.array([[90, 0], [10, 0]]), 200, seed=0)
    assert np.all(drawn["f1"][:, 1] == 0.0)
    assert np.all(drawn["precision.macro"] <= 0.5)
    assert np.all(drawn["recall.macro"] == 0.5)


def test_the_interval_leaves_a_fortieth_out_at_each_end() -> None:
    assert _percentiles(np.arange(1001) / 1000) == pytest.approx((0.025, 0.975))


def test_the_interval_holds_the_truth_in_about_95_of_100_repetitions() -> None:
    generator = np.random.default_rng(3)
    shares = CONFUSION / CONFUSION.sum()
    f1 = 2 * shares.diagonal() / (shares.sum(axis=0) + shares.sum(axis=1))
    inside = 0
    for seed in range(200):
        drawn = generator.multinomial(400, shares.ravel()).reshape(LABELS, LABELS)
        low, high = _percentiles(_resampled(drawn, 400, seed)["f1.macro"])
        inside += low <= f1.mean() <= high
    assert 0.88 <= inside / 200 <= 1.0


def test_a_thousand_labels_take_a_bounded_memory_and_parts_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(0)
    confusion = np.diag(np.full(1000, 15))
    np.add.at(confusion, tuple(generator.integers(0, 1000, (2, 5000))), 1)
    tracemalloc.start()
    drawn = _resampled(confusion, 100, seed=0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200e6  # drawing every cell takes 800 MB
    monkeypatch.setattr("tasks.figures._MOST_DRAWN", 6000 * 7)
    again = _resampled(confusion, 100, seed=0)
    assert all(np.array_equal(values, again[name]) for name, values in drawn.items())
