"""The gap between slices: its interval beside published ones, and how often it misleads."""

from math import inf, isclose

import numpy as np
import pytest

from tasks.estimates import NORMAL, Z95, Estimate, Share
from tasks.figures import estimates_of
from tasks.gaps import Gap

# Newcombe 1998, "Interval estimation for the difference between independent proportions", table II,
# method 10; a gap has no sign, so that an end below 0 is 0.
PUBLISHED = {
    "a": ((56, 70), (48, 80), 0.0524, 0.3339),
    "b": ((9, 10), (3, 10), 0.1705, 0.8090),
    "c": ((6, 7), (2, 7), 0.0582, 0.8062),
    "d": ((5, 56), (0, 29), 0.0, 0.1926),
    "f": ((0, 10), (0, 10), 0.0, 0.2775),
    "g": ((10, 10), (0, 20), 0.6791, 1.0),
    "h": ((10, 10), (0, 10), 0.6075, 1.0),
}
THREE = Gap((Share(90, 100), Share(80, 100), Share(70, 100)))


def averages() -> Gap:
    """Return the gap of a macro average between three slices."""
    slices = [[[40, 5], [6, 30]], [[70, 3], [9, 20]], [[25, 9], [8, 30]]]
    found = [estimates_of(np.array(each), ("a", "b"), 1000, 0)["f1.macro"] for each in slices]
    return Gap(tuple(each for each in found if each is not None))


@pytest.mark.parametrize(("one", "other", "low", "high"), PUBLISHED.values(), ids=PUBLISHED)
def test_the_gap_of_two_slices_has_newcombe_s_interval(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    for shares in ((one, other), (other, one)):
        gap = Gap(tuple(Share(*share) for share in shares))
        assert gap.value == pytest.approx(abs(one[0] / one[1] - other[0] / other[1]))
        assert gap.interval(Z95) == pytest.approx((low, high), abs=5e-5)


def test_the_gap_of_more_is_that_of_the_pair_farthest_apart_its_lower_end_corrected() -> None:
    assert THREE.value == pytest.approx(0.2)
    assert THREE.n == 100
    low, high = THREE.interval(Z95)
    pair = Gap((Share(90, 100), Share(70, 100)))
    assert high == pair.interval(Z95).high
    assert low == pytest.approx(pair.interval(-NORMAL.inv_cdf(0.025 / 3)).low)
    assert low < pair.interval(Z95).low


def test_a_small_slice_may_widen_the_gap_beyond_that_of_the_best_and_worst() -> None:
    large = (Share(900, 1000), Share(880, 1000))
    assert Gap((*large, Share(18, 20))).interval(Z95).high > Gap(large).interval(Z95).high + 0.05


@pytest.mark.parametrize("gap", [THREE, averages()], ids=["shares", "averages"])
@pytest.mark.parametrize("step", [-0.06, -0.03, -0.01, 0.01, 0.03, 0.06, 0.15])
def test_a_limit_lies_on_the_interval_that_is_as_wide_as_its_distance(
    gap: Gap, step: float
) -> None:
    limit = gap.value + step
    distance = gap.distance(limit)
    assert (distance > 0) == (step < 0)
    ends = gap.interval(abs(distance))
    assert isclose(ends.low if distance > 0 else ends.high, limit, abs_tol=1e-6)
    inside, outside = (gap.interval(abs(distance) * share) for share in (1.01, 0.99))
    assert inside.low <= limit <= inside.high
    assert not outside.low <= limit <= outside.high


def test_a_limit_on_the_gap_or_out_of_its_reach() -> None:
    assert THREE.distance(THREE.value) == 0.0
    assert THREE.distance(0.99) == -inf


@pytest.mark.parametrize("right", [(0.9, 0.8), (0.9, 0.85, 0.8), (0.9, 0.9, 0.8, 0.8)])
def test_a_gap_at_its_limit_seldom_passes_and_is_seldom_rejected(right: tuple[float, ...]) -> None:
    draw = np.random.default_rng(3)
    trials, passed, rejected = 1000, 0, 0
    for _ in range(trials):
        found = draw.binomial(300, right)
        gap: Estimate = Gap(tuple(Share(int(each), 300) for each in found))
        distance = gap.distance(max(right) - min(right))
        passed += distance <= -Z95
        rejected += distance >= Z95
    # 2.5 % of 1000 are 25; the bound is four standard deviations of chance away.
    assert passed <= 45
    assert rejected <= 45
    assert passed + rejected > 0


def test_the_gap_of_averages_over_a_label_that_is_never_given_is_open() -> None:
    slices = [[[60, 25], [25, 16]], [[90, 0], [10, 0]]]
    found = [estimates_of(np.array(each), ("a", "b"), 500, 0)["precision.macro"] for each in slices]
    gap = Gap(tuple(each for each in found if each is not None))
    assert gap.value == pytest.approx((60 / 85 + 16 / 41) / 2 - 0.45)
    assert gap.distance(gap.value + 0.01) == 0.0
