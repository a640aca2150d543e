"""Measure how often the gate releases, beside one that judges the measured value.

`python -m benchmarks.gate [simulated] [enough] [real]` counts, for test sets of 200 to 20,000 rows,
how often a limit that lies 5 points above to 5 points below the truth lets a model pass, and how
often the 95% interval holds the truth. `simulated` draws confusion matrices of models whose true
figures are known; `real` draws test sets from what real checkpoints say of real rows
(`benchmarks.pools`), and judges their gains over one another too; `enough` counts, for both, how
often a model passes on as many rows as an undecided rule asks for. A part that is not named stays as
it was. `--quick` draws few. MLflow's and TFX's thresholds judge the measured value, as `value` does
here.
"""

import json
import re
import sys
from collections.abc import Callable
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.gate_figure import draw_rates
from benchmarks.line import RESULTS, surroundings
from benchmarks.pools import FILE, read_pools
from benchmarks.rates import POINTS, Estimates, enough, rates
from benchmarks.real import SAMPLES, enough_on_pool, on_pool
from tasks.digests import file_digest
from tasks.figures import estimates_of
from tasks.resampling import Counts

SIZES, QUICK_SIZES = (200, 500, 2000, 5000, 20_000), (200, 500)
TRIALS = {"simulated": 1000, "enough": 200, "real": 100}
QUICK_TRIALS = 4


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
    draws = (
        estimates_of(population.draw(rows, generator), population.labels, SAMPLES, trial)
        for trial in range(trials)
    )
    return rates(population.truth(), draws)


def enough_of(population: Population, trials: int) -> dict[str, Any]:
    """Return how often a model 2 points better passes on the rows that a pilot asks for."""
    generator = np.random.default_rng(1)

    def drawn(rows: int, seed: int) -> Estimates:
        return estimates_of(population.draw(rows, generator), population.labels, SAMPLES, seed)

    return enough(population.truth(), drawn, trials)


def simulated(sizes: tuple[int, ...], trials: int) -> dict[str, Any]:
    """Return the rates of each population on each number of rows."""
    return {
        name: {"drawn": {str(rows): characteristics(population, rows, trials) for rows in sizes}}
        for name, population in populations().items()
    }


def real(sizes: tuple[int, ...], trials: int) -> dict[str, Any]:
    """Return the rates of real checkpoints on each set."""
    return {name: on_pool(pool, sizes, trials) for name, pool in read_pools().items()}


PARTS: dict[str, Callable[[tuple[int, ...], int], dict[str, Any]]] = {
    "simulated": simulated,
    "enough": lambda _, trials: (
        {
            name: {"drawn": enough_of(population, trials)}
            for name, population in populations().items()
        }
        | {name: enough_on_pool(pool, trials) for name, pool in read_pools().items()}
    ),
    "real": real,
}


def main(arguments: list[str]) -> None:
    """Draw, print tables, and write `benchmarks/results/gate.json` and the figure of its real part."""
    quick = "--quick" in arguments
    file = RESULTS / ("gate_quick.json" if quick else "gate.json")
    known = json.loads(file.read_text(encoding="utf-8"))["parts"] if file.exists() else {}
    command = " ".join(["python", "-m", "benchmarks.gate", *arguments])
    for name in [part for part in PARTS if part in arguments] or PARTS:
        trials = QUICK_TRIALS if quick else TRIALS[name]
        known[name] = {**surroundings(), "command": command, "trials": trials}
        if name == "real":
            known[name]["pools"] = f"{FILE.name}, SHA-256 {file_digest(FILE)}"
        known[name]["sets"] = PARTS[name](QUICK_SIZES if quick else SIZES, trials)
        results = {**surroundings(), "command": command, "points": POINTS, "parts": known}
        text = json.dumps(results, indent=1)
        file.write_text(re.sub(r"\n {8,}", " ", text) + "\n", encoding="utf-8")
    drawing = file.with_suffix(".svg")
    drawing.write_text(draw_rates(known["real"]["sets"]), encoding="utf-8")
    _print(known)


def _print(parts: dict[str, Any]) -> None:
    table = Table("set", "of", "rows", "figure", "covered", "1 worse: value", "ours")
    worse = POINTS.index(-1)
    for name, models in (parts["simulated"]["sets"] | parts["real"]["sets"]).items():
        for of, sizes in models.items():
            for rows, figures in sizes.items():
                for figure, told in figures.items():
                    passed = [f"{told[judge][worse]:.3f}" for judge in ("value", "interval")]
                    table.add_row(name, of, rows, figure, f"{told['covered'] or nan:.3f}", *passed)
    asked = Table("set", "of", "figure", "rows asked for", "2 better: passed")
    for name, models in parts["enough"]["sets"].items():
        for of, figures in models.items():
            for figure, told in figures.items():
                asked.add_row(name, of, figure, f"{told['rows_asked']}", f"{told['passed']:.3f}")
    Console().print(table, asked)


if __name__ == "__main__":
    main(sys.argv[1:])
