"""Stage decide: the pure gate. Figures and limits in, a decision with its reasons out.

The rules, each tested:

- A limit is judged on the figure's 95% interval. The figure passes if the interval lies at or above
  the limit, and is rejected if it lies below. Where the limit is inside, the test rows do not tell,
  and the rule is undecided; it says how many more would. `gate.judge_on: value` judges the measured
  value alone: at or above the limit passes.
- A figure that is undefined (its label is never given, or has no rows) or missing is undecided:
  nothing was measured, so nothing passes and nothing is held against the model.
- A limit on a label that the evaluation does not know is undecided in the same way (the config
  refuses it before it gets here).
- With fewer test rows than `min_test_rows` every rule is undecided, whatever the figures say.
- One rejected rule rejects; else one undecided rule leaves it undecided; else it passes. What is
  done of an undecided model, `gate.undecided` says.
- All rules must pass, so that many rules make it no likelier that a bad model passes, and each is
  tested at its own level (Berger 1982). One rejection is enough, so that many rules make it likelier
  that a good model is rejected: rejections are corrected for their number (Holm 1979).
"""

from collections.abc import Iterator
from math import nan

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import GateError
from configs.schema import Gate
from tasks.estimates import Z95, Estimate, holm, more_rows
from tasks.figures import estimates_of
from tasks.manifests import EvaluationReport, Figure, GateDecision, RuleVerdict, Verdict

_ROUNDING = 1e-9


def judge(gate: Gate, report: EvaluationReport) -> GateDecision:
    """Return the decision on the figures of `report` under the limits of `gate`.

    Raises:
        GateError: if the report has no rows, or contradicts its own confusion matrix.
    """
    measured = _measured(report)
    distances = {
        f"{metric} {limit}": estimate.distance(limit)
        for metric, limit in limits_of(gate)
        if (estimate := measured.get(metric)) is not None
    }
    below = holm(distances)
    rules = tuple(
        _judge_rule(
            gate, report, metric, limit, distances.get(f"{metric} {limit}"),
            rejected=f"{metric} {limit}" in below,
        )
        for metric, limit in limits_of(gate)
    )  # fmt: skip
    verdicts = {rule.verdict for rule in rules}
    verdict: Verdict = "pass"
    if "reject" in verdicts:
        verdict = "reject"
    elif "undecided" in verdicts:
        verdict = "undecided"
    return GateDecision(
        verdict=verdict,
        action={"pass": "release", "reject": "reject", "undecided": gate.undecided}[verdict],
        judged_on=gate.judge_on,
        rules=rules,
        reasons=tuple(rule.reason for rule in rules if rule.verdict == verdict),
        evaluation=report.digest,
    )


def _measured(report: EvaluationReport) -> dict[str, Estimate | None]:
    """Return the estimates of the report's figures, made anew from its confusion matrix."""
    confusion = np.array(report.confusion, dtype=np.int64)
    if confusion.shape != (len(report.labels),) * 2 or confusion.min() < 0:
        raise GateError(
            f"the confusion matrix has the shape {confusion.shape} and a smallest count of "
            f"{confusion.min()}, expected counts of {len(report.labels)} labels; evaluate anew"
        )
    if not report.rows or confusion.sum() != report.rows:
        raise GateError(
            f"the evaluation reports {report.rows} test rows, its confusion matrix counts "
            f"{confusion.sum()}, and there must be some; evaluate anew"
        )
    found = estimates_of(confusion, report.labels, report.bootstrap_samples, report.bootstrap_seed)
    for name, estimate in found.items():
        told = report.figures[name].value if name in report.figures else nan
        if estimate is None or told is None:
            same = estimate is None and told is None
        else:
            same = abs(estimate.value - told) < _ROUNDING
        if not same:
            raise GateError(
                f"{name}: the evaluation reports {told}, its confusion matrix gives "
                f"{estimate and estimate.value}; the report was changed, so evaluate anew"
            )
    return found


def limits_of(gate: Gate) -> Iterator[tuple[str, float]]:
    """Yield (metric name, limit) for every limit that the gate sets."""
    if gate.accuracy.min is not None:
        yield "accuracy", gate.accuracy.min
    for name in ("precision", "recall", "f1"):
        limits = getattr(gate, name)
        if limits.min is not None:
            yield f"{name}.macro", limits.min
        if limits.min_weighted is not None:
            yield f"{name}.weighted", limits.min_weighted
        for label, limit in sorted(limits.min_per_class.items()):
            yield f"{name}.{label}", limit


def _judge_rule(
    gate: Gate,
    report: EvaluationReport,
    metric: str,
    limit: float,
    distance: float | None,
    *,
    rejected: bool,
) -> RuleVerdict:
    figure, more = report.figures.get(metric), None
    verdict: Verdict = "undecided"
    if report.rows < gate.min_test_rows:
        more = gate.min_test_rows - report.rows
        reason = f"{metric}: {report.rows} test rows, below gate.min_test_rows={gate.min_test_rows}"
    elif figure is None:
        reason = f"{metric}: was not measured"
    elif figure.value is None or distance is None:
        reason = f"{metric}: is undefined on n={figure.n} ({figure.method})"
    elif distance >= Z95 if gate.judge_on == "interval" else figure.value >= limit:
        verdict, reason = "pass", f"{metric}: {_shown(gate, figure)} reaches {limit:g}"
    elif rejected if gate.judge_on == "interval" else True:
        verdict, reason = "reject", f"{metric}: {_shown(gate, figure)} is below {limit:g}"
    else:
        more = more_rows(distance, report.rows)
        cure = "no number of rows" if more is None else f"about {more:,} more test rows"
        reason = f"{metric}: {_shown(gate, figure)} leaves {limit:g} open; {cure} would settle it"
    return RuleVerdict(
        metric=metric, limit=limit, figure=figure, verdict=verdict, more_rows=more, reason=reason
    )


def _shown(gate: Gate, figure: Figure) -> str:
    value = f"{figure.value:.4f}"
    return value if gate.judge_on == "value" else f"{value} [{figure.low:.4f}, {figure.high:.4f}]"


decide = task(name="decide", task_run_name="decide", cache_policy=NO_CACHE)(judge)
