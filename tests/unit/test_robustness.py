"""Robustness: what the config takes, what the gate asks, and how the user's cases are read."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from configs.errors import DataError, GateError
from configs.loading import load_config
from configs.schema import Gate, PipelineConfig
from tasks.cases import MOST_CASES, MOST_MEGABYTES, Case, read_cases
from tasks.estimates import Z95, Counted, Share, more_rows
from tasks.figures import estimates_of
from tasks.gate import judge
from tasks.manifests import (
    EvaluationReport,
    Evidence,
    FlipCount,
    GateDecision,
    ProbeReport,
    WrongCase,
)
from tasks.plots import as_svg, flips
from tasks.questions import figure_of
from tasks.reporting import flip_rows

LABELS = ("ham", "spam")
CONFUSION = np.array([[760, 10], [20, 210]])


def evaluation_of() -> EvaluationReport:
    estimates = estimates_of(CONFUSION, LABELS, 200, 0)
    return EvaluationReport(
        key="k", parents={}, folder=Path("evaluation"), files={}, rows=1000, labels=LABELS,
        figures={name: figure_of(estimate) for name, estimate in estimates.items()}, baseline={},
        confusion=tuple(map(tuple, CONFUSION.tolist())), bootstrap_samples=200, bootstrap_seed=0,
    )  # fmt: skip


def count_of(rows: int, flipped: int, undone: int = 0) -> FlipCount:
    by_label = {
        "ham": (rows - rows // 4, flipped - flipped // 4),
        "spam": (rows // 4, flipped // 4),
    }
    return FlipCount(
        rows=rows, undone=undone, flips=flipped, by_label=by_label, examples=(3, 5)[:flipped]
    )


def probe_of(count: FlipCount, cases: int = 0, wrong: tuple[int, ...] = ()) -> ProbeReport:
    return ProbeReport(
        key="p", parents={"evaluation": evaluation_of().digest}, folder=Path("probe"), files={},
        rows=1000, flips={"typos": count}, cases=cases, cases_digest="c" if cases else None,
        wrong_cases=tuple(WrongCase(row=row, name="n", label="ham", given="spam") for row in wrong),
    )  # fmt: skip


def decision_on(robustness: dict[str, Any], probe: ProbeReport | None, **more: Any) -> GateDecision:
    gate = {"accuracy": {"min": 0.5}, "robustness": robustness, **more}
    return judge(Gate.model_validate(gate), Evidence(evaluation=evaluation_of(), probe=probe))


BELOW_NONE = {"ham": (5, -1), "spam": (-1, 1)}
TYPOS = {"max_flips": {"typos": 0.05}}


@pytest.mark.parametrize(
    ("count", "verdict", "reason"),
    [
        (count_of(1000, 20), "pass", "0.0200 [0.0130, 0.0307] stays within 0.05"),
        (count_of(1000, 90), "reject", "0.0900 [0.0738, 0.1093] is above 0.05"),
        (count_of(100, 2), "undecided", "0.0200 [0.0055, 0.0700] leaves 0.05 open; about "),
        (count_of(9, 0), "undecided", "rests on 9 rows, below gate.min_support=10"),
        (count_of(0, 0), "undecided", "changes no test row"),
    ],
)
def test_flips_are_judged_on_the_interval_over_the_rows_changed(
    count: FlipCount, verdict: str, reason: str
) -> None:
    decision = decision_on(TYPOS, probe_of(count))
    rule = decision.rules[-1]
    assert (rule.metric, rule.verdict, rule.at_most) == ("flips under typos", verdict, True)
    assert rule.reason.startswith(f"flips under typos: {reason}")
    assert decision.verdict == verdict


def test_where_not_all_test_rows_were_probed_the_cure_is_to_probe_more() -> None:
    probe = probe_of(count_of(100, 2))
    capped = probe.model_copy(update={"rows": 400})
    assert evaluation_of().rows > 400
    rule = decision_on(TYPOS, capped).rules[-1]
    more = more_rows(Share(2, 100).distance(0.05), 400)
    assert more is not None and rule.more_rows == more
    cure = f"about {400 + more:,} test rows in place of the 400 that robustness.max_rows allows"
    assert rule.reason.endswith(f"leaves 0.05 open; {cure} would settle it")
    few = decision_on(TYPOS, probe.model_copy(update={"rows": 100}), min_test_rows=200).rules[-1]
    assert "in place of the 100" in few.reason


@pytest.mark.parametrize("probe", [None, probe_of(count_of(10, 1))])
def test_a_perturbation_that_was_not_probed_is_undecided(probe: ProbeReport | None) -> None:
    rule = decision_on({"max_flips": {"case": 0.05}}, probe).rules[-1]
    assert (rule.verdict, rule.reason) == ("undecided", "flips under case: was not measured")


@pytest.mark.parametrize(
    ("robustness", "wrong", "verdict"),
    [
        ({}, (), "pass"),
        ({}, (2,), "reject"),
        ({"max_wrong_cases": 1}, (2,), "pass"),
        ({"max_wrong_cases": 1}, (2, 4), "reject"),
    ],
)
def test_cases_are_counted_and_none_may_be_wrong_unless_the_gate_says_so(
    robustness: dict[str, Any], wrong: tuple[int, ...], verdict: str
) -> None:
    for judge_on in ("interval", "value"):
        probe = probe_of(count_of(0, 0), cases=4, wrong=wrong)
        rule = decision_on(robustness, probe, judge_on=judge_on).rules[-1]
        assert (rule.metric, rule.verdict) == ("cases", verdict)
        assert rule.figure is not None and rule.figure.value == len(wrong)


def test_cases_that_were_declared_and_not_probed_are_undecided() -> None:
    rule = decision_on({"max_wrong_cases": 0}, None).rules[-1]
    assert (rule.metric, rule.verdict) == ("cases", "undecided")


def test_nothing_is_asked_where_nothing_is_declared() -> None:
    assert [rule.metric for rule in decision_on({}, probe_of(count_of(10, 1))).rules] == [
        "accuracy"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"parents": {}},
        {"parents": {"evaluation": "of another"}},
        {"flips": {"typos": count_of(1001, 1)}},
        {"flips": {"typos": count_of(100, 8).model_copy(update={"flips": 1})}},
        {"flips": {"typos": count_of(100, 8).model_copy(update={"rows": 900})}},
        {"flips": {"typos": count_of(100, 8, undone=93)}},
        {"flips": {"typos": count_of(100, 8).model_copy(update={"by_label": {}})}},
        {
            "flips": {
                "typos": count_of(4, 0).model_copy(
                    update={"by_label": {"a": (5, -1), "b": (-1, 1)}}
                )
            }
        },
        {"wrong_cases": (WrongCase(row=5, name="", label="ham", given="spam"),)},
        {"wrong_cases": 2 * (WrongCase(row=1, name="", label="ham", given="spam"),)},
    ],
)
def test_a_probe_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    probe = probe_of(count_of(100, 8), cases=4).model_copy(update=changes)
    with pytest.raises(GateError, match="probe anew"):
        decision_on(TYPOS, probe)


def test_the_decision_names_the_digest_of_the_probe() -> None:
    probe = probe_of(count_of(10, 1))
    assert decision_on({}, probe).evidence["probe"] == probe.digest
    assert "probe" not in decision_on({}, None).evidence


@pytest.mark.parametrize("limit", [0.0, 2.0, 3.0])
def test_a_count_has_no_interval_and_its_distance_agrees(limit: float) -> None:
    count = Counted(2, 5)
    low, high = count.interval(Z95)
    assert (low, high) == (2.0, 2.0)
    assert (abs(count.distance(limit)) > Z95) == (not low <= limit <= high)
    assert (count.distance(limit) > 0) == (count.value > limit)


def test_the_report_shows_flips_with_interval_and_row_numbers() -> None:
    probe = probe_of(count_of(1000, 20, undone=4))
    (line,) = flip_rows(probe)
    assert (line["rows"], line["undone"], line["flipped"], line["examples"]) == (
        1000,
        4,
        20,
        "3, 5",
    )
    assert line["by label"] == "ham 15 of 750, spam 5 of 250"
    assert ">typos<" in as_svg(flips({"typos": line["flips"]}, {"typos": 0.05}))
    (empty,) = flip_rows(probe_of(count_of(0, 0)))
    assert empty["flips"].value is None
    assert ">typos<" not in as_svg(flips({"typos": empty["flips"]}, {}))


# --- The config -----------------------------------------------------------------------------------


def config_of(robustness: dict[str, Any] | None = None, **gate: Any) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "sms",
            "data": {
                "uri": "rows.csv",
                "labels": {"0": "ham", "1": "spam"},
                "privacy": {"mask": ["email"]},
            },
            "robustness": robustness or {},
            "gate": {"accuracy": {"min": 0.9}, "robustness": gate},
        }
    )


@pytest.mark.parametrize(
    ("robustness", "gate", "problem"),
    [
        ({"perturbations": ["typos"]}, {"max_flips": {"case": 0.1}}, "does not list"),
        ({}, {"max_flips": {"typos": 0.1}}, "max_flips names 'typos'"),
        ({}, {"max_wrong_cases": 1}, "set robustness.cases"),
        ({"perturbations": ["typos", "typos"]}, {}, "listed twice"),
        ({"perturbations": ["typo"]}, {}, "typos"),
        ({"perturbations": ["typos"]}, {"max_flips": {"typos": 0.0}}, "greater than 0"),
        ({"perturbations": ["typos"]}, {"max_flips": {"typos": 1.1}}, "less than or equal to 1"),
        ({"max_rows": 9}, {}, "greater than or equal to 10"),
        ({"flips": 1}, {}, "Extra inputs"),
    ],
)
def test_a_config_that_does_not_agree_with_itself_is_refused(
    robustness: dict[str, Any], gate: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        config_of(robustness, **gate)


@pytest.mark.parametrize(
    "robustness", [TYPOS, {"max_wrong_cases": 0}, {**TYPOS, "max_wrong_cases": 3}]
)
def test_a_gate_on_robustness_alone_asks_for_a_limit_on_quality(robustness: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="a limit on a figure of quality too"):
        Gate.model_validate({"robustness": robustness})
    assert Gate.model_validate({"robustness": robustness, "recall": {"min": 0.5}})


def test_a_relative_path_of_cases_is_taken_from_the_config_s_folder(tmp_path: Path) -> None:
    (tmp_path / "sms.yaml").write_text(
        "name: sms\ndata: {uri: rows.csv, labels: [ham, spam]}\ngate: {accuracy: {min: 0.9}}\n"
        "robustness: {cases: own/cases.csv}\n",
        encoding="utf-8",
    )
    config = load_config(tmp_path / "sms.yaml")
    assert config.robustness.cases == str(tmp_path / "own/cases.csv")


# --- The user's cases -----------------------------------------------------------------------------


def read(file: Path) -> tuple[Case, ...]:
    found = read_cases(config_of({"cases": str(file)}))
    assert found is not None
    return found.cases


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cases.csv"


def test_cases_are_read_cleaned_and_masked_as_the_service_would(file: Path) -> None:
    file.write_text(
        'text,label,name\n"a  &lt; b ann@shop.com",spam,greedy\n好,0,\n', encoding="utf-8"
    )
    assert read(file) == (
        Case(1, "a < b [EMAIL]", "spam", "greedy"),
        Case(2, "好", "ham", ""),
    )


def test_cases_need_no_name_and_a_changed_file_has_another_digest(file: Path) -> None:
    digests = []
    for label in ("ham", "spam"):
        file.write_text(f"text,label\nhi,{label}\n", encoding="utf-8")
        found = read_cases(config_of({"cases": str(file)}))
        assert found is not None and found.cases == (Case(1, "hi", label, ""),)
        digests.append(found.digest)
    assert digests[0] != digests[1]
    assert read_cases(config_of()) is None


SECRET = "a very private text that nobody should read"
REFUSED = {
    "an unknown label": (
        f"text,label\n{SECRET},ham\n{SECRET},eggs\n",
        "row 2 has the label ['eggs']",
    ),
    "swapped columns": (f"label,text\nham,{SECRET}\n", "expected text,label or text,label,name"),
    "a long label": (f"text,label\nham,{SECRET}\n", "row 1 has the label [(43 characters)]"),
    "another header": (f"text,label,id\n{SECRET},ham,1\n", "expected text,label"),
    "a blank text": (f"text,label\n{SECRET},ham\n &nbsp; ,ham\n", "row 2 has a text that is blank"),
    "no label": (f"text,label\n{SECRET},\n", "row 1 has the label ['']"),
    "too many fields": (f"text,label\n{SECRET},ham,1\n", "row 1 (line 2) has 3 fields"),
    "an open quote": (f'text,label\n"{SECRET},ham\n', "unexpected end of data"),
    "a NUL": (f"text,label\n{SECRET}\0,ham\n", "row 1 holds a NUL character"),
    "a long name": (f"text,label,name\n{SECRET},ham,{'n' * 101}\n", "row 1 has a name above 100"),
    "no case": ("text,label\n", "holds no case"),
    "nothing": ("", "its first line is []"),
    "too many": ("text,label\n" + "hi,ham\n" * (MOST_CASES + 1), f"more than {MOST_CASES} cases"),
}


@pytest.mark.parametrize(("content", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_not_as_expected_is_refused(file: Path, content: str, problem: str) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as refusal:
        read(file)
    told = str(refusal.value)
    assert told.startswith(f"robustness.cases: {file}: ")
    assert problem in told
    assert "\n" not in told and SECRET not in told and "set data." not in told


def test_a_file_in_another_encoding_is_refused(file: Path) -> None:
    for content in ("text,label\n好,ham\n".encode("gb18030"), "好,标签\n".encode("gb18030")):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"is not (utf|UTF)-8") as refusal:
            read(file)
        assert "set data." not in str(refusal.value)


def test_a_file_that_is_too_large_is_refused_unread(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(MOST_MEGABYTES * 1_000_000 + 1)
    with pytest.raises(DataError, match=f"is above {MOST_MEGABYTES} MB"):
        read(file)


def test_what_is_no_plain_file_is_refused_and_never_opened(tmp_path: Path, file: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(file)
    with pytest.raises(DataError, match="is no plain file"):
        read(tmp_path)
    file.symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is no plain file"):
        read(file)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="is no plain file"):
        read(tmp_path / "pipe.csv")


def test_a_link_to_a_plain_file_is_read(tmp_path: Path, file: Path) -> None:
    (tmp_path / "real").write_text("text,label\nhi,ham\n", encoding="utf-8")
    file.symlink_to(tmp_path / "real")
    assert read(file) == (Case(1, "hi", "ham", ""),)
