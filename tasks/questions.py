"""Questions that the gate asks: does an estimate reach its limit, or stay within it?

Each part of the evidence has a function that yields its questions; `tasks.gate` judges all alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from configs.limits import Limits
from tasks.estimates import Z95, Counted, Estimate
from tasks.manifests import Figure, Verdict

UNDEFINED = "undefined: nothing to divide by"


@dataclass(frozen=True)
class Question:
    """One rule of a gate: an estimate and the least that it may be, or with `at_most` the most.

    `exact` marks what is counted rather than sampled: it is held against its limit as it is. Where
    there is no estimate, `missing` says why and `without` is the verdict. `rows` are those of the
    test rows that it was asked of, where that is not all, `drawn_by` the setting that left out the
    others, if one did. `meaning` is what a verdict comes to in words.
    """

    name: str
    limit: float
    estimate: Estimate | None
    at_most: bool = False
    exact: bool = False
    missing: str = "was not measured"
    without: Verdict = "undecided"
    rows: int | None = None
    drawn_by: str | None = None
    meaning: dict[Verdict, str] = field(default_factory=dict)

    @cached_property
    def distance(self) -> float | None:
        """Return by how many deviates the estimate is on the good side of the limit."""
        if self.estimate is None:
            return None
        distance = self.estimate.distance(self.limit)
        return -distance if self.at_most else distance

    @property
    def is_reached(self) -> bool:
        """Return whether the measured value alone is on the good side of the limit, or at it."""
        if self.estimate is None:
            return False
        value = self.estimate.value
        return value <= self.limit if self.at_most else value >= self.limit


def limits_of(limits: Limits) -> Iterator[tuple[str, float]]:
    """Yield (metric name, limit) for every limit that is set."""
    if limits.accuracy.min is not None:
        yield "accuracy", limits.accuracy.min
    for name in ("precision", "recall", "f1"):
        of_metric = getattr(limits, name)
        if of_metric.min is not None:
            yield f"{name}.macro", of_metric.min
        if of_metric.min_weighted is not None:
            yield f"{name}.weighted", of_metric.min_weighted
        for label, limit in sorted(of_metric.min_per_class.items()):
            yield f"{name}.{label}", limit


def figure_of(estimate: Estimate | None, value: float | None = None, z: float = Z95) -> Figure:
    """Return an estimate with its interval to `z`, or the figure of one that is undefined.

    `value` is the same figure by another road, such as a metric module, and is the one told.
    """
    if estimate is None:
        return Figure(value=None, n=0, method=UNDEFINED)
    if isinstance(estimate, Counted):
        return Figure(value=estimate.value, n=estimate.n, method=estimate.method)
    low, high = estimate.interval(z)
    told = estimate.value if value is None else value
    return Figure(value=told, low=low, high=high, n=estimate.n, method=estimate.method)
