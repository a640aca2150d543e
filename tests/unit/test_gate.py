"""The gate: each of its rules, the order of its verdicts, and the reasons that it gives."""

from typing import Any

import numpy as np
import pytest
from evaluations import GOOD, leakage_of, report_of
from numpy.typing import NDArray

from configs.errors import GateError
from configs.schema import Gate
from tasks.estimates import deviates
from tasks.gate import LEAKED, force, judge
from tasks.manifests import Evidence, GateDecision
from tasks.questions import limits_of

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
        ("accuracy: 0.9700 [0.9575, 0.9789] leaves 0.96 open; about 5,629 more test rows would "
        "settle it"),
    ),
    "the limit inside, above the value": (
        accuracy(0.975), GOOD, "undecided",
        ("accuracy: 0.9700 [0.9575, 0.9789] leaves 0.975 open; about 20,883 more test rows would "
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
        (
            "recall.spam: rests on 230 rows, below gate.min_support=460; about 1,000 more test rows "
            "would hold as many"
        ),
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
        5629,
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


def test_leaks_that_were_counted_on_another_split_are_refused() -> None:
    evidence = Evidence(evaluation=report_of(), leakage=leakage_of(parents={"split": "other"}))
    with pytest.raises(GateError, match="leaks were counted on another split"):
        judge(Gate.model_validate(accuracy(0.9)), evidence)


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


# --- What else a decision says --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exact", "near", "rows"), [(1, 0, "1"), (0, 2, "2"), (1000, 200, "1,200")]
)
def test_a_test_row_in_training_rejects_the_best_model(exact: int, near: int, rows: str) -> None:
    evidence = Evidence(evaluation=report_of(), leakage=leakage_of(exact=exact, near=near))
    decision = judge(Gate.model_validate(accuracy(0.5)), evidence)
    assert (decision.verdict, decision.action) == ("reject", "reject")
    assert decision.reasons == (f"{LEAKED}: {rows} is above 0",)


@pytest.mark.parametrize("more", [{"min_test_rows": 1001}, {"judge_on": "value"}])
def test_a_test_row_in_training_rejects_however_few_the_rows(more: dict[str, Any]) -> None:
    gate = Gate.model_validate(accuracy(0.5, undecided="release", **more))
    leaked = Evidence(evaluation=report_of(), leakage=leakage_of(exact=1))
    assert judge(gate, leaked).action == "reject"


def test_a_test_set_apart_from_training_is_told_as_a_rule_that_passes() -> None:
    evidence = Evidence(evaluation=report_of(), leakage=leakage_of())
    decision = judge(Gate.model_validate(accuracy(0.9)), evidence)
    rule = decision.rules[-1]
    assert (rule.verdict, rule.reason) == ("pass", f"{LEAKED}: 0 stays within 0")
    assert decision.verdict == "pass"
    assert decision.evidence.keys() == {"evaluate", "leakage"}


def used(uses: int, least: float = 0.9, **more: Any) -> GateDecision:
    """Return the decision on a model that is one of several on its test set."""
    gate = Gate.model_validate(accuracy(least, **more))
    return judge(gate, Evidence(evaluation=report_of(), uses=uses))


def test_the_first_use_of_a_test_set_is_no_remark_and_a_further_one_is() -> None:
    assert used(1).remarks == used(1, reuse="widen").remarks == ()
    (remark,) = used(3).remarks
    assert remark.startswith("this test set has decided on 3 models, this one included: the best")
    assert used(3).model_copy(update={"remarks": ()}) == used(1)


def test_a_test_set_that_is_used_again_widens_its_intervals_where_the_config_asks() -> None:
    decisions = [used(uses, 0.958, reuse="widen") for uses in (1, 3, 40)]
    assert [decision.level for decision in decisions] == ["95%", "98.3%", "99.88%"]
    assert [decision.z for decision in decisions] == [deviates(uses) for uses in (1, 3, 40)]
    figures = [decision.rules[0].figure for decision in decisions]
    lows = [figure.low for figure in figures if figure is not None and figure.low is not None]
    assert lows == sorted(lows, reverse=True)
    assert len(set(lows)) == 3
    assert decisions[1].remarks[0].endswith("limits are judged on 98.3% intervals (Bonferroni)")


@pytest.mark.parametrize(("least", "then"), [(0.957, "pass"), (0.9795, "reject")])
def test_what_one_use_settles_a_hundred_may_not(least: float, then: str) -> None:
    assert used(1, least, reuse="widen").verdict == then
    assert used(100, least).verdict == then
    assert used(100, least, reuse="widen").verdict == "undecided"


def test_the_rows_that_would_settle_it_grow_with_the_uses() -> None:
    more = [used(uses, 0.975, reuse="widen").rules[0].more_rows or 0 for uses in (1, 10)]
    assert more[0] < more[1]


def test_widening_where_values_are_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="judge_on: value asks for none"):
        Gate.model_validate(accuracy(0.9, judge_on="value", reuse="widen"))


@pytest.mark.parametrize(("least", "verdict"), [(0.99, "reject"), (0.97, "undecided")])
def test_force_releases_and_leaves_the_verdict_as_it_is(least: float, verdict: str) -> None:
    decision = decision_on(accuracy(least))
    forced = force(decision, "the fair is on Monday")
    assert (forced.verdict, forced.action) == (verdict, "release")
    assert forced.forced == "the fair is on Monday"
    assert (forced.reasons, forced.rules) == (decision.reasons, decision.rules)


def test_force_changes_nothing_of_what_is_released_anyway() -> None:
    for decision in (decision_on(accuracy(0.9)), decision_on(accuracy(0.97, undecided="release"))):
        assert force(decision, "to be sure") == decision


def test_nothing_is_forced_unless_someone_does() -> None:
    assert decision_on(accuracy(0.99)).forced is None
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        Gate.model_validate(accuracy(0.9, forced="because"))
