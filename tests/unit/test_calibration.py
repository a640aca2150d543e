"""Scaling of logits: what rows were drawn with is found, and what they do not tell is held."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import log_loss

from configs.schema import Calibration
from tasks.calibrating import calibrated
from tasks.calibration import (
    COLDEST,
    HOTTEST,
    Method,
    fit,
    is_at_bound,
    loss_of,
    probabilities_of,
    unscaled,
)
from tasks.manifests import Scaling

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]


def drawn(
    n_rows: int, scale: list[float], bias: list[float], spread: float = 3.0
) -> tuple[Logits, Ids]:
    """Return logits, and class ids drawn from softmax(logits * scale + bias)."""
    draw = np.random.default_rng(5)
    logits = draw.normal(0, spread, size=(n_rows, len(scale))).astype(np.float32)
    shares = softmax(logits.astype(np.float64) * scale + bias, axis=1)
    ids = (shares.cumsum(axis=1) < draw.random((n_rows, 1))).sum(axis=1)
    return logits, ids.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_the_temperature_that_the_labels_were_drawn_with_is_found(temperature: float) -> None:
    logits, actual = drawn(8000, [1 / temperature] * 3, [0.0] * 3)
    scaling = fit(logits, actual, "temperature")
    assert scaling.temperature == pytest.approx(temperature, rel=0.05)
    assert len(set(scaling.scale)) == 1
    assert set(scaling.bias) == {0.0}


def test_the_scale_and_bias_that_the_labels_were_drawn_with_are_found() -> None:
    scale, bias = [0.5, 1.0, 1.5], [0.8, -0.3, -0.5]
    logits, actual = drawn(40_000, scale, bias)
    scaling = fit(logits, actual, "vector")
    assert scaling.scale == pytest.approx(scale, abs=0.05)
    assert np.diff(scaling.bias) == pytest.approx(np.diff(bias), abs=0.08)
    assert scaling.temperature is None


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_no_scaling_nearby_has_a_smaller_loss_on_many_rows(method: Method) -> None:
    logits, actual = drawn(8000, [0.4, 0.7, 0.5], [0.5, 0.0, -0.5])
    found = fit(logits, actual, method)
    least = loss_of(logits, actual, found)
    assert least < loss_of(logits, actual, unscaled(3)) - 0.1
    for step in (-0.02, 0.02):
        scale = tuple(each + step for each in found.scale)
        near = Scaling(method=method, scale=scale, bias=found.bias)
        assert loss_of(logits, actual, near) > least


def test_probabilities_and_loss_are_those_of_scipy_and_scikit_learn() -> None:
    logits, actual = drawn(200, [1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    scaling = Scaling(method="vector", scale=(0.5, 1.0, 2.0), bias=(0.1, 0.0, -0.4))
    expected = softmax(logits.astype(np.float64) * scaling.scale + scaling.bias, axis=1)
    assert np.abs(probabilities_of(logits, scaling) - expected).max() < 1e-14
    assert loss_of(logits, actual, scaling) == pytest.approx(log_loss(actual, expected))


def test_a_temperature_changes_no_label() -> None:
    logits, _ = drawn(5000, [1.0] * 4, [0.0] * 4, spread=40.0)
    for temperature in (COLDEST, 0.7, HOTTEST):
        scaling = Scaling(method="temperature", scale=(1 / temperature,) * 4, bias=(0.0,) * 4)
        labels = probabilities_of(logits, scaling).argmax(axis=1)
        assert (labels == logits.argmax(axis=1)).all()


def test_large_logits_give_probabilities_and_not_overflow() -> None:
    logits = np.array([[3e4, -3e4], [0.0, 3e4]], dtype=np.float32)
    assert probabilities_of(logits, unscaled(2)).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_rows_that_are_all_right_do_not_make_the_model_certain() -> None:
    actual = np.arange(70) % 2
    logits = np.where(np.eye(2)[actual] > 0, 2.5, -2.5).astype(np.float32)
    temperature = fit(logits, actual, "temperature").temperature
    assert temperature is not None
    assert 0.5 < temperature < 1.0


def test_a_scaling_beyond_its_bounds_stops_there_and_says_so() -> None:
    logits, actual = drawn(500, [0.001] * 2, [0.0] * 2, spread=3000.0)
    found = calibrated(Calibration(), logits, actual)
    assert found["scaling"].temperature == pytest.approx(HOTTEST)
    (told,) = found["told"]
    assert told.startswith("the scaling stopped at its bound, a temperature of 0.05 or 20: ")
    logits, actual = drawn(20_000, [1000.0] * 2, [0.0] * 2, spread=0.003)
    assert fit(logits, actual, "temperature").temperature == pytest.approx(COLDEST)


def test_logits_that_are_all_equal_are_left_as_they_are() -> None:
    logits, actual = np.zeros((50, 3), dtype=np.float32), np.arange(50) % 3
    assert fit(logits, actual, "temperature").scale == (1.0, 1.0, 1.0)
    assert fit(logits, actual, "vector").scale == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("method", ["temperature", "vector"])
@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_a_few_rows_move_a_scaling_only_a_little(method: Method, n_rows: int) -> None:
    logits, actual = drawn(n_rows, [1.0] * 3, [0.0] * 3)
    scaling = fit(logits, actual, method)
    assert not is_at_bound(scaling)
    assert max(map(abs, scaling.bias)) < 2.5
    assert 0.3 < min(scaling.scale) <= max(scaling.scale) < 3


def test_a_label_without_rows_stays_possible() -> None:
    logits, actual = drawn(500, [1.0] * 3, [0.0, 0.0, -30.0])
    assert set(actual) == {0, 1}
    scaling = fit(logits, actual, "vector")
    assert np.isfinite([scaling.scale, scaling.bias]).all()
    assert probabilities_of(logits, scaling)[:, 2].min() > 1e-30


def test_without_a_method_the_probabilities_are_the_model_s_own() -> None:
    logits, actual = drawn(300, [0.3] * 3, [0.0] * 3)
    assert fit(logits, actual, "none") == unscaled(3)
    found = calibrated(Calibration(method="none"), logits, actual)
    assert found["loss"] == found["loss_before"]
    assert found["abstention"] is None
    assert found["told"] == ()


def test_a_precision_that_no_confidence_shows_is_told_in_words() -> None:
    logits, actual = drawn(60, [1.0] * 2, [0.0] * 2, spread=0.5)
    settings = Calibration.model_validate({"abstain": {"target": "precision", "value": 0.999}})
    found = calibrated(settings, logits, actual)
    assert found["abstention"].threshold is None
    (told,) = found["told"]
    assert told.startswith("no confidence shows a precision of 0.999 on 60 validation rows, so ")
