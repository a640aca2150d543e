"""The pure gate: figures and limits in, a decision with its reasons out.

The rules, each tested:

- A limit is judged on the figure's 95% interval. The figure passes if the interval lies at or above
  the limit, and is rejected if it lies below; for a limit that is the most allowed, the other way
  about. Where the limit is inside, the test rows do not tell,
  and the rule is undecided; it says how many more would. `gate.judge_on: value` judges the measured
  value alone: at or above the limit passes.
- A figure that is undefined (its label is never given, or has no rows) or missing is undecided:
  nothing was measured, so nothing passes and nothing is held against the model.
- A limit on a label that the evaluation does not know is undecided in the same way (the config
  refuses it before it gets here).
- With fewer test rows than `min_test_rows` every rule is undecided, whatever the figures say, and so
  is a gain over the champion if fewer could be compared; with
  fewer than `min_support` in a figure's own denominator, that rule is. What is counted and not
  sampled, such as test rows in training, is judged all the same.
- A rule on slices is one rule for each slice. The gap between the best and the worst slice passes
  if no two slices are farther apart; `tasks.gaps` tells how that is corrected. A slice below
  `min_support` leaves its rules and the gap undecided.
- A test set that has decided on other models is no longer new: with each, the best of them looks
  better than it is by more. The decision says so; with `gate.reuse: widen` all intervals are
  those of as many comparisons (Bonferroni).
- One rejected rule rejects; else one undecided rule leaves it undecided; else it passes. What is
  done of an undecided model, `gate.undecided` says.
- All rules must pass, so that many rules make it no likelier that a bad model passes, and each is
  tested at its own level (Berger 1982). One rejection is enough, so that many rules make it likelier
  that a good model is rejected: rejections are corrected for their number (Holm 1979).
"""

from collections.abc import Iterator
from math import nan

import numpy as np

from configs.errors import GateError
from configs.schema import Gate
from tasks.abstention import abstention_questions
from tasks.contests import over_baseline, over_champion, over_original
from tasks.estimates import Counted, Estimate, deviates, holm, level_text, more_rows
from tasks.figures import estimates_of
from tasks.manifests import (
    EvaluationReport,
    Evidence,
    GateDecision,
    LeakageReport,
    RuleVerdict,
    Verdict,
)
from tasks.questions import UNDEFINED, Question, figure_of, limits_of
from tasks.reliability import calibration_questions
from tasks.robustness import robustness_questions
from tasks.slice_rules import slice_questions

FEWEST_RESAMPLES = 100
LEAKED = "leaked test rows"
_ROUNDING = 1e-9


def judge(gate: Gate, evidence: Evidence) -> GateDecision:
    """Return the decision on the evidence under the limits of `gate`.

    Raises:
        GateError: if the evaluation has no rows, or contradicts its own confusion matrix.
    """
    if evidence.evaluation.is_of_the_baseline:
        gate = gate.of_the_baseline
    asked = tuple(questions_of(gate, evidence))
    z = deviates(evidence.uses if gate.reuse == "widen" else 1)
    distances = {
        question.name: distance
        for question in asked
        if not question.exact and (distance := question.distance) is not None
    }
    below = holm(distances, z)
    rows = evidence.evaluation.rows
    rules = tuple(_judge_rule(gate, rows, z, each, rejected=each.name in below) for each in asked)
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
        evidence=evidence.digests,
        remarks=tuple(_remarks(gate, evidence, z)),
        z=z,
    )


def force(decision: GateDecision, reason: str) -> GateDecision:
    """Return the decision to release all the same; one that releases anyway stays as it is."""
    if decision.action == "release":
        return decision
    return decision.model_copy(update={"action": "release", "forced": reason})


def _remarks(gate: Gate, evidence: Evidence, z: float) -> Iterator[str]:
    """Yield what a reader should know beside the reasons."""
    if evidence.uses == 1:
        return
    used = f"this test set has decided on {evidence.uses} models, this one included"
    if gate.reuse == "widen":
        yield f"{used}: limits are judged on {level_text(z)} intervals (Bonferroni)"
    else:
        yield (
            f"{used}: the best of several looks better than it is; set gate.reuse=widen, or test "
            "on new rows"
        )


def questions_of(gate: Gate, evidence: Evidence) -> Iterator[Question]:
    """Yield every question that the gate asks of the evidence, under names that differ."""
    measured = _measured(evidence.evaluation)
    for metric, limit in limits_of(gate):
        missing = UNDEFINED if metric in measured else "was not measured"
        yield Question(metric, limit, measured.get(metric), missing=missing)
    yield from over_baseline(gate.baseline, evidence)
    yield from over_champion(gate.champion, evidence)
    yield from over_original(gate.form, evidence)
    yield from calibration_questions(gate, evidence.evaluation)
    yield from abstention_questions(gate, evidence.evaluation)
    yield from robustness_questions(gate.robustness, evidence)
    yield from slice_questions(gate, evidence.evaluation)
    if evidence.leakage is not None:
        yield _leakage_question(evidence.leakage, evidence.evaluation)


def _leakage_question(report: LeakageReport, evaluation: EvaluationReport) -> Question:
    if report.parents.get("split") != evaluation.parents.get("split"):
        raise GateError(
            "the leaks were counted on another split than the one evaluated on; count them anew"
        )
    leaked = Counted(report.exact + report.near, report.rows)
    return Question(LEAKED, 0.0, leaked, at_most=True, exact=True)


def _measured(report: EvaluationReport) -> dict[str, Estimate | None]:
    """Return the estimates of the report's figures, made anew from its confusion matrix."""
    sizes = {len(row) for row in (report.confusion, *report.confusion)}
    smallest = min((count for row in report.confusion for count in row), default=0)
    if sizes != {len(report.labels)} or smallest < 0:
        raise GateError(
            f"the confusion matrix has rows of {sorted(sizes)} and a smallest count of {smallest}, "
            f"expected counts of {len(report.labels)} labels; evaluate anew"
        )
    confusion = np.array(report.confusion, dtype=np.int64)
    if not report.rows or confusion.sum() != report.rows:
        raise GateError(
            f"the evaluation reports {report.rows} test rows, its confusion matrix counts "
            f"{confusion.sum()}, and there must be some; evaluate anew"
        )
    if report.bootstrap_samples < FEWEST_RESAMPLES:
        raise GateError(
            f"the evaluation reports {report.bootstrap_samples} resamples, expected "
            f"{FEWEST_RESAMPLES} or more; evaluate anew"
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


def _judge_rule(gate: Gate, rows: int, z: float, asked: Question, *, rejected: bool) -> RuleVerdict:
    verdict, more, reason = _verdict(gate, rows, z, asked, rejected=rejected)
    return RuleVerdict(
        metric=asked.name,
        limit=asked.limit,
        at_most=asked.at_most,
        figure=figure_of(asked.estimate, z=z),
        verdict=verdict,
        more_rows=more,
        reason="; ".join([f"{asked.name}: {reason}", *filter(None, [asked.meaning.get(verdict)])]),
    )


def _verdict(
    gate: Gate, rows: int, z: float, asked: Question, *, rejected: bool
) -> tuple[Verdict, int | None, str]:
    """Return the verdict on one rule, the test rows that it lacks, and the reason."""
    estimate, distance = asked.estimate, asked.distance
    by_value = asked.exact or gate.judge_on == "value"
    all_rows, rows = rows, rows if asked.rows is None else asked.rows
    drawn = all_rows if asked.drawn_by is not None else rows
    if drawn < gate.min_test_rows and not asked.exact:
        compared = " compared" if drawn < all_rows else ""
        reason = f"{drawn} test rows{compared}, below gate.min_test_rows={gate.min_test_rows}"
        return "undecided", gate.min_test_rows - drawn, reason
    if estimate is None or distance is None:
        return asked.without, None, asked.missing
    if estimate.n < gate.min_support and not asked.exact:
        more = -(-rows * (gate.min_support - estimate.n) // estimate.n) if estimate.n else None
        reason = f"rests on {estimate.n} rows, below gate.min_support={gate.min_support}"
        cure = f"; {_cure(asked, rows, more)} would hold as many" if more else ""
        return "undecided", more, reason + cure
    shown = _shown(estimate, z, by_value=by_value)
    if asked.is_reached if by_value else distance >= z:
        stays = "stays within" if asked.at_most else "reaches"
        return "pass", None, f"{shown} {stays} {asked.limit:g}"
    if by_value or rejected:
        return "reject", None, f"{shown} is {'above' if asked.at_most else 'below'} {asked.limit:g}"
    more = more_rows(distance, rows, z)
    cure = _cure(asked, rows, more)
    return "undecided", more, f"{shown} leaves {asked.limit:g} open; {cure} would settle it"


def _cure(asked: Question, rows: int, more: int | None) -> str:
    """Return in words how many test rows are wanted beside the `rows` there are."""
    if more is None:
        return "no number of rows"
    if asked.drawn_by is not None:
        return (
            f"about {rows + more:,} test rows in place of the {rows:,} that {asked.drawn_by} allows"
        )
    return f"about {more:,} more test rows"


def _shown(estimate: Estimate, z: float, *, by_value: bool) -> str:
    if isinstance(estimate, Counted):
        return f"{estimate.rows:,}"
    low, high = estimate.interval(z)
    return f"{estimate.value:.4f}" + ("" if by_value else f" [{low:.4f}, {high:.4f}]")
