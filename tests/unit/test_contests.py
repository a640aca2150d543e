"""Contests: gains beside their definition and published tests, and how often intervals hold."""

from math import inf, isclose, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import f1_score, precision_score, recall_score

from configs.errors import GateError
from configs.schema import Gate
from tasks.contests import confusions_of, contest_of
from tasks.estimates import NORMAL, Z95, more_rows
from tasks.figures import estimates_of
from tasks.gains import Gain, Gains, PairedShare
from tasks.gate import judge
from tasks.manifests import ChallengeReport, Contest, EvaluationReport, Evidence
from tasks.questions import figure_of

Ids = NDArray[np.int64]
LABELS = ("ham", "eggs", "spam")
METRICS = [
    f"{name}.{part}"
    for name in ("precision", "recall", "f1")
    for part in ("macro", "weighted", *LABELS)
]


def rows_of(
    seed: int, rows: int = 300, right: float = 0.8, agree: float = 0.7
) -> tuple[Ids, Ids, Ids]:
    """Return class ids [n_rows] by the data and by two models that often agree."""
    draw = np.random.default_rng(seed)
    actual = draw.choice(3, rows, p=[0.6, 0.3, 0.1])

    def named() -> Ids:
        return np.where(draw.random(rows) < right, actual, draw.integers(0, 3, rows))

    given = named()
    return actual, given, np.where(draw.random(rows) < agree, given, named())


def gains(rows: tuple[Ids, Ids, Ids], samples: int = 2000) -> Gains:
    """Return the gains of the second of three arrays over the third."""
    return Gains(contest_of(*rows), LABELS, ["accuracy", *METRICS], samples, 0)


def test_a_contest_counts_every_row_once() -> None:
    actual, given, other = rows_of(0)
    contest = contest_of(actual, given, other)
    assert sum(count for *_, count in contest.counts) == 300
    for confusion, named in zip(confusions_of(contest, 3), (given, other), strict=True):
        expected = np.zeros((3, 3), dtype=np.int64)
        np.add.at(expected, (actual, named), 1)
        assert confusion.tolist() == expected.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_a_gain_is_the_difference_that_scikit_learn_gives(seed: int) -> None:
    actual, given, other = rows_of(seed)
    found = gains((actual, given, other), samples=100)
    scores = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    for name, score in scores.items():
        for part in ("macro", "weighted", *LABELS):
            average = part if part in ("macro", "weighted") else None

            own, others = (
                score(actual, named, labels=range(3), average=average, zero_division=0.0)
                for named in (given, other)
            )
            difference = own - others
            if average is None:
                difference = difference[LABELS.index(part)]
            estimate = found.estimate(f"{name}.{part}")
            assert estimate is not None
            assert estimate.value == pytest.approx(difference, abs=1e-12)
    accuracy = found.estimate("accuracy")
    assert accuracy is not None
    difference = (given == actual).mean() - (other == actual).mean()
    assert accuracy.value == pytest.approx(difference, abs=1e-12)


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(12, 3, 100), (4, 9, 50), (1, 1, 40), (30, 0, 900)]
)
def test_no_difference_is_tested_as_mcnemar_does(gained: int, lost: int, n: int) -> None:
    share = PairedShare(gained, lost, n)
    assert share._score(0.0) == pytest.approx((gained - lost) / (gained + lost) ** 0.5)
    exact = binomtest(min(gained, lost), gained + lost).pvalue
    assert share.p_value == pytest.approx(exact)
    # Never surer than the exact test.
    assert abs(share.distance(0.0)) <= -NORMAL.inv_cdf(exact / 2) + 1e-9


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 3, 100), (4, 9, 50), (1, 40, 300)])
@pytest.mark.parametrize("limit", [-0.2, -0.03, 0.04, 0.15])
def test_the_score_takes_what_is_lost_at_its_most_likely(
    gained: int, lost: int, n: int, limit: float
) -> None:
    def unlikely(share: float) -> float:
        rest = 1 - 2 * share - limit
        if min(share, share + limit, rest) <= 0:
            return inf
        both = gained * log(share + limit) + lost * log(share)
        return -(both + (n - gained - lost) * log(rest))

    span = (max(0.0, -limit), (1 - limit) / 2)
    share = minimize_scalar(unlikely, bounds=span, method="bounded", options={"xatol": 1e-12}).x
    score = (gained - lost - n * limit) / (n * (2 * share + limit - limit**2)) ** 0.5
    assert PairedShare(gained, lost, n).distance(limit) == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("limit", [-0.3, -0.05, -0.01, 0.02, 0.08, 0.2])
@pytest.mark.parametrize(
    "share", [PairedShare(12, 3, 100), PairedShare(0, 0, 80), PairedShare(0, 7, 60)]
)
def test_a_limit_lies_on_the_interval_that_is_as_wide_as_its_distance(
    share: PairedShare, limit: float
) -> None:
    distance = share.distance(limit)
    assert (distance > 0) == (share.value > limit)
    ends = share.interval(abs(distance))
    assert isclose(ends.low if distance > 0 else ends.high, limit, abs_tol=1e-7)


def test_the_method_tells_the_p_value_of_the_exact_test() -> None:
    share = PairedShare(5, 0, 50)
    assert share.method.endswith(f"p={binomtest(5, 5).pvalue:.2g}")
    assert share.interval(Z95).low > 0.0
    assert 0.0 < share.distance(0.0) < Z95


@pytest.mark.parametrize("share", [PairedShare(50, 0, 50), PairedShare(0, 50, 50)])
def test_the_interval_of_the_largest_difference_holds_it(share: PairedShare) -> None:
    low, high = share.interval(Z95)
    assert low <= share.value <= high


def test_the_bootstrap_s_part_is_what_scipy_calls_bca_over_pairs() -> None:
    actual, given, other = rows_of(4, rows=200)

    def gain(actual: Ids, given: Ids, other: Ids, axis: int = -1) -> Any:
        found = []
        for label in range(3):
            of = (actual == label).sum(axis)
            f1 = [
                2
                * ((actual == label) & (named == label)).sum(axis)
                / (of + (named == label).sum(axis))
                for named in (given, other)
            ]
            found.append(f1[0] - f1[1])
        return np.mean(found, axis=0)

    theirs = bootstrap(
        (actual, given, other), gain, paired=True, n_resamples=10_000, method="BCa", batch=500,
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    estimate = gains((actual, given, other), 20_000).estimate("f1.macro")
    assert isinstance(estimate, Gain)
    assert estimate.resampled.interval(Z95) == pytest.approx((theirs.low, theirs.high), abs=0.003)


def test_models_that_never_differ_on_some_rows_may_differ_on_others() -> None:
    actual, given, _ = rows_of(5, rows=200)
    found = gains((actual, given, given))
    for metric in ("accuracy", "precision.macro", "recall.macro", "f1.macro", "recall.spam"):
        estimate = found.estimate(metric)
        assert estimate is not None
        low, high = estimate.interval(Z95)
        assert estimate.value == 0.0
        assert low < -0.005
        assert high > 0.005
        assert 0 < estimate.distance(-0.002) < Z95
        assert estimate.distance(-0.3) > Z95


@pytest.mark.parametrize("metric", ["accuracy", "precision.macro", "recall.macro", "f1.macro"])
def test_the_interval_of_a_gain_holds_the_truth_about_as_often_as_it_says(metric: str) -> None:
    pool = rows_of(6, rows=50_000)
    truth = gains(pool, 100).estimate(metric)
    assert truth is not None
    draw, held, trials = np.random.default_rng(7), 0, 150
    for _ in range(trials):
        rows = draw.integers(0, 50_000, 400)
        estimate = gains((pool[0][rows], pool[1][rows], pool[2][rows]), 300).estimate(metric)
        assert estimate is not None
        low, high = estimate.interval(Z95)
        held += low <= truth.value <= high
    # 95 % of 150 are 142; the bound is four standard deviations of chance away.
    assert held >= 132


def test_what_a_model_never_names_leaves_its_gain_undefined() -> None:
    actual = np.array([0, 0, 0, 1, 1, 2])
    found = gains((actual, actual, np.zeros(6, dtype=np.int64)), 100)
    assert found.estimate("precision.spam") is None
    assert found.estimate("recall.spam") is not None
    no_spam = gains((actual[:5], actual[:5], actual[:5]), 100)
    assert no_spam.estimate("recall.macro") is None
    assert no_spam.estimate("recall.weighted") is not None
    assert Gains(Contest(counts=()), LABELS, ["accuracy"], 100, 0).estimate("accuracy") is None


@pytest.mark.parametrize("metric", ["precision.macro", "precision.weighted"])
def test_the_precision_of_a_label_that_one_model_never_gives_may_be_anything(metric: str) -> None:
    actual, given, other = rows_of(8)
    weight = 1 / 3 if metric == "precision.macro" else float((actual == 2).mean())
    rarely = np.where(other == 2, 0, other)
    for rows, below, above in (((given, rarely), weight, 0.0), ((rarely, given), 0.0, weight)):
        gain = gains((actual, *rows)).estimate(metric)
        assert isinstance(gain, Gain)
        low, high = gain.interval(0.0)
        assert (gain.value - low, high - gain.value) == pytest.approx((below, above), abs=0.02)
        for limit in (gain.value - 0.9 * below, gain.value + 0.9 * above):
            assert gain.distance(limit) == 0.0
        assert gain.distance(gain.value - below - 0.3) > Z95
        assert gain.distance(gain.value + above + 0.3) < -Z95
    f1 = gains((actual, given, rarely)).estimate("f1.macro")
    assert isinstance(f1, Gain)
    assert (f1.below, f1.above) == (0.0, 0.0)  # of its rows, none was found: that is a measurement


# --- What the gate asks of a contest ---------------------------------------------------------------

CONFUSION = np.array([[760, 10], [20, 210]])
BOTH = ("ham", "spam")


def rivals(lost: int, gained: int) -> Contest:
    """Return a contest with that confusion matrix, and a model that is else of the same mind."""
    counts = [
        (0, 0, 0, 760 - gained), (0, 0, 1, gained), (0, 1, 1, 10),
        (1, 1, 1, 210), (1, 0, 0, 20 - lost), (1, 0, 1, lost),
    ]  # fmt: skip
    return Contest(counts=tuple(cell for cell in counts if cell[3]))


def evidence_of(
    baseline: Contest, champion: Contest | None = None, status: str = "compared"
) -> Evidence:
    """Return evidence about a model of that confusion matrix."""
    manifest: dict[str, Any] = {"key": "k", "parents": {}, "folder": Path("x"), "files": {}}
    figures = {
        name: figure_of(each) for name, each in estimates_of(CONFUSION, BOTH, 200, 0).items()
    }
    report = EvaluationReport(
        **manifest, rows=1000, labels=BOTH, figures=figures, baseline={},
        against_baseline=baseline, confusion=tuple(map(tuple, CONFUSION.tolist())),
        bootstrap_samples=200, bootstrap_seed=0,
    )  # fmt: skip
    if champion is None:
        return Evidence(evaluation=report)
    challenge = ChallengeReport.model_validate(
        {
            **manifest,
            "parents": {"evaluation": report.digest},
            "champion": "sms:1",
            "status": status,
            "told": "there is none",
            "rows": 0,
            "left_out": 0,
            "contest": champion,
            "figures": {},
        }
    )
    return Evidence(evaluation=report, challenge=challenge)


EVEN, BETTER, WORSE = rivals(5, 5), rivals(0, 60), rivals(18, 0)
NO_CONTEST = Contest(counts=())


@pytest.mark.parametrize(
    ("contest", "gain", "verdict", "reason"),
    [
        (BETTER, 0.0, "pass", "accuracy over baseline: 0.0600 [0.0469, 0.0765] reaches 0"),
        (BETTER, 0.02, "pass", "reaches 0.02"),
        (BETTER, 0.07, "undecided", "leaves 0.07 open; about"),
        (BETTER, 0.1, "reject", "is below 0.1; the large model does not earn its cost"),
        (
            BETTER,
            0.06,
            "undecided",
            "settle it; it is not shown that the large model earns its cost",
        ),
        (EVEN, 0.0, "undecided", "leaves 0 open; no number of rows would settle it"),
        (EVEN, -0.01, "pass", "reaches -0.01"),
        (EVEN, 0.01, "reject", "is below 0.01"),
        (
            WORSE,
            0.0,
            "reject",
            "accuracy over baseline: -0.0180 [-0.0283, -0.0114] is below 0; the large model",
        ),
    ],
)
def test_a_gain_over_the_baseline_is_a_rule_like_any_other(
    contest: Contest, gain: float, verdict: str, reason: str
) -> None:
    gate = Gate.model_validate({"baseline": {"min_gain": {"accuracy": gain}}})
    decision = judge(gate, evidence_of(contest))
    assert (decision.verdict, len(decision.rules)) == (verdict, 1)
    assert reason in decision.reasons[0]
    assert ("earn" in decision.reasons[0]) == (verdict != "pass")


@pytest.mark.parametrize("metric", ["f1.macro", "recall.spam", "precision.weighted"])
def test_any_figure_may_have_to_be_gained(metric: str) -> None:
    gate = Gate.model_validate({"champion": {"min_gain": {metric: -0.5}}})
    (rule,) = judge(gate, evidence_of(EVEN, EVEN)).rules
    assert (rule.metric, rule.verdict) == (f"{metric} over champion", "pass")


def test_by_value_a_gain_is_enough() -> None:
    gate = {"baseline": {"min_gain": {"accuracy": 0.0}}, "judge_on": "value"}
    assert judge(Gate.model_validate(gate), evidence_of(EVEN)).verdict == "pass"


@pytest.mark.parametrize("missing", ["pass", "undecided"])
@pytest.mark.parametrize("unusable", ["pass", "undecided", "reject"])
def test_without_a_champion_to_compare_the_config_says_what_holds(
    missing: str, unusable: str
) -> None:
    rules = {"min_gain": {"accuracy": 0.0}, "missing": missing, "unusable": unusable}
    gate = Gate.model_validate({"accuracy": {"min": 0.9}, "champion": rules})
    for status, verdict in (("missing", missing), ("unusable", unusable)):
        decision = judge(gate, evidence_of(EVEN, NO_CONTEST, status))
        assert decision.verdict == verdict
        assert decision.rules[1].reason == "accuracy over champion: there is none"
    no_stage = judge(gate, evidence_of(EVEN))
    assert no_stage.verdict == unusable
    assert no_stage.rules[1].reason == "accuracy over champion: there was no comparison"


def test_a_figure_that_one_of_the_two_lacks_is_undecided_whatever_the_config_says() -> None:
    never = Contest(counts=((0, 0, 0, 760), (0, 1, 0, 10), (1, 1, 0, 210), (1, 0, 0, 20)))
    rules = {"min_gain": {"precision.spam": 0.0}, "unusable": "pass"}
    decision = judge(Gate.model_validate({"champion": rules}), evidence_of(EVEN, never))
    assert decision.reasons == ("precision.spam over champion: undefined: nothing to divide by",)


@pytest.mark.parametrize("other", [NO_CONTEST, Contest(counts=((0, 0, 0, 1000),))])
def test_a_baseline_that_was_compared_on_other_rows_is_refused(other: Contest) -> None:
    gate = Gate.model_validate({"baseline": {"min_gain": {"accuracy": 0.0}}})
    with pytest.raises(GateError, match="are not those of the confusion matrix"):
        judge(gate, evidence_of(other))


@pytest.mark.parametrize(
    "edit",
    [
        ((0, 0, 1, 500), (0, 0, 0, -500)),  # leaves the sums as they were, and gains 500 rows
        ((0, 0, 1, 2**62),) * 4,  # as much, since the sums come round
        ((0, 0, 0, 0),),
        ((0, 0, 2, 1),),
        ((0, 0, -1, 1),),
        ((-2, 0, 0, 1),),
    ],
)
@pytest.mark.parametrize("rival", ["baseline", "champion"])
def test_counts_that_cannot_be_are_refused(
    rival: str, edit: tuple[tuple[int, int, int, int], ...]
) -> None:
    gate = Gate.model_validate({rival: {"min_gain": {"accuracy": 0.0}}})
    edited = Contest(counts=(*EVEN.counts, *edit))
    evidence = evidence_of(edited) if rival == "baseline" else evidence_of(EVEN, edited)
    with pytest.raises(GateError, match=r"the contest counts .* rows of the labels"):
        judge(gate, evidence)


def test_too_few_rows_compared_with_the_champion_are_undecided() -> None:
    few = Contest(counts=((0, 0, 1, 60), (1, 1, 1, 39)))
    gate = Gate.model_validate({"champion": {"min_gain": {"accuracy": -0.5}}})
    (rule,) = judge(gate, evidence_of(EVEN, few)).rules
    assert (rule.verdict, rule.more_rows) == ("undecided", 1)
    assert rule.reason == (
        "accuracy over champion: 99 test rows compared, below gate.min_test_rows=100"
    )
    enough = Contest(counts=((0, 0, 1, 61), (1, 1, 1, 39)))
    assert judge(gate, evidence_of(EVEN, enough)).verdict == "pass"


def test_the_rows_that_would_settle_a_gain_are_counted_from_those_compared() -> None:
    some = Contest(counts=((0, 0, 0, 90), (0, 0, 1, 6), (1, 0, 1, 4)))
    gate = Gate.model_validate({"champion": {"min_gain": {"accuracy": 0.0}}})
    (rule,) = judge(gate, evidence_of(EVEN, some)).rules
    estimate = PairedShare(6, 4, 100)
    assert rule.more_rows == more_rows(estimate.distance(0.0), 100)


@pytest.mark.parametrize(
    "gate", [{"accuracy": {"min": 0.5}}, {"champion": {"min_gain": {"accuracy": -0.5}}}]
)
@pytest.mark.parametrize(
    ("parents", "named"),
    [
        ({"evaluation": "of another"}, "evaluation of another"),
        ({}, "evaluation None"),
        ({"split": "of another"}, "split of another"),
    ],
)
def test_a_challenge_made_for_another_evaluation_or_split_is_refused(
    gate: dict[str, Any], parents: dict[str, str], named: str
) -> None:
    evidence = evidence_of(EVEN, BETTER)
    assert evidence.challenge is not None
    own = evidence.challenge.parents if "split" in parents else {}
    challenge = evidence.challenge.model_copy(update={"parents": {**own, **parents}})
    with pytest.raises(GateError, match=f"the challenge was made for the {named}"):
        judge(Gate.model_validate(gate), evidence.model_copy(update={"challenge": challenge}))


def test_a_champion_that_was_compared_on_other_rows_is_refused() -> None:
    gate = Gate.model_validate({"champion": {"min_gain": {"accuracy": 0.0}}})
    with pytest.raises(GateError, match="rows that the confusion matrix does not count"):
        judge(gate, evidence_of(EVEN, Contest(counts=((0, 0, 0, 761),))))
    fewer = Contest(counts=((0, 0, 0, 700), (0, 0, 1, 60), (1, 1, 1, 210)))
    assert judge(gate, evidence_of(EVEN, fewer)).verdict == "pass"
