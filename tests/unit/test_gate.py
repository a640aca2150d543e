"""The gate: each of its rules, the order of its verdicts, and the reasons that it gives."""

from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from configs.schema import Gate
from tasks.gate import judge, limits_of
from tasks.manifests import EvaluationReport, Figure, GateDecision

ROWS = 200


def figure(value: float | None) -> Figure:
    """Return a figure on 40 rows."""
    return Figure(value=value, n=40, method="exact binomial")


def report_of(rows: int = ROWS, **values: float | None) -> EvaluationReport:
    """Return an evaluation with figures named with `_` for the point, such as `recall_spam`."""
    return EvaluationReport(
        key="k",
        parents={},
        folder=Path("evaluation"),
        files={},
        rows=rows,
        labels=("ham", "spam"),
        figures={name.replace("_", "."): figure(value) for name, value in values.items()},
        baseline={},
        confusion=((1, 0), (0, 1)),
    )


def decision_on(gate: dict[str, Any], **values: Any) -> GateDecision:
    """Return what a gate says of figures."""
    return judge(Gate.model_validate(gate), report_of(**values))


ACCURACY = {"accuracy": {"min": 0.9}}
RULES: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "above": (ACCURACY, {"accuracy": 0.95}, "pass", "accuracy: 0.9500 reaches 0.9"),
    "equal": (ACCURACY, {"accuracy": 0.9}, "pass", "accuracy: 0.9000 reaches 0.9"),
    "just below": (
        ACCURACY, {"accuracy": 0.8999999999}, "reject", "accuracy: 0.9000 is below 0.9",
    ),
    "zero": (ACCURACY, {"accuracy": 0.0}, "reject", "accuracy: 0.0000 is below 0.9"),
    "undefined": (
        ACCURACY, {"accuracy": None}, "undecided",
        "accuracy: is undefined on n=40 (exact binomial)",
    ),
    "not a number": (
        ACCURACY, {"accuracy": nan}, "undecided", "accuracy: is undefined on n=40 (exact binomial)",
    ),
    "less than any number": (
        ACCURACY, {"accuracy": -inf}, "reject", "accuracy: -inf is below 0.9",
    ),
    "missing": (ACCURACY, {"recall_macro": 1.0}, "undecided", "accuracy: was not measured"),
    "a label that is never given": (
        {"precision": {"min_per_class": {"spam": 0.5}}}, {"precision_spam": None}, "undecided",
        "precision.spam: is undefined on n=40 (exact binomial)",
    ),
    "a label that the evaluation does not know": (
        {"recall": {"min_per_class": {"eggs": 0.5}}}, {"recall_spam": 1.0}, "undecided",
        "recall.eggs: was not measured",
    ),
    "too few rows for a good figure": (
        {**ACCURACY, "min_test_rows": 201}, {"accuracy": 1.0}, "undecided",
        "accuracy: 200 test rows, fewer than gate.min_test_rows=201",
    ),
    "too few rows for a bad figure": (
        {**ACCURACY, "min_test_rows": 201}, {"accuracy": 0.0}, "undecided",
        "accuracy: 200 test rows, fewer than gate.min_test_rows=201",
    ),
    "just enough rows": (
        {**ACCURACY, "min_test_rows": 200}, {"accuracy": 0.95}, "pass",
        "accuracy: 0.9500 reaches 0.9",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("gate", "values", "verdict", "reason"), RULES.values(), ids=RULES)
def test_a_rule_judges_one_figure(
    gate: dict[str, Any], values: dict[str, Any], verdict: str, reason: str
) -> None:
    decision = decision_on(gate, **values)
    (rule,) = decision.rules
    assert (rule.verdict, rule.reason) == (verdict, reason)
    assert (decision.verdict, decision.reasons) == (verdict, (reason,))


THREE = {"accuracy": {"min": 0.9}, "recall": {"min": 0.8, "min_per_class": {"spam": 0.7}}}


@pytest.mark.parametrize(
    ("accuracy", "macro", "spam", "verdict", "reasons"),
    [
        (0.9, 0.8, 0.7, "pass", ["accuracy", "recall.macro", "recall.spam"]),
        (0.9, None, 0.7, "undecided", ["recall.macro"]),
        (0.9, 0.8, 0.6, "reject", ["recall.spam"]),
        (0.8, None, 0.7, "reject", ["accuracy"]),
        (None, 0.7, 0.6, "reject", ["recall.macro", "recall.spam"]),
        (None, None, None, "undecided", ["accuracy", "recall.macro", "recall.spam"]),
        (0.0, 0.0, 0.0, "reject", ["accuracy", "recall.macro", "recall.spam"]),
    ],
)
def test_one_rejected_rule_rejects_and_else_one_undecided_leaves_it_undecided(
    accuracy: float | None,
    macro: float | None,
    spam: float | None,
    verdict: str,
    reasons: list[str],
) -> None:
    decision = decision_on(THREE, accuracy=accuracy, recall_macro=macro, recall_spam=spam)
    assert decision.verdict == verdict
    assert [reason.partition(":")[0] for reason in decision.reasons] == reasons


def test_every_rule_is_told_with_its_figure_and_limit() -> None:
    decision = decision_on(THREE, accuracy=0.95, recall_spam=0.1)
    told = [(rule.metric, rule.figure, rule.limit, rule.verdict) for rule in decision.rules]
    assert told == [
        ("accuracy", figure(0.95), 0.9, "pass"),
        ("recall.macro", None, 0.8, "undecided"),
        ("recall.spam", figure(0.1), 0.7, "reject"),
    ]


def test_a_figure_is_judged_by_its_value_and_not_by_its_interval() -> None:
    report = report_of(accuracy=0.9)
    wide = report.figures["accuracy"].model_copy(update={"low": 0.5, "high": 0.99})
    report = report.model_copy(update={"figures": {"accuracy": wide}})
    assert judge(Gate.model_validate(ACCURACY), report).verdict == "pass"


def test_a_decision_names_the_evaluation_it_is_about() -> None:
    gate = Gate.model_validate(ACCURACY)
    first, second = report_of(accuracy=0.95), report_of(accuracy=0.96)
    assert judge(gate, first).evaluation == first.digest
    assert judge(gate, second).evaluation == second.digest != first.digest


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
