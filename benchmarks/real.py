"""How often the gate releases real checkpoints, on test sets drawn from what they said of real rows.

The figures on the whole pool are the true ones. A draw with replacement is one of counts: of how a
row is labelled and how each of two models calls it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.pools import BASELINE, CHECKPOINTS, LAST, Pool
from benchmarks.rates import Estimates, enough, rates
from tasks.contests import contest_of
from tasks.estimates import Estimate
from tasks.figures import confusion_of, estimates_of
from tasks.gains import Gains
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
        of: partial(_rates, draws, trials) for of, draws in _draws(pool).items()
    }
    each[f"{LAST}, calibrated"] = partial(_calibration, pool, trials)
    return {of: {str(rows): rates_of(rows) for rows in sizes} for of, rates_of in each.items()}


def enough_on_pool(pool: Pool, trials: int) -> dict[str, Any]:
    """Return how often what is 2 points better passes on the rows that a pilot asks for."""
    generator = np.random.default_rng(1)
    return {
        of: enough(draws.truth(), partial(draws.draw, generator=generator), trials)
        for of, draws in _draws(pool).items()
    }


def _draws(pool: Pool) -> dict[str, "Draws"]:
    """Return what each checkpoint, and each pair of models, is drawn from."""
    gains = {f"{one} over {other}": _gains(pool, one, other) for one, other in PAIRS}
    return {**{model: _limits(pool, model) for model in CHECKPOINTS}, **gains}


class Draws(NamedTuple):
    """What is drawn from a pool: counts of rows that are alike [n_cells], and their estimates."""

    counts: Counts
    names: tuple[str, ...]
    estimates: Callable[[Counts, int], Estimates]

    def truth(self) -> dict[str, float]:
        """Return the figures that the whole pool has."""
        whole = self.estimates(self.counts, 0)
        return {name: each.value for name in self.names if (each := whole[name])}

    def draw(self, rows: int, seed: int, generator: np.random.Generator) -> Estimates:
        """Return the estimates of so many rows, drawn with replacement."""
        return self.estimates(generator.multinomial(rows, self.counts / self.counts.sum()), seed)


def _limits(pool: Pool, model: str) -> Draws:
    confusion = confusion_of(pool.given[model], pool.actual, len(pool.labels))

    def estimates(drawn: Counts, seed: int) -> Estimates:
        return estimates_of(drawn.reshape(confusion.shape), pool.labels, SAMPLES, seed)

    return Draws(confusion.ravel(), _figures(pool), estimates)


def _gains(pool: Pool, one: str, other: str) -> Draws:
    *cells, counts = zip(
        *contest_of(pool.actual, pool.given[one], pool.given[other]).counts, strict=True
    )
    names = _figures(pool)

    def estimates(drawn: Counts, seed: int) -> Estimates:
        lines = zip(*cells, drawn.tolist(), strict=True)
        contest = Contest(counts=tuple(line for line in lines if line[-1]))
        gains = Gains(contest, pool.labels, names, SAMPLES, seed)
        return {name: gains.estimate(name) for name in names}

    return Draws(np.array(counts), names, estimates)


def _figures(pool: Pool) -> tuple[str, ...]:
    rare = pool.labels[-1]
    return "accuracy", "precision.macro", "recall.macro", "f1.macro", f"recall.{rare}", f"f1.{rare}"


def _rates(draws: Draws, trials: int, rows: int) -> dict[str, Any]:
    generator = np.random.default_rng(rows)
    drawn = (draws.draw(rows, trial, generator) for trial in range(trials))
    return rates(draws.truth(), drawn)


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
