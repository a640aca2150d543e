"""Measure how often the gate releases, by simulation, beside one that judges the measured value.

`python -m benchmarks.gate` draws confusion matrices of models whose true figures are known, for test
sets of 200 to 20,000 rows, and counts how often a limit that lies 5 points above to 5 points below
the truth lets them pass; how often the 95% interval holds the truth; and how often a model passes on
as many rows as an undecided rule asks for. `--quick` draws few. MLflow's and TFX's thresholds judge
the measured value, as `value` does here.
"""

import json
import sys
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.line import RESULTS, surroundings
from tasks.estimates import Z95, more_rows
from tasks.figures import estimates_of
from tasks.resampling import Counts

SIZES = (200, 500, 2000, 5000, 20_000)
POINTS = (-5, -2, -1, -0.5, 0, 0.5, 1, 2, 5)
"""By how many points the true figure is above the limit."""
SAMPLES, PILOT = 1000, 500


class Population(NamedTuple):
    """Labels, the share of the rows that each has, and how each is called [n_labels, n_labels]."""

    labels: tuple[str, ...]
    shares: NDArray[np.float64]
    called: NDArray[np.float64]

    def draw(self, rows: int, generator: np.random.Generator) -> Counts:
        """Return a confusion matrix of so many rows, whose labels are drawn too."""
        joint = (self.called * self.shares[:, None]).ravel()
        return generator.multinomial(rows, joint).reshape(self.called.shape).astype(np.int64)

    def truth(self) -> dict[str, float]:
        """Return the figures of an endless number of rows."""
        confusion = self.called * self.shares[:, None]
        right, given, of = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
        f1 = 2 * right / (given + of)
        rare = self.labels[-1]
        return {
            "accuracy": float(right.sum() / of.sum()),
            "precision.macro": float((right / given).mean()),
            "recall.macro": float((right / of).mean()),
            "f1.macro": float(f1.mean()),
            f"precision.{rare}": float(right[-1] / given[-1]),
            f"recall.{rare}": float(right[-1] / of[-1]),
            f"f1.{rare}": float(f1[-1]),
        }


def populations() -> dict[str, Population]:
    """Return a spam filter, a reader of moods, and a sorter into ten topics, the rarest of 1%."""
    spam = [[0.99, 0.01], [0.09, 0.91]]
    moods = [[0.80, 0.15, 0.05], [0.15, 0.70, 0.15], [0.05, 0.15, 0.80]]
    shares = 0.65 ** np.arange(10)
    topics = np.full((10, 10), 0.1 / 9) + np.diag(np.full(10, 0.9 - 0.1 / 9))
    return {
        "spam": Population(("ham", "spam"), np.array([0.876, 0.124]), np.array(spam)),
        "moods": Population(("bad", "none", "good"), np.array([0.3, 0.45, 0.25]), np.array(moods)),
        "topics": Population(tuple(f"t{i}" for i in range(10)), shares / shares.sum(), topics),
    }


def characteristics(population: Population, rows: int, trials: int) -> dict[str, Any]:
    """Return for each figure the shares of trials in which it passes each limit, and is covered."""
    generator = np.random.default_rng(rows)
    truth = population.truth()
    passed: dict[str, Any] = {
        name: {judge: dict.fromkeys(POINTS, 0) for judge in ("value", "interval")} for name in truth
    }
    told: dict[str, int] = defaultdict(int)
    covered: dict[str, int] = defaultdict(int)
    for trial in range(trials):
        drawn = population.draw(rows, generator)
        estimates = estimates_of(drawn, population.labels, SAMPLES, trial)
        for name, true in truth.items():
            estimate = estimates[name]
            if estimate is None:  # nothing was called so: no verdict, and nothing to cover
                continue
            told[name] += 1
            low, high = estimate.interval(Z95)
            covered[name] += low <= true <= high
            for points in POINTS:
                limit = true - points / 100
                passed[name]["value"][points] += estimate.value >= limit
                passed[name]["interval"][points] += estimate.distance(limit) >= Z95
    return {
        name: {
            "told": told[name] / trials,
            "covered": covered[name] / told[name] if told[name] else None,
            **{
                judge: {str(points): count / trials for points, count in counts.items()}
                for judge, counts in passed[name].items()
            },
        }
        for name in truth
    }


def enough(population: Population, trials: int) -> dict[str, Any]:
    """Return how often a model 2 points better passes on the rows that a pilot asks for."""
    generator = np.random.default_rng(1)
    found: dict[str, list[bool]] = defaultdict(list)
    asked: dict[str, list[int]] = defaultdict(list)
    truth = population.truth()
    for trial in range(trials):
        pilot = estimates_of(population.draw(PILOT, generator), population.labels, SAMPLES, trial)
        for name in ("accuracy", "recall.macro"):
            estimate, limit = pilot[name], truth[name] - 0.02
            if estimate is None:  # some label has no row, so that no number of rows is told
                continue
            distance = estimate.distance(limit)
            more = 0 if abs(distance) >= Z95 else more_rows(distance, PILOT)
            if not more or more > 1_000_000:
                continue
            rows = PILOT + more
            again = estimates_of(
                population.draw(rows, generator), population.labels, SAMPLES, trial
            )[name]
            found[name].append(again is not None and again.distance(limit) >= Z95)
            asked[name].append(rows)
    return {
        name: {
            "passed": float(np.mean(verdicts)),
            "trials": len(verdicts),
            "rows_asked": [int(q) for q in np.quantile(asked[name], [0.1, 0.5, 0.9])],
        }
        for name, verdicts in found.items()
    }


def main(arguments: list[str]) -> None:
    """Draw, print a table, and write `benchmarks/results/gate.json`."""
    quick = "--quick" in arguments
    sizes, trials = ((200, 500), 20) if quick else (SIZES, 1000)
    file = RESULTS / ("gate_quick.json" if quick else "gate.json")
    results: dict[str, Any] = {**surroundings(), "trials": trials, "sets": {}}
    results["command"] = " ".join(["python", "-m", "benchmarks.gate", *arguments])
    for name, population in populations().items():
        results["sets"][name] = {
            "sizes": {str(rows): characteristics(population, rows, trials) for rows in sizes},
            "enough": enough(population, trials),
        }
        file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _print(results["sets"])


def _print(sets: dict[str, Any]) -> None:
    table = Table(
        "set", "rows", "figure", "covered", "1 worse: value", "ours", "2 better: value", "ours"
    )
    for name, found in sets.items():
        for rows, figures in found["sizes"].items():
            for figure, rates in figures.items():
                cells = [
                    f"{rates[judge][points]:.3f}"
                    for points in ("-1", "2")
                    for judge in ("value", "interval")
                ]
                covered = "" if rates["covered"] is None else f"{rates['covered']:.3f}"
                table.add_row(name, rows, figure, covered, *cells)
        for figure, rates in found["enough"].items():
            table.add_row(
                name, f"{rates['rows_asked']}", figure, "", "", "", "", f"{rates['passed']:.3f}"
            )
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
