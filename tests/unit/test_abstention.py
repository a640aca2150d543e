"""Abstention: the threshold that a target gives, and what the gate asks of the sure answers."""

from typing import Any

import numpy as np
import pytest
from evaluations import report_of
from numpy.typing import NDArray
from scipy.stats import binomtest

from configs.errors import GateError
from configs.schema import Abstain, Gate
from tasks.abstention import choose, is_sure, selection_at, selections
from tasks.gate import judge
from tasks.manifests import Evidence, GateDecision, Selection

CONFIDENCE = np.array([0.6, 0.9, 0.7, 0.8, 0.8])
RIGHT = np.array([False, True, True, True, False])


def chosen(
    target: str, value: float, confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> Selection:
    """Return the threshold of a target."""
    return choose(Abstain.model_validate({"target": target, "value": value}), confidence, right)


@pytest.mark.parametrize(
    ("value", "threshold", "answered", "right"),
    [(0.1, 0.85, 1, 1), (0.2, 0.85, 1, 1), (0.21, 0.75, 3, 2), (0.8, 0.65, 4, 3), (0.9, 0.0, 5, 3)],
)
def test_coverage_is_kept_by_the_highest_threshold_that_answers_so_many(
    value: float, threshold: float, answered: int, right: int
) -> None:
    found = chosen("coverage", value, CONFIDENCE, RIGHT)
    assert found.threshold == pytest.approx(threshold)
    assert (found.answered, found.right) == (answered, right)


def test_precision_is_kept_by_the_lowest_threshold_that_shows_it() -> None:
    draw = np.random.default_rng(3)
    confidence = draw.uniform(0.5, 1.0, 2000)
    right = draw.random(2000) < confidence
    found = chosen("precision", 0.9, confidence, right)
    assert found.threshold is not None
    # By hand: the last of the falling confidences at which scipy's bound reaches the value.
    order = np.argsort(-confidence)
    hits = right[order].cumsum()
    shown = [
        binomtest(int(hit), n, alternative="greater").proportion_ci(0.95, method="wilson").low
        for n, hit in enumerate(hits, 1)
    ]
    last = int(np.flatnonzero(np.array(shown) >= 0.9)[-1])
    assert (found.answered, found.right) == (last + 1, hits[last])
    assert confidence[order[last]] > found.threshold > confidence[order[last + 1]]
    assert 0.75 < found.threshold < 0.9


def test_rows_that_show_the_precision_already_are_all_answered() -> None:
    confidence = np.linspace(0.5, 1.0, 400)
    found = chosen("precision", 0.99, confidence, np.ones(400, dtype=bool))
    assert found == Selection(threshold=0.0, answered=400, right=400)


@pytest.mark.parametrize("rows", [1, 3, 200])
def test_a_precision_that_the_rows_cannot_show_leaves_no_threshold(rows: int) -> None:
    found = chosen("precision", 0.99, np.linspace(0.5, 1.0, rows), np.ones(rows, dtype=bool))
    assert found == Selection(threshold=None, answered=0, right=0)


def test_equal_confidences_are_answered_together() -> None:
    confidence = np.full(6, 0.5)
    right = np.array([True, False] * 3)
    assert chosen("coverage", 0.2, confidence, right).answered == 6
    assert [point.answered for point in selections(confidence, right)] == [6]


def test_what_is_answered_is_counted_as_the_service_counts_it() -> None:
    assert selection_at(0.8, CONFIDENCE, RIGHT) == Selection(threshold=0.8, answered=3, right=2)
    assert selection_at(None, CONFIDENCE, RIGHT) == Selection(threshold=None, answered=0, right=0)
    assert is_sure(CONFIDENCE, 0.0).all()
    assert not is_sure(np.array([1.0]), None).any()


def test_the_curve_goes_from_the_most_confident_rows_to_all() -> None:
    told = [(point.answered, point.right) for point in selections(CONFIDENCE, RIGHT)]
    assert told == [(1, 1), (3, 2), (4, 3), (5, 3)]
    draw = np.random.default_rng(0)
    many = selections(draw.random(5000), draw.random(5000) < 0.5)
    assert len(many) == 100
    assert many[-1].answered == 5000
    thresholds = [point.threshold for point in many]
    assert thresholds == sorted(thresholds, key=lambda at: -(at or 0.0))


# --- The gate's rules ------------------------------------------------------------------------------

BOTH = {"abstention": {"min_precision": 0.95, "min_coverage": 0.8}}


def decision_of(gate: dict[str, Any], abstention: Selection | None) -> GateDecision:
    """Return what a gate says of a model that answers so many of 1000 rows, 970 of them right."""
    report = report_of().model_copy(update={"abstention": abstention})
    return judge(Gate.model_validate(gate), Evidence(evaluation=report))


@pytest.mark.parametrize(
    ("answered", "right", "verdicts", "first"),
    [
        (900, 890, ("pass", "pass"), "precision when sure: 0.9889 [0.9797, 0.9940] reaches 0.95"),
        (900, 875, ("pass", "pass"), "precision when sure: 0.9722 [0.9593, 0.9811] reaches 0.95"),
        (790, 760, ("undecided", "undecided"), "precision when sure: 0.9620 [0.9463"),
        (500, 499, ("pass", "reject"), "coverage: 0.5000 [0.4691, 0.5309] is below 0.8"),
        (0, 0, ("undecided", "reject"), "coverage: 0.0000 [0.0000, 0.0038] is below 0.8"),
    ],
)
def test_sure_answers_are_judged_as_shares_of_the_test_rows(
    answered: int, right: int, verdicts: tuple[str, str], first: str
) -> None:
    found = Selection(threshold=0.9, answered=answered, right=right)
    decision = decision_of(BOTH, found)
    assert [rule.metric for rule in decision.rules] == ["precision when sure", "coverage"]
    assert tuple(rule.verdict for rule in decision.rules) == verdicts
    assert decision.reasons[0].startswith(first)


def test_a_service_that_is_sure_of_nothing_has_no_precision() -> None:
    decision = decision_of(BOTH, Selection(threshold=None, answered=0, right=0))
    assert decision.rules[0].reason == "precision when sure: undefined: nothing to divide by"
    assert decision.verdict == "reject"


def test_without_a_threshold_there_is_nothing_to_judge() -> None:
    decision = decision_of(BOTH, None)
    assert [rule.reason for rule in decision.rules] == [
        "precision when sure: no threshold was declared",
        "coverage: no threshold was declared",
    ]
    assert decision.verdict == "undecided"


@pytest.mark.parametrize(
    ("answered", "right"), [(1001, 970), (500, 501), (980, 975), (500, 400), (5, -1), (-1, -1)]
)
def test_counts_that_contradict_the_confusion_matrix_are_refused(answered: int, right: int) -> None:
    found = Selection(threshold=0.9, answered=answered, right=right)
    with pytest.raises(GateError, match=r"abstention: .* the report was changed"):
        decision_of(BOTH, found)
