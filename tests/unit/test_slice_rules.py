"""Rules on slices: each slice is asked, too few rows leave it open, and nothing is made up."""

from typing import Any

import numpy as np
import pytest
from evaluations import LABELS, report_of

from configs.errors import GateError
from configs.schema import Gate
from tasks.estimates import Z95
from tasks.figures import estimates_of
from tasks.gate import judge
from tasks.manifests import EvaluationReport, Evidence, GateDecision, SliceCounts
from tasks.resampling import Resamples

LONG, SHORT = [[400, 10], [10, 80]], [[360, 20], [20, 100]]


def of(by: str, value: str, confusion: list[list[int]]) -> SliceCounts:
    """Return a slice with that confusion matrix, actual label down."""
    cells = [
        (actual, given, rows)
        for actual, row in enumerate(confusion)
        for given, rows in enumerate(row)
        if rows
    ]
    return SliceCounts(by=by, value=value, cells=tuple(cells))


def report_with(*slices: SliceCounts) -> EvaluationReport:
    """Return the evaluation of a model with those slices, of which all are of one kind."""
    whole = np.zeros((2, 2), dtype=np.int64)
    for each in slices:
        for actual, given, rows in each.cells:
            whole[actual, given] += rows
    return report_of(whole).model_copy(update={"slices": slices})


REPORT = report_with(of("length", "0-49", SHORT), of("length", "50+", LONG))


def decision_on(report: EvaluationReport = REPORT, **rules: Any) -> GateDecision:
    """Return what a gate says that has those rules on the slices by length."""
    limits = {"accuracy": {"min": 0.5}, "slices": [{"by": "length", **rules}]}
    return judge(Gate.model_validate(limits), Evidence(evaluation=report))


def told(decision: GateDecision) -> dict[str, str]:
    """Return the verdicts on slices by rule."""
    return {rule.metric: rule.verdict for rule in decision.rules if "@" in rule.metric}


def test_a_limit_is_asked_of_every_slice() -> None:
    decision = decision_on(accuracy={"min": 0.93}, recall={"min_per_class": {"spam": 0.6}})
    assert told(decision) == {
        "accuracy @ length=0-49": "undecided",
        "accuracy @ length=50+": "pass",
        "recall.spam @ length=0-49": "pass",
        "recall.spam @ length=50+": "pass",
    }
    assert decision.verdict == "undecided"
    assert decision.reasons[0].startswith("accuracy @ length=0-49: 0.9200 [0.8929, 0.9407] leaves")


def test_one_slice_below_its_limit_rejects() -> None:
    decision = decision_on(accuracy={"min": 0.95})
    assert told(decision) == {
        "accuracy @ length=0-49": "reject",
        "accuracy @ length=50+": "undecided",
    }
    assert decision.verdict == "reject"


def test_a_slice_has_the_estimates_that_its_rows_have_alone() -> None:
    decision = decision_on(f1={"min": 0.1, "min_weighted": 0.1, "min_per_class": {"spam": 0.1}})
    alone = estimates_of(np.array(LONG), LABELS, 500, 0)
    for name in ("f1.macro", "f1.weighted", "f1.spam"):
        (rule,) = [rule for rule in decision.rules if rule.metric == f"{name} @ length=50+"]
        estimate = alone[name]
        assert rule.figure is not None and estimate is not None
        assert rule.figure.value == estimate.value
        assert (rule.figure.low, rule.figure.high) == estimate.interval(Z95)


def test_averages_are_drawn_for_only_where_a_rule_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    class Counting(Resamples):
        def __init__(self, *made_of: Any) -> None:
            drawn.append(int(made_of[0].sum()))
            super().__init__(*made_of)

    monkeypatch.setattr("tasks.figures.Resamples", Counting)
    decision_on(accuracy={"min": 0.5}, max_gap={"recall.spam": 0.5})
    assert drawn == [1000]  # all rows, for the figures of the whole
    decision_on(max_gap={"f1.macro": 0.5})
    assert drawn == [1000, 1000, 500, 500]


def test_a_slice_with_few_rows_is_undecided_by_each_metric_s_own_denominator() -> None:
    few = report_with(of("length", "0-49", [[99, 0], [0, 9]]), of("length", "50+", LONG))
    decision = decision_on(few, accuracy={"min": 0.5}, recall={"min_per_class": {"spam": 0.1}})
    assert told(decision) == {
        "accuracy @ length=0-49": "pass",
        "accuracy @ length=50+": "pass",
        "recall.spam @ length=0-49": "undecided",
        "recall.spam @ length=50+": "pass",
    }
    (reason,) = decision.reasons
    assert reason == (
        "recall.spam @ length=0-49: rests on 9 rows, below gate.min_support=10; about 68 more test "
        "rows would hold as many"
    )


def test_a_slice_without_rows_or_without_the_label_is_undecided() -> None:
    empty = report_with(of("length", "0-49", [[0, 0], [0, 0]]), of("length", "50+", LONG))
    assert decision_on(empty, accuracy={"min": 0.5}).reasons == (
        "accuracy @ length=0-49: the slice has no test rows",
    )
    ham = report_with(of("length", "0-49", [[50, 0], [0, 0]]), of("length", "50+", LONG))
    assert decision_on(ham, recall={"min_per_class": {"spam": 0.5}}).reasons == (
        "recall.spam @ length=0-49: undefined: nothing to divide by",
    )
    average = decision_on(ham, recall={"min": 0.9}).rules[1]
    assert (average.metric, average.verdict) == ("recall.macro @ length=0-49", "undecided")


def test_slices_that_were_not_counted_are_undecided() -> None:
    decision = decision_on(
        report_of(np.array(LONG)), accuracy={"min": 0.5}, max_gap={"accuracy": 1}
    )
    assert decision.reasons == (
        "accuracy @ length: was not measured",
        "gap of accuracy @ length: 0 slices were measured, and a gap is between two or more",
    )


@pytest.mark.parametrize(
    ("most", "verdict", "said"),
    [
        (0.15, "pass", "0.0400 [0.0105, 0.0705] stays within 0.15"),
        (0.05, "undecided", "leaves 0.05 open; about"),
        (0.005, "reject", "0.0400 [0.0105, 0.0705] is above 0.005"),
    ],
)
def test_a_gap_is_held_against_the_most_it_may_be(most: float, verdict: str, said: str) -> None:
    decision = decision_on(max_gap={"accuracy": most})
    assert decision.verdict == verdict
    assert told(decision) == {"gap of accuracy @ length": verdict}
    assert said in decision.rules[1].reason
    assert decision.rules[1].at_most


def test_a_gap_of_an_average_is_between_the_slices_own_averages() -> None:
    decision = decision_on(max_gap={"f1.macro": 0.2})
    figures = [
        estimates_of(np.array(confusion), LABELS, 500, 0)["f1.macro"] for confusion in (SHORT, LONG)
    ]
    values = [figure.value for figure in figures if figure is not None]
    assert decision.rules[1].figure is not None
    assert decision.rules[1].figure.value == pytest.approx(max(values) - min(values))


def test_a_slice_with_few_rows_leaves_the_gap_undecided_and_is_named() -> None:
    slices = [of("length", str(rows), [[100, 5], [0, rows]]) for rows in (9, 0, 3, 50)]
    for judge_on in ("interval", "value"):
        limits = {"by": "length", "max_gap": {"accuracy": 0.9, "recall.spam": 0.9}}
        gate = Gate.model_validate({"slices": [limits], "judge_on": judge_on})
        decision = judge(gate, Evidence(evaluation=report_with(*slices)))
        assert decision.reasons == (
            (
                "gap of recall.spam @ length: slices rest on fewer rows than "
                "gate.min_support=10: length=0 on 0, length=3 on 3, length=9 on 9"
            ),
        )
        assert [rule.verdict for rule in decision.rules] == ["pass", "undecided"]
        assert decision.rules[1].figure is not None and decision.rules[1].figure.value is None


def test_one_slice_alone_has_no_gap() -> None:
    alone = report_with(of("length", "0-49", LONG))
    assert decision_on(alone, max_gap={"accuracy": 0.5}).reasons == (
        "gap of accuracy @ length: 1 slices were measured, and a gap is between two or more",
    )


def test_a_gap_may_be_judged_on_its_value() -> None:
    limits = [{"by": "length", "max_gap": {"accuracy": 0.041}}]
    gate = Gate.model_validate({"slices": limits, "judge_on": "value"})
    assert judge(gate, Evidence(evaluation=REPORT)).reasons == (
        "gap of accuracy @ length: 0.0400 stays within 0.041",
    )


FIRST, SECOND = REPORT.slices
MUTATIONS: dict[str, tuple[SliceCounts, ...]] = {
    "a row too many": (of("length", "0-49", [[361, 20], [20, 100]]), SECOND),
    "a row too few": (of("length", "0-49", [[359, 20], [20, 100]]), SECOND),
    "an error made right": (of("length", "0-49", [[380, 0], [20, 100]]), SECOND),
    "a slice left out": (FIRST,),
    "a slice twice": (FIRST, FIRST, SECOND),
    "two slices of one name": (FIRST, of("length", "0-49", LONG)),
    "a slice of no rows alone": (of("length", "0-49", [[0, 0], [0, 0]]),),
    "a label that is not there": (
        SliceCounts(by="length", value="0-49", cells=(*FIRST.cells, (2, 0, 1))), SECOND,
    ),
    "a label counted from the end": (
        SliceCounts(by="length", value="0-49", cells=(*FIRST.cells[:3], (-1, 1, 100))), SECOND,
    ),
    "counts below 0 that add up": (
        of("length", "0-49", [[361, 20], [20, 100]]), SECOND, of("length", "x", [[-1, 0], [0, 0]]),
    ),
    "another kind that lacks rows": (FIRST, SECOND, of("language", "en", LONG)),
}  # fmt: skip


@pytest.mark.parametrize("slices", MUTATIONS.values(), ids=MUTATIONS)
def test_slices_that_are_not_all_test_rows_are_refused_whatever_the_rules(
    slices: tuple[SliceCounts, ...],
) -> None:
    changed = REPORT.model_copy(update={"slices": slices})
    for gate in (
        {"accuracy": {"min": 0.5}},
        {"slices": [{"by": "length", "accuracy": {"min": 0.5}}], "judge_on": "value"},
    ):
        with pytest.raises(GateError, match="do not add up to the confusion matrix of the eval"):
            judge(Gate.model_validate(gate), Evidence(evaluation=changed))
