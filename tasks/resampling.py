"""Resamples of test rows, counted by what is alike of them."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.estimates import Resampled

Ids = NDArray[np.int64]
Counts = NDArray[np.int64]
Drawn = NDArray[np.float64]
METRICS = ("precision", "recall", "f1")
_MOST_DRAWN = 4_000_000  # counts at once, which bounds the memory of the bootstrap


class Resamples:
    """Resamples of a test split, each with as many rows, and what figures come to in each.

    The rows are given as `counts` [n_cells] of those that are alike; `figures` tells figures
    [samples] by name of counts [samples, n_cells]. Drawing rows with replacement is drawing counts
    from a multinomial. Cells that are empty stay so and are not drawn, which keeps memory in bounds
    with many labels. How many rows a label has is drawn as well, as it was in the split: with fixed
    counts the interval held the true macro precision of ten labels in 84 of 100 trials, with drawn
    ones in 94.
    """

    def __init__(
        self,
        counts: Counts,
        figures: Callable[[Counts], dict[str, Drawn]],
        samples: int,
        seed: int,
    ) -> None:
        self._counts = counts
        self._values = figures(counts[None])
        self._drawn = _joined([figures(drawn) for drawn in _draws(counts, samples, seed)])
        self._left_out = _joined([figures(left) for left in _without_one_row(counts)])

    def resampled(self, name: str) -> Resampled:
        """Return a figure with what it came to in the resamples."""
        value = float(self._values[name][0])
        return Resampled(value, self._drawn[name], self._acceleration(self._left_out[name]))

    def _acceleration(self, left_out: Drawn) -> float:
        """Return a sixth of the skewness of the figure without each row in turn (Efron 1987)."""
        pull = (self._counts * left_out).sum() / self._counts.sum() - left_out
        skew, spread = (self._counts * pull**3).sum(), (self._counts * pull**2).sum()
        return float(skew / (6 * spread**1.5)) if spread > 0 else 0.0


def _joined(parts: list[dict[str, Drawn]]) -> dict[str, Drawn]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _draws(counts: NDArray[np.float64] | Counts, samples: int, seed: int) -> Iterator[Counts]:
    """Yield drawn counts [some samples, n_cells]."""
    generator = np.random.default_rng(seed)
    rows, size = round(counts.sum()), max(1, _MOST_DRAWN // len(counts))
    for start in range(0, samples, size):
        yield generator.multinomial(rows, counts / counts.sum(), min(size, samples - start))


def _without_one_row(counts: Counts) -> Iterator[Counts]:
    """Yield counts [some cells, n_cells] without one row of each cell in turn."""
    cells = np.arange(len(counts))
    for some in np.array_split(cells, -(-(len(cells) ** 2) // _MOST_DRAWN)):
        left = np.repeat(counts[None], len(some), axis=0)
        left[np.arange(len(some)), some] -= 1
        yield left


def ratios_of(drawn: Counts, actual: Ids, given: Ids, n_labels: int) -> dict[str, Drawn]:
    """Return each label's precision, recall and F1, and its `rows`, all [samples, n_labels].

    `drawn` [samples, n_cells] counts rows of the class ids `actual` and `given` [n_cells]. What has
    nothing to divide by is 0.
    """
    right = _sums(drawn * (actual == given), actual, n_labels)
    rows, named = _sums(drawn, actual, n_labels), _sums(drawn, given, n_labels)
    return {
        "precision": _ratio(right, named),
        "recall": _ratio(right, rows),
        "f1": _ratio(2 * right, named + rows),
        "rows": rows,
    }


def averages_of(ratios: dict[str, Drawn]) -> dict[str, Drawn]:
    """Return the averages [samples], such as `f1.macro`, of what `ratios_of` tells."""
    averages, rows = {}, ratios["rows"]
    for name in METRICS:
        averages[f"{name}.macro"] = ratios[name].mean(axis=1)
        averages[f"{name}.weighted"] = (ratios[name] * rows).sum(axis=1) / rows.sum(axis=1)
    return averages


def _sums(drawn: Counts, labels: Ids, n_labels: int) -> Drawn:
    """Return the sums [samples, n_labels] of the cells [samples, n_cells] of each label."""
    from scipy.sparse import csr_array

    cells = np.arange(len(labels))
    member = csr_array((np.ones(len(labels)), (labels, cells)), shape=(n_labels, len(labels)))
    sums: Drawn = np.asarray(member @ drawn.T, dtype=np.float64).T
    return sums


def _ratio(part: Drawn, whole: Drawn) -> Drawn:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
