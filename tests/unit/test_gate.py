"""The gate: each of its rules, the order of its verdicts, and the reasons that it gives."""

from typing import Any

import numpy as np
import pytest
from evaluations import report_of
from numpy.typing import NDArray

from configs.errors import GateError
from configs.schema import Gate
from tasks.gate import judge
from tasks.manifests import Evidence, GateDecision
from tasks.questions import limits_of

GOOD = np.array([[760, 10], [20, 210]])  # accuracy 0.97, recall of spam 0.913
NEVER = np.array([[900, 0], [100, 0]])  # spam is never given
NO_ROWS = np.array([[900, 100], [0, 0]])  # spam has no rows


def decision_on(gate: dict[str, Any], confusion: NDArray[np.int64] = GOOD) -> GateDecision:
    """Return what a gate says of a model."""
    return judge(Gate.model_validate(gate), Evidence(evaluation=report_of(confusion)))


def accuracy(least: float, **more: Any) -> dict[str, Any]:
    """Return a gate with a limit on accuracy."""
    return {"accuracy": {"min": least}, **more}


def of_spam(metric: str, least: float) -> dict[str, Any]:
    """Return a gate with a limit on a figure of one label."""
    return {metric: {"min_per_class": {"spam": least}}}


BY_VALUE = {"judge_on": "value"}
RULES: dict[str, tuple[dict[str, Any], NDArray[np.int64], str, str]] = {
    "the interval above": (
        accuracy(0.95), GOOD, "pass", "accuracy: 0.9700 [0.9575, 0.9789] reaches 0.95",
    ),
    "the interval below": (
        accuracy(0.98), GOOD, "reject", "accuracy: 0.9700 [0.9575, 0.9789] is below 0.98",
    ),
    "the limit inside, below the value": (
        accuracy(0.96), GOOD, "undecided",
        ("accuracy: 0.9700 [0.9575, 0.9789] leaves 0.96 open; about 3,035 more test rows would "
        "settle it"),
    ),
    "the limit inside, above the value": (
        accuracy(0.975), GOOD, "undecided",
        ("accuracy: 0.9700 [0.9575, 0.9789] leaves 0.975 open; about 9,245 more test rows would "
        "settle it"),
    ),
    "the limit on the value": (
        accuracy(0.97), GOOD, "undecided",
        "accuracy: 0.9700 [0.9575, 0.9789] leaves 0.97 open; no number of rows would settle it",
    ),
    "by value, above": (
        accuracy(0.96, **BY_VALUE), GOOD, "pass", "accuracy: 0.9700 reaches 0.96",
    ),
    "by value, equal": (
        accuracy(0.97, **BY_VALUE), GOOD, "pass", "accuracy: 0.9700 reaches 0.97",
    ),
    "by value, below": (
        accuracy(0.9700001, **BY_VALUE), GOOD, "reject", "accuracy: 0.9700 is below 0.97",
    ),
    "a label that is never given": (
        of_spam("precision", 0.5), NEVER, "undecided",
        "precision.spam: undefined: nothing to divide by",
    ),
    "a label without rows": (
        {**of_spam("recall", 0.5), **BY_VALUE}, NO_ROWS, "undecided",
        "recall.spam: undefined: nothing to divide by",
    ),
    "a label that the evaluation does not know": (
        {"recall": {"min_per_class": {"eggs": 0.5}}}, GOOD, "undecided",
        "recall.eggs: was not measured",
    ),
    "a label that is never found": (
        of_spam("recall", 0.5), NEVER, "reject",
        "recall.spam: 0.0000 [0.0000, 0.0370] is below 0.5",
    ),
    "too few rows for a good figure": (
        accuracy(0.5, min_test_rows=1001), GOOD, "undecided",
        "accuracy: 1000 test rows, below gate.min_test_rows=1001",
    ),
    "too few rows for a bad figure": (
        accuracy(0.999, min_test_rows=1001), GOOD, "undecided",
        "accuracy: 1000 test rows, below gate.min_test_rows=1001",
    ),
    "too few rows of a label": (
        {**of_spam("recall", 0.5), "min_support": 460}, GOOD, "undecided",
        "recall.spam: rests on 230 rows, below gate.min_support=460",
    ),
    "just enough rows of a label": (
        {**of_spam("recall", 0.5), "min_support": 230}, GOOD, "pass",
        "recall.spam: 0.9130 [0.8695, 0.9430] reaches 0.5",
    ),
    "just enough rows": (
        accuracy(0.9, min_test_rows=1000), GOOD, "pass",
        "accuracy: 0.9700 [0.9575, 0.9789] reaches 0.9",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("gate", "confusion", "verdict", "reason"), RULES.values(), ids=RULES)
def test_a_rule_judges_one_figure(
    gate: dict[str, Any], confusion: NDArray[np.int64], verdict: str, reason: str
) -> None:
    decision = decision_on(gate, confusion)
    (rule,) = decision.rules
    assert (rule.verdict, rule.reason) == (verdict, reason)
    assert (decision.verdict, decision.reasons) == (verdict, (reason,))


@pytest.mark.parametrize(
    ("least", "macro", "spam", "verdict", "reasons"),
    [
        (0.95, 0.9, 0.85, "pass", ["accuracy", "recall.macro", "recall.spam"]),
        (0.95, 0.95, 0.85, "undecided", ["recall.macro"]),
        (0.95, 0.95, 0.91, "undecided", ["recall.macro", "recall.spam"]),
        (0.99, 0.95, 0.91, "reject", ["accuracy"]),
        (0.99, 0.9, 0.99, "reject", ["accuracy", "recall.spam"]),
    ],
)
def test_one_rejected_rule_rejects_and_else_one_undecided_leaves_it_undecided(
    least: float, macro: float, spam: float, verdict: str, reasons: list[str]
) -> None:
    recall = {"min": macro, "min_per_class": {"spam": spam}}
    decision = decision_on(accuracy(least, recall=recall))
    assert decision.verdict == verdict
    assert [reason.partition(":")[0] for reason in decision.reasons] == reasons


@pytest.mark.parametrize("undecided", ["hold", "reject", "release"])
def test_what_is_done_of_an_undecided_model_is_the_config_s_choice(undecided: str) -> None:
    actions = [
        decision_on(accuracy(least, undecided=undecided)).action for least in (0.9, 0.97, 0.99)
    ]
    assert actions == ["release", undecided, "reject"]


def test_an_undecided_model_is_held_unless_the_config_says_otherwise() -> None:
    assert decision_on(accuracy(0.97)).action == "hold"


def test_a_rejection_must_be_too_far_below_for_chance_among_all_rules() -> None:
    spam = of_spam("recall", 0.945)["recall"]  # 0.913 [0.870, 0.943] of 230 rows
    alone = decision_on({"recall": spam})
    assert alone.verdict == "reject"
    among_others = decision_on(accuracy(0.9, recall=spam, precision={"min": 0.9}))
    assert among_others.verdict == "undecided"
    (reason,) = among_others.reasons
    assert reason.startswith("recall.spam: 0.9130 [0.8695, 0.9430] leaves 0.945 open")


def test_every_rule_is_told_with_its_figure_limit_and_missing_rows() -> None:
    report = report_of(GOOD)
    gate = Gate.model_validate(accuracy(0.96, recall={"min": 0.9}))
    told = [
        (r.metric, r.figure, r.limit, r.verdict)
        for r in judge(gate, Evidence(evaluation=report)).rules
    ]
    assert told == [
        ("accuracy", report.figures["accuracy"], 0.96, "undecided"),
        ("recall.macro", report.figures["recall.macro"], 0.9, "pass"),
    ]
    assert [rule.more_rows for rule in judge(gate, Evidence(evaluation=report)).rules] == [
        3035,
        None,
    ]


@pytest.mark.parametrize("told", [0.99, 0.9701, None, float("nan"), float("inf")])
def test_a_figure_that_its_confusion_matrix_does_not_give_is_refused(told: float | None) -> None:
    report = report_of(GOOD)
    changed = report.figures["accuracy"].model_copy(update={"value": told})
    report = report.model_copy(update={"figures": {**report.figures, "accuracy": changed}})
    for judge_on in ("interval", "value"):
        gate = Gate.model_validate(accuracy(0.5, judge_on=judge_on))
        with pytest.raises(GateError, match=r"its confusion matrix gives 0\.97; the report was"):
            judge(gate, Evidence(evaluation=report))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rows": 999}, "reports 999 test rows, its confusion matrix counts 1000"),
        ({"rows": 0, "confusion": ((0, 0), (0, 0))}, "reports 0 test rows"),
        ({"labels": ("ham", "spam", "eggs")}, "expected counts of 3 labels"),
        ({"confusion": ((1760, 10), (-1000, 230))}, "a smallest count of -1000"),
    ],
)
def test_a_report_that_contradicts_itself_is_refused(changes: dict[str, Any], problem: str) -> None:
    gate = Gate.model_validate(accuracy(0.5))
    with pytest.raises(GateError, match=problem):
        judge(gate, Evidence(evaluation=report_of(GOOD).model_copy(update=changes)))


def test_a_figure_that_is_missing_is_refused() -> None:
    report = report_of(GOOD)
    figures = {name: each for name, each in report.figures.items() if name != "accuracy"}
    changed = report.model_copy(update={"figures": figures})
    with pytest.raises(GateError, match="accuracy: the evaluation reports nan"):
        judge(Gate.model_validate(accuracy(0.5)), Evidence(evaluation=changed))


def test_a_decision_names_the_evaluation_it_is_about() -> None:
    gate = Gate.model_validate(accuracy(0.9))
    first, second = report_of(GOOD), report_of(NEVER)
    told = [judge(gate, Evidence(evaluation=report)).evidence for report in (first, second)]
    assert told == [{"evaluate": first.digest}, {"evaluate": second.digest}]
    assert first.digest != second.digest


def test_the_limits_are_listed_by_metric_average_and_label() -> None:
    averages = {"min": 0.1, "min_weighted": 0.2, "min_per_class": {"spam": 0.4, "ham": 0.3}}
    names = ("precision", "recall", "f1")
    gate = Gate.model_validate({"accuracy": {"min": 0.9}, **dict.fromkeys(names, averages)})
    assert list(limits_of(gate)) == [("accuracy", 0.9)] + [
        (f"{name}.{part}", limit)
        for name in names
        for part, limit in (("macro", 0.1), ("weighted", 0.2), ("ham", 0.3), ("spam", 0.4))
    ]


def test_a_limit_that_is_not_set_is_not_judged() -> None:
    gate = Gate.model_validate({"f1": {"min_weighted": 0.5}})
    assert list(limits_of(gate)) == [("f1.weighted", 0.5)]
