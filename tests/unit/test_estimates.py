"""Estimates: their intervals beside published ones, how often they hold, and distances from limits."""

from math import inf, isclose
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, bootstrap, norm

from tasks.estimates import (
    NORMAL,
    Z95,
    Average,
    Counted,
    Estimate,
    Overlap,
    Share,
    deviates,
    holm,
    level_text,
    more_rows,
)
from tasks.figures import estimates_of

LABELS = ("ham", "eggs", "spam")
CONFUSION = np.array([[50, 6, 2], [8, 25, 1], [3, 2, 9]])
ALL_RIGHT = np.array([[174, 1], [0, 25]])


def estimates(confusion: NDArray[np.int64], samples: int = 2000) -> dict[str, Estimate | None]:
    """Return the estimates of a confusion matrix."""
    return estimates_of(confusion, LABELS[-len(confusion) :], samples, 0)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (1, 10), (7, 10), (10, 10), (1, 1), (879, 892)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_a_share_has_the_interval_that_scipy_calls_wilson(
    right: int, n: int, confidence: float
) -> None:
    theirs = binomtest(right, n).proportion_ci(confidence, method="wilson")
    ours = Share(right, n).interval(NORMAL.inv_cdf(0.5 + confidence / 2))
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("limit", [0.5, 0.8, 0.84, 0.85, 0.86, 0.9, 0.99])
@pytest.mark.parametrize("estimate", [Share(85, 100), Overlap(Share(85, 100))])
def test_a_limit_lies_on_the_interval_that_is_as_wide_as_its_distance(
    estimate: Estimate, limit: float
) -> None:
    distance = estimate.distance(limit)
    if estimate.value == limit:
        assert distance == 0.0
        return
    assert (distance > 0) == (estimate.value > limit)
    ends = estimate.interval(abs(distance))
    assert isclose(ends.low if distance > 0 else ends.high, limit, abs_tol=1e-9)


def test_limits_of_none_and_all_are_reached_or_not_whatever_the_rows() -> None:
    assert Share(1, 2).distance(0.0) == inf
    assert Share(1, 2).distance(1.0) == -inf
    assert Share(2, 2).distance(1.0) == 0.0


@pytest.mark.parametrize("n", range(1, 100))
def test_the_interval_of_none_begins_at_0_and_that_of_all_ends_at_1(n: int) -> None:
    assert (Share(0, n).interval(Z95).low, Share(n, n).interval(Z95).high) == (0.0, 1.0)


def test_an_overlap_is_the_f1_of_its_label() -> None:
    estimate = Overlap(Share(9, 9 + 5 + 3))
    assert estimate.value == pytest.approx(2 * 9 / (2 * 9 + 5 + 3))
    assert estimate.n == 14 + 12


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("step", [-0.2, -0.05, -0.01, 0.01, 0.03])
def test_the_distance_of_an_average_is_where_the_limit_leaves_its_interval(
    name: str, average: str, step: float
) -> None:
    estimate = estimates(CONFUSION, 4000)[f"{name}.{average}"]
    assert isinstance(estimate, Average)
    limit = estimate.value + step
    distance = estimate.distance(limit)
    assert (distance > 0) == (step < 0)
    narrow, wide = (estimate.interval(abs(distance) * share) for share in (0.9, 1.1))
    assert not narrow.low <= limit <= narrow.high
    if abs(distance) < 2.5:  # farther out no resample lies between
        assert wide.low <= limit <= wide.high


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_the_bootstrap_s_part_is_what_scipy_calls_bca_over_rows(name: str) -> None:
    actual, given = np.repeat(np.indices(CONFUSION.shape).reshape(2, -1), CONFUSION.ravel(), axis=1)

    def macro(actual: NDArray[np.int64], given: NDArray[np.int64], axis: int = -1) -> Any:
        found = []
        for label in range(len(CONFUSION)):
            is_so, named = actual == label, given == label
            right = (is_so & named).sum(axis)
            of, given_to = is_so.sum(axis), named.sum(axis)
            whole = {"precision": given_to, "recall": of, "f1": (of + given_to) / 2}[name]
            found.append(right / whole)
        return np.mean(found, axis=0)

    theirs = bootstrap(
        (actual, given), macro, paired=True, n_resamples=10_000, method="BCa", batch=500,
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    estimate = estimates(CONFUSION, 20_000)[f"{name}.macro"]
    assert isinstance(estimate, Average)
    assert estimate.resampled.interval(Z95) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_a_label_without_an_error_leaves_no_interval_without_width() -> None:
    found = estimates(ALL_RIGHT)
    for name in ("recall.macro", "precision.macro", "f1.macro"):
        estimate = found[name]
        assert estimate is not None
        low, high = estimate.interval(Z95)
        assert low < estimate.value - 0.03
        assert high > estimate.value
    perfect = estimates(np.diag([40, 40]))["f1.macro"]
    assert perfect is not None
    assert perfect.interval(Z95).low < 0.97
    assert perfect.distance(0.9) < inf


@pytest.mark.parametrize(
    ("shares", "rows"),
    [
        ([[0.995, 0.005], [0.09, 0.91]], [175, 25]),
        ([[0.8, 0.15, 0.05], [0.15, 0.7, 0.15], [0.05, 0.15, 0.8]], [90, 135, 75]),
        ([[0.97, 0.03, 0.0], [0.02, 0.97, 0.01], [0.1, 0.1, 0.8]], [300, 80, 8]),
    ],
)
def test_a_figure_that_is_worse_than_its_interval_is_rare(
    shares: list[list[float]], rows: list[int]
) -> None:
    draw = np.random.default_rng(1)
    true = np.array(shares) * np.array(rows)[:, None]
    right, given, of = true.diagonal(), true.sum(axis=0), true.sum(axis=1)
    truth = {
        "accuracy": right.sum() / of.sum(),
        "precision.macro": (right / given).mean(),
        "recall.macro": (right / of).mean(),
        "f1.macro": (2 * right / (given + of)).mean(),
        f"recall.{LABELS[-1]}": right[-1] / of[-1],
        f"f1.{LABELS[-1]}": 2 * right[-1] / (given + of)[-1],
    }
    trials = 200
    above = dict.fromkeys(truth, 0)
    outside = dict.fromkeys(truth, 0)
    for _ in range(trials):
        drawn = np.stack([draw.multinomial(n, p) for n, p in zip(rows, shares, strict=True)])
        found = estimates(drawn, 400)
        for name, value in truth.items():
            estimate = found[name]
            assert estimate is not None
            low, high = estimate.interval(Z95)
            above[name] += value < low
            outside[name] += not low <= value <= high
    # 2.5 % and 5 % of 200 are 5 and 10; the bounds are four standard deviations of chance away.
    assert all(count <= 14 for count in above.values()), above
    assert all(count <= 22 for count in outside.values()), outside


@pytest.mark.parametrize("limit", [0.55, 0.7, 0.94])
def test_an_average_over_a_label_that_is_never_given_is_open_up_to_all_that_it_may_be(
    limit: float,
) -> None:
    estimate = estimates(np.array([[90, 0], [10, 0]]))["precision.macro"]
    assert estimate is not None
    low, high = estimate.interval(0.0)
    assert low <= estimate.value < limit <= high
    assert estimate.distance(limit) == 0.0
    assert estimate.distance(0.2) > Z95


def test_more_rows_are_those_with_which_the_limit_would_be_settled_eight_times_in_ten() -> None:
    rows, limit = 500, 0.9
    draw = np.random.default_rng(2)
    settled: list[bool] = []
    for true in draw.uniform(0.8, 1.0, size=8000):  # whatever the true share is
        first = Share(int(draw.binomial(rows, true)), rows).distance(limit)
        needed = more_rows(first, rows)
        if abs(first) < Z95 and needed is not None:
            again = draw.binomial(rows + needed, true)
            settled.append(abs(Share(int(again), rows + needed).distance(limit)) >= Z95)
    assert len(settled) > 2000
    assert 0.77 < np.mean(settled) < 0.83


def test_more_rows_are_fewer_the_farther_the_limit_is_on_either_side() -> None:
    asked = [more_rows(distance, 500) or 0 for distance in (0.1, 0.5, 1.0, 1.5, 1.9)]
    assert asked == sorted(asked, reverse=True)
    assert len(set(asked)) == len(asked)
    assert more_rows(-1.0, 500) == more_rows(1.0, 500)
    assert (more_rows(1.0, 500, deviates(10)) or 0) > (more_rows(1.0, 500) or 0)
    assert more_rows(30.0, 500) == 1
    assert more_rows(0.0, 500) is None


def test_holm_rejects_what_is_too_far_below_for_chance_among_so_many() -> None:
    level = NORMAL.cdf(-Z95)
    just = {count: NORMAL.inv_cdf(level / count) - 1e-6 for count in (1, 2, 3)}
    assert holm({"a": just[3], "b": just[2], "c": just[1]}) == {"a", "b", "c"}
    assert holm({"a": just[3], "b": just[2] + 0.01, "c": just[1]}) == {"a"}
    assert holm({"a": just[1], "b": 3.0, "c": 5.0}) == set()
    assert holm({"a": -inf, "b": inf}) == {"a"}
    assert holm({}) == set()


def test_a_count_is_the_same_to_all_deviates_and_endlessly_far_from_any_other() -> None:
    counted = Counted(3, 1000)
    assert counted.interval(1.0) == counted.interval(9.0) == (3.0, 3.0)
    assert [counted.distance(limit) for limit in (2.0, 3.0, 4.0)] == [inf, 0.0, -inf]


@pytest.mark.parametrize(
    ("comparisons", "level"),
    [(1, "95%"), (2, "97.5%"), (3, "98.3%"), (10, "99.5%"), (100, "99.95%")],
)
def test_intervals_for_several_comparisons_share_the_error(comparisons: int, level: str) -> None:
    z = deviates(comparisons)
    assert 2 * norm.sf(z) * comparisons == pytest.approx(0.05, rel=1e-12)
    assert level_text(z) == level
