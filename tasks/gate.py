"""Stage decide: the pure gate. Figures and limits in, a decision with its reasons out.

The rules, each tested:

- A figure equal to its limit passes; the limit is the least that is good enough.
- A figure that is undefined (its label is never given, or has no rows), not a number, or missing
  is undecided: nothing was measured, so nothing passes and nothing is held against the model.
- A limit on a label that the evaluation does not know is undecided in the same way (the config
  refuses it before it gets here).
- With fewer test rows than `min_test_rows` every rule is undecided, whatever the figures say.
- One rejected rule rejects; else one undecided rule leaves it undecided; else it passes.

Limits are judged on the measured value itself. The interval is shown beside it and is not judged.
"""

from collections.abc import Iterator
from math import isnan

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import Gate
from tasks.manifests import EvaluationReport, Figure, GateDecision, RuleVerdict, Verdict


def judge(gate: Gate, report: EvaluationReport) -> GateDecision:
    """Return the decision on the figures of `report` under the limits of `gate`."""
    too_few = report.rows < gate.min_test_rows
    rules = tuple(
        _judge_rule(metric, limit, report.figures.get(metric), too_few, gate, report.rows)
        for metric, limit in limits_of(gate)
    )
    verdicts = {rule.verdict for rule in rules}
    verdict: Verdict = "pass"
    if "reject" in verdicts:
        verdict = "reject"
    elif "undecided" in verdicts:
        verdict = "undecided"
    reasons = tuple(rule.reason for rule in rules if rule.verdict == verdict)
    return GateDecision(verdict=verdict, rules=rules, reasons=reasons, evaluation=report.digest)


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
    metric: str, limit: float, figure: Figure | None, too_few: bool, gate: Gate, rows: int
) -> RuleVerdict:
    verdict: Verdict
    if too_few:
        verdict = "undecided"
        reason = f"{metric}: {rows} test rows, fewer than gate.min_test_rows={gate.min_test_rows}"
    elif figure is None:
        verdict, reason = "undecided", f"{metric}: was not measured"
    elif figure.value is None or isnan(figure.value):
        verdict, reason = "undecided", f"{metric}: is undefined on n={figure.n} ({figure.method})"
    elif figure.value >= limit:
        verdict, reason = "pass", f"{metric}: {figure.value:.4f} reaches {limit:g}"
    else:
        verdict, reason = "reject", f"{metric}: {figure.value:.4f} is below {limit:g}"
    return RuleVerdict(metric=metric, limit=limit, figure=figure, verdict=verdict, reason=reason)


decide = task(name="decide", task_run_name="decide", cache_policy=NO_CACHE)(judge)
