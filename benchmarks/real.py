"""How often the gate releases real checkpoints, on test sets drawn from what they said of real rows.

The figures on the whole pool are the true ones. A draw with replacement is one of counts: of how a
row is labelled and how each of two models calls it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.pools import BASELINE, CHECKPOINTS, LAST, Pool
from benchmarks.rates import rates
from tasks.contests import Gains, contest_of
from tasks.estimates import Estimate
from tasks.figures import confusion_of, estimates_of
from tasks.manifests import Contest
from tasks.reliability import calibration_error, reliability_bins
from tasks.resampling import Counts

SAMPLES, BINS = 1000, 15
FIRST, SECOND, _ = CHECKPOINTS
PAIRS = ((SECOND, FIRST), (LAST, SECOND), (LAST, BASELINE))
"""A candidate, and the champion or the baseline that it is held against."""


def on_pool(pool: Pool, sizes: tuple[int, ...], trials: int) -> dict[str, Any]:
    """Return the rates of limits on each checkpoint, on each pair's gains, and on the calibration."""
    each: dict[str, Callable[[int], dict[str, Any]]] = {
        model: partial(_limits, pool, model, trials) for model in CHECKPOINTS
    }
    each |= {
        f"{one} over {other}": partial(_gains, pool, one, other, trials) for one, other in PAIRS
    }
    each[f"{LAST}, calibrated"] = partial(_calibration, pool, trials)
    return {of: {str(rows): rates_of(rows) for rows in sizes} for of, rates_of in each.items()}


def _limits(pool: Pool, model: str, trials: int, rows: int) -> dict[str, Any]:
    confusion = confusion_of(pool.given[model], pool.actual, len(pool.labels))
    names = ("accuracy", *_figures(pool))

    def estimates(drawn: Counts, seed: int) -> dict[str, Estimate | None]:
        return estimates_of(drawn.reshape(confusion.shape), pool.labels, SAMPLES, seed)

    return _rates(names, confusion.ravel(), estimates, rows, trials)


def _gains(pool: Pool, one: str, other: str, trials: int, rows: int) -> dict[str, Any]:
    *cells, counts = zip(
        *contest_of(pool.actual, pool.given[one], pool.given[other]).counts, strict=True
    )
    names = ("accuracy", *_figures(pool))

    def estimates(drawn: Counts, seed: int) -> dict[str, Estimate | None]:
        lines = zip(*cells, drawn.tolist(), strict=True)
        contest = Contest(counts=tuple(line for line in lines if line[-1]))
        gains = Gains(contest, pool.labels, names, SAMPLES, seed)
        return {name: gains.estimate(name) for name in names}

    return _rates(names, np.array(counts), estimates, rows, trials)


def _figures(pool: Pool) -> tuple[str, ...]:
    rare = pool.labels[-1]
    return "precision.macro", "recall.macro", "f1.macro", f"recall.{rare}", f"f1.{rare}"


def _rates(
    names: tuple[str, ...],
    counts: Counts,
    estimates: Callable[[Counts, int], dict[str, Estimate | None]],
    rows: int,
    trials: int,
) -> dict[str, Any]:
    """Return the rates of the figures that the whole pool has, whose counts are [n_cells]."""
    whole = estimates(counts, 0)
    truth = {name: each.value for name in names if (each := whole[name])}

    def drawn() -> Iterator[dict[str, Estimate | None]]:
        generator = np.random.default_rng(rows)
        for trial in range(trials):
            yield estimates(generator.multinomial(rows, counts / counts.sum()), trial)

    return rates(truth, drawn())


def _calibration(pool: Pool, trials: int, rows: int) -> dict[str, Any]:
    wrong = (pool.given[LAST] != pool.actual).astype(np.int64)
    sure = np.stack([pool.confidence, np.zeros(len(wrong))], axis=1)  # right is 0, wrong is 1

    def error(chosen: Counts) -> Estimate | None:
        return calibration_error(reliability_bins(sure[chosen], wrong[chosen], BINS))

    whole = error(np.arange(len(wrong)))
    assert whole is not None
    generator = np.random.default_rng(rows)
    draws = (
        {"calibration error": error(generator.integers(0, len(wrong), rows))} for _ in range(trials)
    )
    return rates({"calibration error": whole.value}, draws)
