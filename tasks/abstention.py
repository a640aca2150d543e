"""Abstention: below a threshold of confidence, the service says that it is unsure of its label."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from configs.errors import GateError
from configs.schema import Abstain, Gate
from tasks.estimates import NORMAL, Share
from tasks.manifests import EvaluationReport, Selection
from tasks.questions import UNDEFINED, Question

ONE_SIDED = NORMAL.inv_cdf(0.95)
PRECISION, COVERAGE = "precision when sure", "coverage"
_POINTS = 100


def is_sure(confidence: NDArray[np.float64], threshold: float | None) -> NDArray[np.bool_]:
    """Return whether each confidence [n_rows] is enough; without a threshold, none is."""
    return confidence >= (np.inf if threshold is None else threshold)


def selection_at(
    threshold: float | None, confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> Selection:
    """Return what is answered at a threshold, and how much of it is right."""
    sure = is_sure(confidence, threshold)
    return Selection(threshold=threshold, answered=int(sure.sum()), right=int(right[sure].sum()))


def choose(
    abstain: Abstain, confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> Selection:
    """Return the threshold that keeps the target on these rows, which are validation rows.

    For coverage, the highest that answers at least that share. For precision, the lowest at which
    the lower end of Wilson's one-sided 95% interval of the share right reaches it; where none does,
    no threshold, so that nothing is sure. Since the lowest is looked for among many, the precision
    on other rows may be less: the gate asks the test rows. A threshold lies half-way between two
    confidences, lest rounding decide, and is 0 where all rows are answered.
    """
    curve = _curve(confidence, right)
    if abstain.target == "coverage":
        kept = [each for each in curve if each.answered / len(right) >= abstain.value]
        return kept[0]
    kept = [
        each
        for each in curve
        if Share(each.right, each.answered).interval(ONE_SIDED).low >= abstain.value
    ]
    return kept[-1] if kept else Selection(threshold=None, answered=0, right=0)


def selections(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[Selection, ...]:
    """Return about 100 points of the curve of coverage and precision, most confident rows first."""
    curve = _curve(confidence, right)
    places = np.unique(np.linspace(0, len(curve) - 1, _POINTS).round().astype(int))
    return tuple(curve[place] for place in places)


def _curve(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> list[Selection]:
    """Return what each threshold between two confidences answers, from the highest to 0."""
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    below = np.append(falling[ends[:-1] + 1], -falling[-1])
    thresholds = (falling[ends] + below) / 2
    hits = np.cumsum(right[order])[ends]
    return [
        Selection(threshold=float(at), answered=int(end) + 1, right=int(hit))
        for at, end, hit in zip(thresholds, ends, hits, strict=True)
    ]


def abstention_questions(gate: Gate, report: EvaluationReport) -> Iterator[Question]:
    """Yield what the gate asks of the answers that the service is sure of, on the test rows.

    Raises:
        GateError: if the counts contradict the evaluation.
    """
    limits, found = gate.abstention, report.abstention
    if found is not None:
        right = sum(row[place] for place, row in enumerate(report.confusion))
        wrong = found.answered - found.right
        if not (0 <= found.right <= right and 0 <= wrong <= report.rows - right):
            raise GateError(
                f"abstention: {found.right} of {found.answered} answers are told to be right, but "
                f"{right} of the {report.rows} test rows are; the report was changed, so evaluate "
                "anew"
            )
    shares = sure_shares(found, report.rows) if found else {}
    missing = UNDEFINED if found else "no threshold was declared"
    for name, limit in ((PRECISION, limits.min_precision), (COVERAGE, limits.min_coverage)):
        if limit is not None:
            yield Question(name, limit, shares.get(name), missing=missing)


def sure_shares(found: Selection, rows: int) -> dict[str, Share | None]:
    """Return the precision of the sure answers and their share of all rows, by name."""
    precision = Share(found.right, found.answered) if found.answered else None
    return {PRECISION: precision, COVERAGE: Share(found.answered, rows)}
