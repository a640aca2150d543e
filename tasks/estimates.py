"""Estimates: a measured figure, how far chance may have moved it, and how far it is from a limit.

Distances and the width of intervals are in standard normal deviates: the interval to 95% is the one
to `Z95`, and a limit lies outside it just when its distance is more than that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt
from statistics import NormalDist
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
NORMAL = NormalDist()
Z95 = NORMAL.inv_cdf(0.975)
FARTHEST = 38.0  # deviates; beyond it a probability is no longer told from 0
UNSETTLED = 0.2  # the share of samples in which as many rows as are asked for may still not tell


class Interval(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


class Estimate(Protocol):
    """A figure with its uncertainty."""

    @property
    def value(self) -> float:
        """Return the figure as measured."""

    @property
    def n(self) -> int:
        """Return what the figure is a share of, or an average over, in rows."""

    @property
    def method(self) -> str:
        """Return the name of the interval's method."""

    def interval(self, z: float) -> Interval:
        """Return the confidence interval to `z` deviates on both sides."""

    def distance(self, limit: float) -> float:
        """Return by how many deviates the figure is above the limit."""


@dataclass(frozen=True)
class Share:
    """A proportion: `right` among `n`, with the score interval (Wilson 1927).

    The interval is preferred to the exact one, which covers the truth more often than it says
    (Brown, Cai and DasGupta 2001).
    """

    right: int
    n: int
    method: str = "Wilson"

    @property
    def value(self) -> float:
        """Return the proportion."""
        return self.right / self.n

    def interval(self, z: float) -> Interval:
        """Return the interval to `z` deviates."""
        spread = z * z / self.n
        centre = (self.value + spread / 2) / (1 + spread)
        half = z / (1 + spread) * sqrt(self.value * (1 - self.value) / self.n + spread / self.n / 4)
        low = max(0.0, centre - half) if self.right else 0.0  # rounding may leave it above
        return Interval(low, min(1.0, centre + half) if self.right < self.n else 1.0)

    def distance(self, limit: float) -> float:
        """Return the score test's statistic, of which the interval is the inversion."""
        above = self.value - limit
        if above == 0.0 or not 0.0 < limit < 1.0:
            return 0.0 if above == 0.0 else inf if above > 0 else -inf
        return above / sqrt(limit * (1 - limit) / self.n)


@dataclass(frozen=True)
class Overlap:
    """The F1 of a label, by way of the share of rows that are and are called so, of all that either.

    F1 = 2s / (1 + s) grows with that share s, which given its denominator is a proportion: so the
    interval of F1 is that of s, carried over (Lam, Gopal and Qian 2023).
    """

    share: Share
    method: str = "Wilson, by way of the Jaccard index"

    @property
    def value(self) -> float:
        """Return the F1."""
        return _f1(self.share.value)

    @property
    def n(self) -> int:
        """Return the rows that have the label or were given it, those that are both twice."""
        return self.share.n + self.share.right

    def interval(self, z: float) -> Interval:
        """Return the interval to `z` deviates."""
        return Interval(*map(_f1, self.share.interval(z)))

    def distance(self, limit: float) -> float:
        """Return by how many deviates the F1 is above the limit."""
        return self.share.distance(limit / (2 - limit))


@dataclass(frozen=True)
class Resampled:
    """A figure with what it came to in resamples of the test rows (BCa bootstrap, Efron 1987)."""

    value: float
    drawn: Values
    acceleration: float

    def interval(self, z: float) -> Interval:
        """Return the interval to `z` deviates."""
        if np.ptp(self.drawn) == 0.0:
            return Interval(self.value, self.value)
        ends = [self._bias + step for step in (-z, z)]
        shares = [NORMAL.cdf(self._bias + end / (1 - self.acceleration * end)) for end in ends]
        low, high = np.quantile(self.drawn, shares).tolist()
        return Interval(min(low, self.value), max(high, self.value))

    def distance(self, limit: float) -> float:
        """Return the distance at which an end of the interval comes to the limit."""
        if limit == self.value:
            return 0.0
        if np.ptp(self.drawn) == 0.0:
            return inf if limit < self.value else -inf
        end = NORMAL.inv_cdf(self._share_below(limit)) - self._bias
        end = end / (1 + self.acceleration * end) - self._bias
        return max(-end, 0.0) if limit < self.value else min(-end, 0.0)

    @cached_property
    def _bias(self) -> float:
        return NORMAL.inv_cdf(self._share_below(self.value))

    def _share_below(self, value: float) -> float:
        """Return the share of resamples below a value, half of those at it, never none or all."""
        share = float(((self.drawn < value).mean() + (self.drawn <= value).mean()) / 2)
        half = 0.5 / len(self.drawn)
        return min(max(share, half), 1 - half)


@dataclass(frozen=True)
class Average:
    """A weighted average of one figure over labels: what resampling and its parts both allow.

    The interval spans two. One is that of the resamples. It has nothing to vary in a label without
    a single error, and is then too short by far: with 25 rows of a label, all right, it held the
    true macro precision in 60 of 100 trials. The other is made of the labels' own intervals (Zou
    and Donner 2008, "MOVER"), and is wide just there; alone it would be too short for F1, since one
    error counts against two labels.
    """

    resampled: Resampled
    n: int
    weights: Values
    parts: tuple[Share | Overlap | None, ...]

    @property
    def value(self) -> float:
        """Return the average."""
        return self.resampled.value

    @property
    def method(self) -> str:
        """Return the name of the interval's method."""
        return f"BCa bootstrap, {len(self.resampled.drawn)} resamples, and MOVER"

    def interval(self, z: float) -> Interval:
        """Return the interval to `z` deviates."""
        return spanned(self.resampled.interval(z), self._mover(z))

    def distance(self, limit: float) -> float:
        """Return the distance at which the limit leaves the interval."""
        distance = self.resampled.distance(limit)
        return min(distance, self._mover_distance(limit), key=abs)

    def _mover(self, z: float) -> Interval:
        unknown = Interval(0.0, 1.0)
        ends = np.array([unknown if part is None else part.interval(z) for part in self.parts])
        values = np.array([0.0 if part is None else part.value for part in self.parts])
        below, above = self.weights * (values - ends[:, 0]), self.weights * (ends[:, 1] - values)
        return Interval(
            max(0.0, self.value - float(np.sqrt((below**2).sum()))),
            min(1.0, self.value + float(np.sqrt((above**2).sum()))),
        )

    def _mover_distance(self, limit: float) -> float:
        return distance_of(self._mover, self.value, limit)


def spanned(one: Interval, other: Interval) -> Interval:
    """Return the interval that holds both."""
    return Interval(min(one.low, other.low), max(one.high, other.high))


def distance_of(interval: Callable[[float], Interval], value: float, limit: float) -> float:
    """Return the deviates to which an interval around `value` must go to hold the limit."""
    from scipy.optimize import brentq

    def left(z: float) -> float:
        low, high = interval(z)
        return low - limit if limit < value else limit - high

    if left(0.0) <= 0:  # the limit is the value, or a label never given leaves it open
        return 0.0
    distance = float(brentq(left, 0.0, FARTHEST)) if left(FARTHEST) < 0 else inf
    return distance if limit < value else -distance


@dataclass(frozen=True)
class Counted:
    """A number of rows that was counted, not sampled: chance has moved it by nothing."""

    rows: int
    n: int
    method: str = "counted"

    @property
    def value(self) -> float:
        """Return the number."""
        return float(self.rows)

    def interval(self, z: float) -> Interval:  # noqa: ARG002  (it is the same to all)
        """Return the number at both ends."""
        return Interval(self.value, self.value)

    def distance(self, limit: float) -> float:
        """Return on which side of the limit the number is."""
        return 0.0 if self.value == limit else inf if self.value > limit else -inf


def _f1(share: float) -> float:
    return 2 * share / (1 + share)


def deviates(comparisons: int) -> float:
    """Return the width of intervals that all hold the truth in 95 of 100 cases (Bonferroni)."""
    return Z95 if comparisons == 1 else -NORMAL.inv_cdf(0.025 / comparisons)


def level_text(z: float) -> str:
    """Return what an interval to `z` deviates is called, such as `95%` or `98.3%`."""
    return f"{100 - float(f'{200 * NORMAL.cdf(-z):.2g}'):g}%"


def more_rows(distance: float, rows: int, z: float = Z95) -> int | None:
    """Return how many test rows, beside `rows`, would settle a limit at that distance.

    A distance grows with the root of the rows. Counted are those with which it would be beyond `z`,
    on either side, in 80 of 100 samples. As the figure measured may be too high or too low itself,
    by as much as any other sample of so many rows, this is averaged over where the true one may lie
    (predictive power, Spiegelhalter, Freedman and Blackburn 1986). None if it is on the limit.
    """
    from scipy.optimize import brentq

    if abs(distance) < 1e-6:
        return None

    def unsettled(growth: float) -> float:
        """Return how likely the distance is still within `z`, less how likely it may be."""
        spread = sqrt(1 + growth**2)  # deviates: those of a new sample, and those of this one grown
        ends = [(end - growth * distance) / spread for end in (-z, z)]
        return NORMAL.cdf(ends[1]) - NORMAL.cdf(ends[0]) - UNSETTLED

    growth = 1.0 if unsettled(1.0) <= 0 else float(brentq(unsettled, 1.0, 100.0 * z))
    return max(1, int(np.ceil(rows * growth**2)) - rows)


def holm(distances: dict[str, float], z: float = Z95) -> set[str]:
    """Return whose distances below 0 are too large to be chance, though there are many (Holm 1979).

    The level of each test is that of one side of the interval to `z`; some rule that is truly
    reached is among the answers no more often than that.
    """
    level = NORMAL.cdf(-z)
    found: set[str] = set()
    for place, name in enumerate(sorted(distances, key=lambda name: distances[name])):
        if NORMAL.cdf(distances[name]) > level / (len(distances) - place):
            break
        found.add(name)
    return found
