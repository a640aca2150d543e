"""Measure how long a decision takes, beside scipy's bootstrap of the same intervals.

`python -m benchmarks.decision` judges 20 rules, of which five are on each of 50 slices and four are
gaps between them, from counts of 10,000 test rows with 2,000 resamples, and times scipy's BCa
bootstrap of the macro averages that these rules ask for, by turns; then it counts and judges 10,000 to
1,000,000 rows. `--quick` takes few rows, slices and resamples. Start it with OMP_NUM_THREADS=1 for
one core.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.line import RESULTS, surroundings
from configs.schema import Gate, PipelineConfig
from tasks.figures import estimates_of
from tasks.gate import judge
from tasks.manifests import EvaluationReport, Evidence
from tasks.questions import figure_of
from tasks.slices import slices_of

LABELS = ("negative", "neutral", "positive")
AVERAGE = {"min": 0.7, "min_weighted": 0.7}
GATE: dict[str, Any] = {
    "accuracy": {"min": 0.8},
    "precision": {**AVERAGE, "min_per_class": dict.fromkeys(LABELS, 0.6)},
    "recall": {**AVERAGE, "min_per_class": dict.fromkeys(LABELS, 0.6)},
    "slices": [
        {
            "by": "source",
            "accuracy": {"min": 0.6},
            "recall": {"min": 0.5},
            "precision": {"min": 0.5},
            "f1": {"min": 0.5, "min_per_class": {"positive": 0.4}},
            "max_gap": {"accuracy": 0.3, "recall.macro": 0.4, "f1.macro": 0.4, "f1.positive": 0.5},
        }
    ],
}
OVERALL = ("precision", "recall")
ON_SLICES = ("precision", "recall", "f1")


class Rows(NamedTuple):
    """Class ids and the slice of each test row, all [n_rows]."""

    actual: NDArray[np.int64]
    predicted: NDArray[np.int64]
    slices: NDArray[np.int64]


def draw(rows: int, n_slices: int) -> Rows:
    """Return rows of a model that is right on about nine in ten."""
    generator = np.random.default_rng(rows)
    actual = generator.choice(len(LABELS), rows, p=[0.4, 0.4, 0.2])
    guessed = generator.integers(0, len(LABELS), rows)
    predicted = np.where(generator.random(rows) < 0.85, actual, guessed)
    return Rows(actual, predicted, generator.integers(0, n_slices, rows))


def evidence_of(rows: Rows, samples: int) -> Evidence:
    """Return what the stage evaluate would make of the rows."""
    config = PipelineConfig.model_validate(
        {
            "name": "decision",
            "data": {"uri": "x.csv", "labels": list(LABELS), "slice_columns": ["source"]},
            "evaluation": {"slices": [{"by": "column", "column": "source"}]},
            "gate": GATE,
        }
    )
    test = pa.table({"slices": pa.array(rows.slices[:, None].astype(str).tolist())})
    confusion = _confusion(rows.actual, rows.predicted)
    estimates = estimates_of(confusion, LABELS, samples, 0)
    return Evidence(
        evaluation=EvaluationReport(
            key="", parents={}, folder=Path(), files={}, rows=len(rows.actual), labels=LABELS,
            figures={name: figure_of(estimate) for name, estimate in estimates.items()},
            baseline={}, confusion=tuple(map(tuple, confusion.tolist())),
            bootstrap_samples=samples, bootstrap_seed=0,
            slices=slices_of(config, test, rows.predicted, rows.actual),
        )
    )  # fmt: skip


def _confusion(actual: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    n = len(LABELS)
    return np.bincount(actual * n + predicted, minlength=n * n).reshape(n, n)


def bootstrap_rows(rows: Rows, samples: int) -> None:
    """Make with scipy the BCa intervals of the macro averages that the rules ask for."""
    _bootstrap(rows, np.ones(len(rows.actual), dtype=bool), OVERALL, samples)
    for place in range(rows.slices.max() + 1):
        _bootstrap(rows, rows.slices == place, ON_SLICES, samples)


def _bootstrap(rows: Rows, own: NDArray[np.bool_], metrics: tuple[str, ...], samples: int) -> None:
    from scipy.stats import bootstrap

    codes = rows.actual[own] * len(LABELS) + rows.predicted[own]
    for metric in metrics:
        bootstrap(
            (codes,), _statistic(metric), n_resamples=samples, method="BCa", batch=500,
            vectorized=True, rng=np.random.default_rng(0),
        )  # fmt: skip


def _statistic(metric: str) -> Callable[..., Any]:
    """Return a macro average of codes (label's id times labels, plus the given one's), for scipy."""
    n = len(LABELS)

    def macro(codes: NDArray[np.int64], axis: int) -> Any:
        moved = np.moveaxis(codes, axis, -1)
        lines = moved.reshape(-1, moved.shape[-1])
        places = lines + np.arange(len(lines))[:, None] * n * n
        cells = np.bincount(places.ravel(), minlength=len(lines) * n * n).reshape(-1, n, n)
        right = cells.diagonal(axis1=1, axis2=2)
        given, of = cells.sum(axis=1), cells.sum(axis=2)
        whole = {"precision": given, "recall": of, "f1": (given + of) / 2}[metric]
        return (right / np.maximum(whole, 0.5)).mean(axis=1).reshape(moved.shape[:-1])[()]

    return macro


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def speed(*, quick: bool) -> dict[str, Any]:
    """Return seconds of decisions and of scipy by turns, and of decisions on more and more rows."""
    n_slices, samples, turns = (5, 200, 2) if quick else (50, 2000, 5)
    gate = Gate.model_validate(GATE)
    rows = draw(1000 if quick else 10_000, n_slices)
    evidence = evidence_of(rows, samples)
    judge(gate, evidence)
    bootstrap_rows(draw(100, 1), 100)  # once each, so that scipy is imported
    taken: dict[str, list[float]] = {"decision": [], "scipy": []}
    for _ in range(turns):
        taken["decision"].append(_seconds(lambda: judge(gate, evidence)))
        taken["scipy"].append(_seconds(lambda: bootstrap_rows(rows, samples)))
    growth = {}
    for count in (1000, 2000) if quick else (10_000, 100_000, 1_000_000):
        more = draw(count, n_slices)
        growth[str(count)] = {
            "counted": _seconds(partial(evidence_of, more, samples)),
            "judged": _seconds(partial(judge, gate, evidence_of(more, samples))),
        }
    ratios = [theirs / ours for ours, theirs in zip(*taken.values(), strict=True)]
    return {
        "rows": len(rows.actual), "slices": n_slices, "resamples": samples,
        "verdicts": len(judge(gate, evidence).rules), "seconds": taken,
        "scipy_over_decision": {"median": median(ratios), "least": min(ratios), "most": max(ratios)},
        "growth": growth,
    }  # fmt: skip


def main(arguments: list[str]) -> None:
    """Measure, print a table, and write `benchmarks/results/decision.json`."""
    quick = "--quick" in arguments
    file = RESULTS / ("decision_quick.json" if quick else "decision.json")
    results = {**surroundings(), "speed": speed(quick=quick)}
    results["command"] = " ".join(["python", "-m", "benchmarks.decision", *arguments])
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    _print(results["speed"])


def _print(found: dict[str, Any]) -> None:
    table = Table("rows", "what", "median s", "least", "most")
    for name, seconds in found["seconds"].items():
        cells = [f"{each:.2f}" for each in (median(seconds), min(seconds), max(seconds))]
        table.add_row(str(found["rows"]), name, *cells)
    for rows, seconds in found["growth"].items():
        for name, each in seconds.items():
            table.add_row(rows, name, f"{each:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
