"""What one model gains over another on the same rows, figure by figure, and how surely."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, sqrt

import numpy as np

from tasks.estimates import NORMAL, Estimate, Interval, Resampled, spanned
from tasks.manifests import Contest
from tasks.resampling import Counts, Drawn, Ids, Resamples, averages_of, ratios_of


def columns_of(contest: Contest) -> Counts:
    """Return the contest as [4, n_cells]: actual, given, given by the other, rows."""
    return np.array(contest.counts, dtype=np.int64).reshape(-1, 4).T


@dataclass(frozen=True)
class PairedShare:
    """The difference of two shares of the same `n` rows: `gained` by one alone, `lost` by it alone.

    The interval is the score interval for paired shares (Tango 1998), whose test of no difference is
    McNemar's. A limit of 0 is held against the exact test of McNemar too (Liddell 1983), and the
    more cautious of the two counts.
    """

    gained: int
    lost: int
    n: int

    @property
    def method(self) -> str:
        """Return the name of the interval's method, with the p-value of the exact test beside it."""
        return (
            f"Tango's score interval; McNemar's exact test of no difference: p={self.p_value:.2g}"
        )

    @property
    def value(self) -> float:
        """Return the difference."""
        return (self.gained - self.lost) / self.n

    @property
    def p_value(self) -> float:
        """Return the two-sided p-value of McNemar's exact test of no difference."""
        from scipy.stats import binomtest

        discordant = self.gained + self.lost
        return float(binomtest(self.gained, discordant).pvalue) if discordant else 1.0

    def interval(self, z: float) -> Interval:
        """Return the interval to `z` deviates."""
        from scipy.optimize import brentq

        def end(z: float, outermost: float) -> float:
            if self._score(outermost) * np.sign(z) < abs(z):
                return float(round(outermost))
            return float(brentq(lambda limit: self._score(limit) - z, outermost, self.value))

        if z == 0.0:
            return Interval(self.value, self.value)
        return Interval(end(z, -1 + 1e-12), end(-z, 1 - 1e-12))

    def distance(self, limit: float) -> float:
        """Return by how many deviates the difference is above the limit."""
        score = self._score(limit)
        if limit != 0.0 or score == 0.0:
            return score
        exact = -NORMAL.inv_cdf(max(self.p_value / 2, 1e-300))
        return min(score, exact if score > 0 else -exact, key=abs)

    def _score(self, limit: float) -> float:
        """Return Tango's statistic, with the share that is lost at its most likely under the limit."""
        above = self.gained - self.lost - self.n * limit
        if abs(above) < 1e-12 * self.n:
            return 0.0
        linear = (2 * self.n - self.gained + self.lost) * limit - self.gained - self.lost
        product = -self.lost * limit * (1 - limit)
        lost = (sqrt(linear**2 - 8 * self.n * product) - linear) / (4 * self.n)
        spread = self.n * (2 * lost + limit * (1 - limit))
        if spread <= 0:
            return inf if above > 0 else -inf
        return above / sqrt(spread)


@dataclass(frozen=True)
class Gain:
    """The difference of one figure of two models on the same rows, by a paired bootstrap.

    The interval spans two: BCa over the rows, which tells nothing where the models never differ,
    and the resamples of the rows with one more for each label and direction in which the models
    do not differ, since what was not seen in n rows may be as frequent as a few in n. An average
    counts the precision of a label that is never given as 0, and it may be anything: so the gain may
    be less by `below`, the weight of the labels that the other model never gave, and more by `above`,
    that of those which the candidate never gave.
    """

    resampled: Resampled
    cautious: Resampled
    n: int
    below: float = 0.0
    above: float = 0.0

    @property
    def value(self) -> float:
        """Return the difference."""
        return self.resampled.value

    @property
    def method(self) -> str:
        """Return the name of the interval's method."""
        return f"paired BCa bootstrap, {len(self.resampled.drawn)} resamples"

    def interval(self, z: float) -> Interval:
        """Return the interval to `z` deviates."""
        low, high = spanned(self.resampled.interval(z), self.cautious.interval(z))
        return Interval(max(-1.0, low - self.below), min(1.0, high + self.above))

    def distance(self, limit: float) -> float:
        """Return the distance at which the limit leaves the interval."""
        if limit < self.value:
            limit = min(limit + self.below, self.value)
        else:
            limit = max(limit - self.above, self.value)
        return min((each.distance(limit) for each in (self.resampled, self.cautious)), key=abs)


class Gains:
    """The gains of a contest in some figures; resamples are drawn when one that needs them is asked."""

    def __init__(
        self,
        contest: Contest,
        labels: tuple[str, ...],
        metrics: Iterable[str],
        samples: int,
        seed: int,
    ) -> None:
        self._cells, self._labels, self._metrics = columns_of(contest), labels, tuple(metrics)
        self._samples, self._seed = samples, seed

    def estimate(self, metric: str) -> Estimate | None:
        """Return the estimate of the gain in one figure, or None where either has none."""
        actual, given, other, rows = self._cells
        total = int(rows.sum())
        if not total or not self._is_defined(metric):
            return None
        if metric == "accuracy":
            right, others = actual == given, actual == other
            gained, lost = rows[right & ~others].sum(), rows[~right & others].sum()
            return PairedShare(int(gained), int(lost), total)
        exact, cautious = (resamples.resampled(metric) for resamples in self._resamples)
        moved = replace(
            cautious, value=exact.value, drawn=cautious.drawn - cautious.value + exact.value
        )
        return Gain(exact, moved, total, *self._never_given(metric))

    def _never_given(self, metric: str) -> tuple[float, float]:
        """Return the weight that the other's, and the candidate's, unknown precisions have in it."""
        actual, given, other, rows = self._cells
        labels = np.arange(len(self._labels))
        weights = {
            "precision.macro": np.full(len(labels), 1 / len(labels)),
            "precision.weighted": np.bincount(actual, rows, len(labels)) / rows.sum(),
        }.get(metric, np.zeros(len(labels)))
        unknown = [float(weights[~np.isin(labels, named)].sum()) for named in (other, given)]
        return unknown[0], unknown[1]

    def _is_defined(self, metric: str) -> bool:
        name, _, part = metric.partition(".")
        actual, *named = (set(column.tolist()) for column in self._cells[:3])
        if part in ("", "weighted"):
            return True
        if part == "macro":
            return len(actual) == len(self._labels)
        label = self._labels.index(part)
        in_both = all(label in labels for labels in named)
        return {"recall": label in actual, "precision": in_both}.get(
            name, label in actual or in_both
        )

    @cached_property
    def _resamples(self) -> tuple[Resamples, Resamples]:
        both = []
        for cells in (self._cells, np.hstack([self._cells, self._unseen()])):
            figures = self._differences(*cells[:3])
            both.append(Resamples(cells[3], figures, self._samples, self._seed))
        return both[0], both[1]

    def _unseen(self) -> Counts:
        """Return a row for each label and direction in which the models do not differ."""
        actual, given, other, rows = self._cells
        found = []
        for label in np.unique(actual).tolist():
            elsewhere = np.bincount(
                actual[actual != label], rows[actual != label], len(self._labels)
            )
            wrong = int(elsewhere.argmax()) if elsewhere.any() else (label + 1) % len(self._labels)
            own = actual == label
            if not (own & (given == label) & (other != label)).any():
                found.append((label, label, wrong, 1))
            if not (own & (given != label) & (other == label)).any():
                found.append((label, wrong, label, 1))
        return np.array(found, dtype=np.int64).reshape(-1, 4).T

    def _differences(
        self, actual: Ids, given: Ids, other: Ids
    ) -> Callable[[Counts], dict[str, Drawn]]:
        names = [metric for metric in self._metrics if metric != "accuracy"]

        def figures(drawn: Counts) -> dict[str, Drawn]:
            one, two = (
                self._figures(self._ratios(drawn, actual, named, own), names)
                for named, own in zip((given, other), self._cells[1:3], strict=True)
            )
            return {name: one[name] - two[name] for name in names}

        return figures

    def _ratios(self, drawn: Counts, actual: Ids, named: Ids, own: Ids) -> dict[str, Drawn]:
        """Return the ratios, with the precision of what the model's `own` labels lack left at 0."""
        ratios = ratios_of(drawn, actual, named, len(self._labels))
        ratios["precision"] *= np.isin(np.arange(len(self._labels)), own)
        return ratios

    def _figures(self, ratios: dict[str, Drawn], names: list[str]) -> dict[str, Drawn]:
        found = averages_of(ratios)
        for name in names:
            metric, _, part = name.partition(".")
            if part in self._labels:
                found[name] = ratios[metric][:, self._labels.index(part)]
        return found
