"""Reliability: the bins, the calibration error, how often its interval holds, and its rule."""

from math import isclose
from typing import Any

import numpy as np
import pytest
from evaluations import report_of

from configs.errors import GateError
from configs.schema import Gate
from tasks.estimates import Z95
from tasks.gate import judge
from tasks.manifests import Evidence, GateDecision, ReliabilityBin
from tasks.reliability import CalibrationError, calibration_error, reliability_bins


def measured(n_rows: int, gap: float, draw: np.random.Generator) -> CalibrationError:
    """Return the error of rows whose confidence is higher by `gap` than the chance to be right."""
    confidence = 0.5 + draw.beta(4, 1, n_rows) / 2
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    actual = (draw.random(n_rows) >= confidence - gap).astype(np.int64)
    return CalibrationError(reliability_bins(probabilities, actual, 15))


def test_the_error_is_what_one_gets_by_sorting_and_cutting_by_hand() -> None:
    draw = np.random.default_rng(1)
    probabilities = draw.dirichlet([3.0, 1.0, 1.0], 200)
    actual = draw.integers(0, 3, 200)
    rows = sorted(
        zip(probabilities.max(axis=1), probabilities.argmax(axis=1) == actual, strict=True)
    )
    error = sum(
        abs(np.mean([c for c, _ in part]) - np.mean([r for _, r in part])) * len(part) / 200
        for part in (rows[start : start + 20] for start in range(0, 200, 20))
    )
    bins = reliability_bins(probabilities, actual, 10)
    assert [part.rows for part in bins] == [20] * 10
    assert CalibrationError(bins).value == pytest.approx(error)
    assert CalibrationError(bins).n == 200


def test_fewer_rows_than_bins_make_a_bin_each() -> None:
    bins = reliability_bins(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 0]), 15)
    assert [(part.rows, part.confidence, part.right) for part in bins] == [(1, 0.7, 0), (1, 0.9, 1)]
    assert calibration_error(bins) == CalibrationError(bins)
    assert calibration_error(()) is None


BINS = {
    "a common model": [(60, 40.0, 33), (60, 52.0, 50), (60, 58.0, 59), (59, 58.9, 59)],
    "not one error": [(60, 58.0, 60), (60, 59.9, 60)],
    "no error and full confidence": [(60, 60.0, 60), (60, 60.0, 60)],
    "all wrong": [(30, 29.0, 0), (30, 30.0, 0)],
    "calibrated beyond chance": [(60, 30.0, 30), (60, 45.0, 45)],
}


def error_of(name: str) -> CalibrationError:
    return CalibrationError(
        tuple(
            ReliabilityBin(rows=rows, confidence=confidence, right=right)
            for rows, confidence, right in BINS[name]
        )
    )


@pytest.mark.parametrize("name", BINS)
@pytest.mark.parametrize("limit", [0.001, 0.02, 0.05, 0.1, 0.3, 0.9])
def test_a_limit_lies_on_the_interval_that_is_as_wide_as_its_distance(
    name: str, limit: float
) -> None:
    estimate = error_of(name)
    distance = estimate.distance(limit)
    assert (distance > 0) == (estimate.value > limit)
    ends = estimate.interval(abs(distance))
    assert isclose(ends.low if distance > 0 else ends.high, limit, abs_tol=1e-6)
    for z in (0.5, 1.0, Z95, 3.0):
        low, high = estimate.interval(z)
        assert 0.0 <= low <= estimate.value <= high <= 1.0
        assert (abs(distance) > z) == (not low <= limit <= high)


def test_the_interval_without_an_error_is_as_wide_as_that_of_a_share() -> None:
    low, high = error_of("no error and full confidence").interval(Z95)
    assert low == 0.0
    assert high == pytest.approx(Z95**2 / 120)  # Wilson's has 120 + z^2 there


@pytest.mark.parametrize("n_rows", [150, 900])
@pytest.mark.parametrize("gap", [0.0, 0.05, 0.12])
def test_the_interval_holds_the_error_of_its_bins(n_rows: int, gap: float) -> None:
    draw = np.random.default_rng(2)
    below = above = 0
    for _ in range(200):
        low, high = measured(n_rows, gap, draw).interval(Z95)
        below += gap < low
        above += gap > high
    # 2.5 % of 200 are 5, and 13 are four standard deviations of chance more.
    assert below <= 13
    assert above <= 13


def test_a_calibrated_model_passes_though_chance_alone_makes_an_error() -> None:
    draw = np.random.default_rng(4)
    found = [measured(900, 0.0, draw) for _ in range(100)]
    assert np.mean([estimate.value for estimate in found]) > 0.02
    assert np.mean([estimate.distance(0.06) <= -Z95 for estimate in found]) > 0.9


# --- The gate's rule -------------------------------------------------------------------------------

GATE = {"calibration": {"max_error": 0.05}}
# 970 of 1000 are right, as in the confusion matrix.
SOUND = [(250, 230.0, 230), (250, 245.0, 244), (250, 247.0, 246), (250, 249.9, 250)]
OVERCONFIDENT = [(500, 495.0, 470), (500, 499.0, 500)]
FAR_TOO_SURE = [(250, 249.0, 220), (750, 560.0, 750)]


def decision_on(bins: list[tuple[int, float, int]], **limits: Any) -> GateDecision:
    """Return what a gate says of the bins."""
    reliability = tuple(
        ReliabilityBin(rows=rows, confidence=confidence, right=right)
        for rows, confidence, right in bins
    )
    report = report_of().model_copy(update={"reliability": reliability})
    return judge(Gate.model_validate(GATE | limits), Evidence(evaluation=report))


@pytest.mark.parametrize(
    ("bins", "verdict", "words"),
    [
        (SOUND, "pass", "calibration error: 0.0021 [0.0000, 0.0"),
        (OVERCONFIDENT, "pass", "calibration error: 0.0260 ["),
        (FAR_TOO_SURE, "reject", "calibration error: 0.2190 ["),
    ],
)
def test_the_error_must_stay_within_its_limit(
    bins: list[tuple[int, float, int]], verdict: str, words: str
) -> None:
    decision = decision_on(bins)
    (rule,) = decision.rules
    assert rule.at_most
    assert (rule.metric, rule.verdict) == ("calibration error", verdict)
    assert rule.reason.startswith(words)
    assert rule.reason.endswith({"pass": "stays within 0.05", "reject": "is above 0.05"}[verdict])


def test_an_error_that_chance_explains_either_way_is_undecided() -> None:
    limit = {"calibration": {"max_error": 0.027}}
    (rule,) = decision_on(OVERCONFIDENT, **limit).rules
    assert rule.verdict == "undecided"
    assert rule.more_rows is not None
    (rule,) = decision_on(OVERCONFIDENT, judge_on="value", **limit).rules
    assert rule.verdict == "pass"


def test_bins_that_were_not_kept_leave_the_rule_undecided() -> None:
    (rule,) = decision_on([]).rules
    assert (rule.verdict, rule.reason) == ("undecided", "calibration error: was not measured")


@pytest.mark.parametrize(
    "bins",
    [
        [(999, 970.0, 970)],
        [(1000, 970.0, 971)],
        [(1000, 1001.0, 970)],
        [(1000, float("nan"), 970)],
        [(1000, -1.0, 970)],
        [(500, 499.0, 501), (500, 480.0, 469)],
        [(1000, 970.0, 970), (0, 0.0, 0)],
    ],
)
def test_bins_that_contradict_the_confusion_matrix_are_refused(
    bins: list[tuple[int, float, int]],
) -> None:
    with pytest.raises(GateError, match="calibration error: the bins count"):
        decision_on(bins)
