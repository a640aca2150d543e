"""The gate's questions about slices: each one's figures, and the gap between the best and the worst.

A rule on slices asks of every slice, also of one with too few rows, which leaves it undecided. So
does a gap, whose question then says which slice lacks rows.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from configs.errors import GateError
from configs.limits import SliceLimits
from configs.schema import Gate
from tasks.estimates import Estimate
from tasks.figures import AVERAGES, estimates_of
from tasks.gaps import Gap
from tasks.manifests import EvaluationReport, SliceCounts
from tasks.questions import UNDEFINED, Question, limits_of

Estimates = dict[str, Estimate | None]


def slice_questions(gate: Gate, report: EvaluationReport) -> Iterator[Question]:
    """Yield what `gate.slices` asks of the report's slices.

    Raises:
        GateError: if the slices of one kind do not add up to the report's confusion matrix.
    """
    kinds = whole_slices(report)
    for limits in gate.slices:
        slices = kinds.get(limits.by, [])
        asked = dict(limits_of(limits))
        wanted = {*asked, *limits.max_gap}
        found = {each.name: slice_estimates(report, each, wanted) for each in slices}
        for metric, limit in asked.items():
            if not found:
                yield Question(f"{metric} @ {limits.by}", limit, None)
            for name, estimates in found.items():
                missing = UNDEFINED if estimates else "the slice has no test rows"
                yield Question(f"{metric} @ {name}", limit, estimates.get(metric), missing=missing)
        yield from _gaps(gate, limits, found)


def confusion_of_slice(counted: SliceCounts, n_labels: int) -> NDArray[np.int64]:
    """Return the confusion matrix [n_labels, n_labels] of a slice, actual label down."""
    confusion = np.zeros((n_labels, n_labels), dtype=np.int64)
    for actual, given, rows in counted.cells:
        confusion[actual, given] += rows
    return confusion


def whole_slices(report: EvaluationReport) -> dict[str, list[SliceCounts]]:
    """Return the slices by what they are told by, which together are all test rows each time.

    Raises:
        GateError: if they do not add up to the report's confusion matrix.
    """
    kinds: dict[str, list[SliceCounts]] = {}
    for each in report.slices:
        kinds.setdefault(each.by, []).append(each)
    for by, slices in kinds.items():
        names = {each.value for each in slices}
        cells = np.array([cell for each in slices for cell in each.cells]).reshape(-1, 3)
        places, rows = cells[:, :2], cells[:, 2]
        total = np.zeros((len(report.labels),) * 2, dtype=np.int64)
        fits = places.size and places.min() >= 0 and places.max() < len(total) and rows.min() > 0
        if fits:
            np.add.at(total, (places[:, 0], places[:, 1]), rows)
        if len(names) < len(slices) or not np.array_equal(total, report.confusion):
            raise GateError(
                f"the slices by {by!r} do not add up to the confusion matrix of the evaluation; the "
                "report was changed, so evaluate anew"
            )
    return kinds


def slice_estimates(report: EvaluationReport, counted: SliceCounts, wanted: set[str]) -> Estimates:
    """Return the estimates of a slice by metric, none if it has no rows.

    Averages are drawn for only if they are wanted: most of the time of a gate goes into that.
    """
    if not counted.cells:
        return {}
    return estimates_of(
        confusion_of_slice(counted, len(report.labels)),
        report.labels,
        report.bootstrap_samples,
        report.bootstrap_seed,
        averages=any(name.partition(".")[2] in AVERAGES for name in wanted),
    )


def _gaps(gate: Gate, limits: SliceLimits, found: dict[str, Estimates]) -> Iterator[Question]:
    for metric, limit in sorted(limits.max_gap.items()):
        name = f"gap of {metric} @ {limits.by}"
        parts = {each: estimates.get(metric) for each, estimates in found.items()}
        missing = _lacking(parts, gate.min_support)
        known = tuple(part for part in parts.values() if part is not None)
        gap = None if missing else Gap(known)
        yield Question(name, limit, gap, at_most=True, missing=missing)


def _lacking(parts: dict[str, Estimate | None], least: int) -> str:
    """Return why there is no gap to judge, or nothing if each of two slices or more has the rows."""
    if len(parts) < 2:
        return f"{len(parts)} slices were measured, and a gap is between two or more"
    few = {name: rows for name, part in parts.items() if (rows := part.n if part else 0) < least}
    if not few:
        return ""
    told = ", ".join(
        f"{name} on {few[name]}" for name in sorted(few, key=lambda name: few[name])[:5]
    )
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return f"slices rest on fewer rows than gate.min_support={least}: {told}{more}"
