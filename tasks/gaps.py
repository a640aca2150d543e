"""The gap of a figure: how far its best and its worst slice are apart, and how surely."""

from dataclasses import dataclass
from math import inf

import numpy as np

from tasks.estimates import NORMAL, Z95, Estimate, Interval, Values, distance_of

FARTHEST_GAP = 8.0  # deviates; the bootstrap's own intervals tell nothing beyond


@dataclass(frozen=True)
class Gap:
    """The difference between the best and the worst of two or more slices, which share no row.

    The difference of two slices has the interval made of theirs: for shares Newcombe's hybrid score
    interval (Newcombe 1998, method 10), for averages the same recovery of variance from the ends of
    their own intervals (Zou and Donner 2008, "MOVER").

    The gap is at most a limit only if every pair's difference is. So its upper end is the largest
    of the pairs' upper ends, each at its own level (an intersection-union test, Berger 1982): that
    needs no correction. It is above the limit if any pair's is, and a pair that is so by chance is
    the likelier the more there are. So its lower end is the largest of the pairs' lower ends, at a
    level divided by the number of pairs (Bonferroni).
    """

    parts: tuple[Estimate, ...]

    @property
    def value(self) -> float:
        """Return the largest measured difference."""
        values = [part.value for part in self.parts]
        return max(values) - min(values)

    @property
    def n(self) -> int:
        """Return the rows that the slice with the fewest rests on."""
        return min(part.n for part in self.parts)

    @property
    def method(self) -> str:
        """Return the name of the interval's method."""
        return f"hybrid score (MOVER) over {self._pairs} pairs of slices, of {self.parts[0].method}"

    def interval(self, z: float) -> Interval:
        """Return the interval to `z` deviates."""
        return Interval(self._low(z), self._high(z))

    def distance(self, limit: float) -> float:
        """Return the distance at which the limit leaves the interval."""
        return distance_of(self.interval, self.value, limit)

    @property
    def _pairs(self) -> int:
        return len(self.parts) * (len(self.parts) - 1) // 2

    def _high(self, z: float) -> float:
        return float(self._differences(z)[1].max())

    def _low(self, z: float) -> float:
        return max(0.0, float(self._differences(self._corrected(z))[0].max()))

    def _corrected(self, z: float) -> float:
        """Return the deviates of one pair: Bonferroni's from 95% on, and in proportion below it.

        At less than 95% nothing is judged; there the distance is to grow with the rows from 0 on, so
        that it tells how many more are needed.
        """
        level = NORMAL.cdf(-min(max(z, Z95), FARTHEST_GAP)) / self._pairs
        return -NORMAL.inv_cdf(level) * min(1.0, z / Z95)

    def _differences(self, z: float) -> tuple[Values, Values]:
        """Return the ends of each slice's figure less each other's, both [n_slices, n_slices]."""
        ends = np.array([part.interval(min(z, FARTHEST_GAP)) for part in self.parts])
        values = np.array([part.value for part in self.parts])
        below, above = values - ends[:, 0], ends[:, 1] - values
        apart = values[:, None] - values
        low = apart - np.hypot(below[:, None], above)
        high = apart + np.hypot(above[:, None], below)
        np.fill_diagonal(low, -inf)  # a slice is no pair with itself
        np.fill_diagonal(high, -inf)
        return low, high
