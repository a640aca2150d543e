"""What the gate asks of robustness: few flips under each perturbation, and the user's own cases."""

from collections.abc import Iterator

from configs.errors import GateError
from configs.limits import RobustnessLimit
from tasks.estimates import Counted, Share
from tasks.manifests import Evidence, FlipCount, ProbeReport
from tasks.questions import Question


def robustness_questions(limits: RobustnessLimit, evidence: Evidence) -> Iterator[Question]:
    """Yield a question for each perturbation that has a limit, and one for the cases if there are.

    Raises:
        GateError: if the probe is of another evaluation, or its counts contradict one another.
    """
    probe = evidence.probe
    rows, drawn_by = None, None
    if probe is not None:
        _require_sound(probe, evidence)
        if probe.rows < evidence.evaluation.rows:
            rows, drawn_by = probe.rows, "robustness.max_rows"
    for name, limit in sorted(limits.max_flips.items()):
        count = None if probe is None else probe.flips.get(name)
        share = Share(count.flips, count.rows) if count and count.rows else None
        missing = "was not measured" if count is None else "changes no test row"
        yield Question(
            f"flips under {name}", limit, share, at_most=True, missing=missing, rows=rows,
            drawn_by=drawn_by,
        )  # fmt: skip
    wrong = None
    if probe is not None and probe.cases:
        wrong = Counted(len(probe.wrong_cases), probe.cases)
    if wrong is not None or limits.max_wrong_cases is not None:
        yield Question("cases", limits.max_wrong_cases or 0, wrong, at_most=True, exact=True)


def _require_sound(probe: ProbeReport, evidence: Evidence) -> None:
    if probe.parents.get("evaluation") != evidence.evaluation.digest:
        raise GateError("the probe is of another evaluation than the one judged; probe anew")
    for name, count in probe.flips.items():
        if not _is_sound(count, probe.rows):
            raise GateError(
                f"flips under {name}: {count.flips} flips of {count.rows} changed rows among "
                f"{probe.rows} contradict the counts by label; probe anew"
            )
    rows = [case.row for case in probe.wrong_cases]
    if len(set(rows)) != len(rows) or not all(1 <= row <= probe.cases for row in rows):
        raise GateError(
            f"cases: the rows {rows} told as wrong are not among {probe.cases} cases; probe anew"
        )


def _is_sound(count: FlipCount, rows: int) -> bool:
    sums = [sum(pair) for pair in zip(*count.by_label.values(), strict=True)] or [0, 0]
    parts_fit = all(0 <= flips <= changed for changed, flips in count.by_label.values())
    return (
        sums == [count.rows, count.flips]
        and parts_fit
        and 0 <= count.undone <= count.rows - count.flips
        and count.rows <= rows
    )
