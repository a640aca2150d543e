"""How often a limit lets a figure pass, of many test sets in which the true figure is known."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tasks.estimates import Z95, Estimate, more_rows

Estimates = Mapping[str, Estimate | None]

POINTS = (-5, -2, -1, -0.5, 0, 0.5, 1, 2, 5)
"""By how many points the true figure is above the limit."""


class Rates:
    """The verdicts on one figure, and how often its 95% interval held the true one."""

    def __init__(self, true: float) -> None:
        self._limits = {points: true - points / 100 for points in POINTS}
        self._true = true
        self._passed: dict[str, dict[float, int]] = {
            judge: dict.fromkeys(POINTS, 0) for judge in ("value", "interval")
        }
        self._trials = 0
        self._intervals: list[tuple[float, float]] = []

    def add(self, estimate: Estimate | None) -> None:
        """Count one more test set; one on which the figure is undefined releases nothing."""
        self._trials += 1
        if estimate is None:
            return
        self._intervals.append(estimate.interval(Z95))
        for points, limit in self._limits.items():
            if estimate.value >= limit:
                self._passed["value"][points] += 1
                self._passed["interval"][points] += estimate.distance(limit) >= Z95

    def told(self) -> dict[str, Any]:
        """Return the shares of trials: with a figure, covered, and passed at each of `POINTS`."""
        ends = np.array(self._intervals).reshape(-1, 2)
        held = (ends[:, 0] <= self._true) & (self._true <= ends[:, 1])
        return {
            "true": round(self._true, 4),
            "told": len(ends) / self._trials,
            "covered": round(float(held.mean()), 4) if len(ends) else None,
            "width": round(float((ends[:, 1] - ends[:, 0]).mean()), 4) if len(ends) else None,
            **{
                judge: [count / self._trials for count in counts.values()]
                for judge, counts in self._passed.items()
            },
        }


def rates(truth: Mapping[str, float], trials: Iterable[Estimates]) -> dict[str, Any]:
    """Return what `Rates` tells of each true figure from its estimates in each of the trials."""
    found = {name: Rates(true) for name, true in truth.items()}
    for estimates in trials:
        for name, each in found.items():
            each.add(estimates[name])
    return {name: each.told() for name, each in found.items()}


PILOT, BETTER = 500, 0.02


def enough(
    truth: Mapping[str, float], drawn: Callable[[int, int], Estimates], trials: int
) -> dict[str, Any]:
    """Return how often a model 2 points better passes on as many rows as a pilot asks for.

    `drawn` tells the estimates of so many new rows, with a seed for the bootstrap. Of the trials,
    those count in which the limit is left open by the pilot, and it asks for a number of rows.
    """
    found: dict[str, list[bool]] = {name: [] for name in truth}
    asked: dict[str, list[int]] = {name: [] for name in truth}
    for trial in range(trials):
        pilot = drawn(PILOT, trial)
        for name, true in truth.items():
            estimate, limit = pilot[name], true - BETTER
            if estimate is None or abs(distance := estimate.distance(limit)) >= Z95:
                continue
            more = more_rows(distance, PILOT)
            if more is None:
                continue
            again = drawn(PILOT + more, trial)[name]
            found[name].append(again is not None and again.distance(limit) >= Z95)
            asked[name].append(PILOT + more)
    return {
        name: {
            "passed": round(float(np.mean(verdicts)), 4),
            "trials": len(verdicts),
            "rows_asked": [int(q) for q in np.quantile(asked[name], [0.1, 0.5, 0.9])],
        }
        for name, verdicts in found.items()
        if verdicts
    }
