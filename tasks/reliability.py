"""Reliability: whether of the rows answered with a confidence of 0.9, nine in ten are right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from configs.errors import GateError
from configs.schema import Gate
from tasks.estimates import NORMAL, Interval
from tasks.manifests import EvaluationReport, ReliabilityBin
from tasks.questions import Question

_ROUNDING = 1e-6
_NOISE = sqrt(2 / pi)  # mean size of a standard normal deviate


def reliability_bins(
    probabilities: NDArray[np.float64], actual: NDArray[np.int64], bins: int
) -> tuple[ReliabilityBin, ...]:
    """Return up to `bins` bins of as many rows each, from the least to the most confident.

    `probabilities` is [n_rows, n_labels], `actual` [n_rows] class ids. Equal counts, since bins of
    equal width leave most rows of a good model in the last one and estimate worse (Nixon et al.
    2019; Roelofs et al. 2022).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == actual
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(actual)))
    return tuple(
        ReliabilityBin(
            rows=len(part), confidence=float(confidence[part].sum()), right=int(right[part].sum())
        )
        for part in parts
    )


@dataclass(frozen=True)
class CalibrationError:
    """The expected calibration error: the mean gap of a bin's confidence and its share right.

    After Naeini, Cooper and Hauskrecht 2015. Chance alone makes the gaps larger, since they have no
    sign: least if the true error is as many deviates in each bin, most if it is all in one. Each
    end of the interval allows for the worse, and so holds the truth more often than it says. The
    bootstrap adds the effect of chance once more instead of taking it off: of 200 calibrated models
    with 900 rows, its interval held the truth of none. With the bins given, `right` of each is about
    binomial, and the error varies no more than the share right within the bins. As in the score
    interval, the variance is that under the limit, which may be larger by the distance.
    """

    bins: tuple[ReliabilityBin, ...]
    method: str = "equal-mass bins, score interval with bounds on the bias"

    @property
    def value(self) -> float:
        """Return the error as measured."""
        return sum(abs(part.confidence - part.right) for part in self.bins) / self.n

    @property
    def n(self) -> int:
        """Return the rows of all bins."""
        return sum(part.rows for part in self.bins)

    def interval(self, z: float) -> Interval:
        """Return the interval to `z` deviates."""
        bias = self._noise * _NOISE * min(z, 1.0)
        low = self.value - bias - self._reach(z, self._variance + bias)
        high = self._without_noise(self.value + self._reach(z, self._variance))
        return Interval(max(0.0, low), min(1.0, max(self.value, high)))

    def distance(self, limit: float) -> float:
        """Return by how many deviates the error is above the limit; the interval inverts it."""
        above = self.value - limit
        if above == 0.0:
            return 0.0
        if above < 0:
            under = self._with_noise(limit) - self.value
            return -under / sqrt((self._variance + under) / self.n)
        deviate = sqrt((self._variance + above) / self.n)
        bias = self._noise * _NOISE
        return above / (deviate + bias) if above < deviate + bias else (above - bias) / deviate

    @property
    def _variance(self) -> float:
        """Return the mean variance of a row's being right, within the bins."""
        return sum(part.right * (1 - part.right / part.rows) for part in self.bins) / self.n

    @property
    def _noise(self) -> float:
        """Return the mean standard deviation of a bin's share right."""
        return sum(sqrt(part.right * (1 - part.right / part.rows)) for part in self.bins) / self.n

    def _reach(self, z: float, variance: float) -> float:
        """Return the x that is `z` deviates, where the variance grows by x."""
        half = z * z / (2 * self.n)
        return half + sqrt(half * half + z * z * variance / self.n)

    def _with_noise(self, error: float) -> float:
        """Return the least mean of what is measured if `error` is true: the same deviates in each bin.

        The mean size of a normal variate about m (Leone, Nelson and Nottingham 1961) is convex in m.
        """
        if self._noise == 0.0:
            return error
        mean = error / self._noise
        spread = mean * (2 * NORMAL.cdf(mean) - 1) + _NOISE * exp(-mean * mean / 2)
        return self._noise * spread

    def _without_noise(self, measured: float) -> float:
        """Return the error with that least mean, or 0 if chance alone gives more."""
        from scipy.optimize import brentq

        if measured <= self._with_noise(0.0):
            return 0.0
        return float(
            brentq(lambda error: self._with_noise(error) - measured, 0.0, measured + _ROUNDING)
        )


def calibration_error(bins: Sequence[ReliabilityBin]) -> CalibrationError | None:
    """Return the estimate of stored bins, or None if there are none."""
    return CalibrationError(tuple(bins)) if bins else None


def calibration_questions(gate: Gate, report: EvaluationReport) -> Iterator[Question]:
    """Yield what the gate asks of the calibrated probabilities, on the test rows.

    Raises:
        GateError: if the bins contradict the evaluation.
    """
    limit = gate.calibration.max_error
    if limit is None:
        return
    if report.reliability:
        _require_whole(report)
    yield Question("calibration error", limit, calibration_error(report.reliability), at_most=True)


def _require_whole(report: EvaluationReport) -> None:
    bins = report.reliability
    right = sum(row[place] for place, row in enumerate(report.confusion))
    told = sum(part.rows for part in bins), sum(part.right for part in bins)
    sound = all(
        0 <= part.right <= part.rows and 0 < part.confidence <= part.rows * (1 + _ROUNDING)
        for part in bins
    )
    if told != (report.rows, right) or not sound:
        raise GateError(
            f"calibration error: the bins count {told[1]} right of {told[0]} test rows, the "
            f"evaluation {right} of {report.rows}, and no bin may have more right, or a larger sum "
            "of confidence, than rows; the report was changed, so evaluate anew"
        )
