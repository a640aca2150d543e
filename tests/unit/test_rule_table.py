"""The table of a decision: its columns, their order, and that nothing of it is cut."""

import io

import numpy as np
from evaluations import leakage_of, report_of
from rich.console import Console

from configs.schema import Gate
from flows.terminal import print_decision
from tasks.gate import judge
from tasks.manifests import ChallengeReport, Evidence, Figure
from tasks.model_card import markdown_table
from tasks.records import record_of
from tasks.rule_table import figure_cells, rule_table

GATE = Gate.model_validate({"accuracy": {"min": 0.97}, "recall": {"min_per_class": {"spam": 0.95}}})
CONFUSION = np.array([[778, 3], [10, 101]])
OTHER = {"accuracy": Figure(value=0.9798, low=0.97, high=0.99, n=892, method="Wilson")}
CHAMPION = ChallengeReport.model_validate(
    {
        "key": "k", "parents": {}, "folder": "x", "files": {}, "champion": "sms:1", "told": "",
        "status": "compared", "rows": 892, "left_out": 0, "contest": {"counts": []},
        "figures": {"accuracy": OTHER["accuracy"].model_copy(update={"value": 0.95})},
    }
)  # fmt: skip
REPORT = report_of(CONFUSION).model_copy(update={"baseline": OTHER})
EVIDENCE = Evidence(evaluation=REPORT, leakage=leakage_of(rows=892))
DECISION = judge(GATE, EVIDENCE)


def test_a_line_tells_the_rule_its_evidence_the_other_models_and_the_verdict() -> None:
    lines = rule_table(DECISION.rules, REPORT, CHAMPION)
    assert lines[0] == {
        "rule": "accuracy", "value": "0.9854", "interval": "[0.9752, 0.9915]", "n": "892",
        "limit": "≥ 0.97", "champion": "0.9500", "baseline": "0.9798", "verdict": "pass",
    }  # fmt: skip
    assert list(lines[0]) == [
        "rule", "value", "interval", "n", "limit", "champion", "baseline", "verdict"
    ]  # fmt: skip
    assert list(lines[1].values())[-3:] == ["", "", "undecided"]
    assert [lines[2][name] for name in ("value", "interval", "limit")] == ["0", "", "≤ 0"]


def test_a_model_that_was_not_measured_has_no_column() -> None:
    (line, *_) = rule_table(DECISION.rules, report_of(CONFUSION), None)
    assert not {"champion", "baseline"} & line.keys()


def test_what_was_not_measured_is_undefined() -> None:
    assert figure_cells(None) == {"value": "undefined", "interval": "", "n": ""}
    undefined = Figure(value=None, n=0, method="undefined")
    assert figure_cells(undefined) == {"value": "undefined", "interval": "", "n": "0"}


def test_a_name_is_no_markup_in_a_card() -> None:
    rule = DECISION.rules[0].model_copy(update={"metric": "accuracy @ site=<b>|[x](y)"})
    *_, line = markdown_table(rule_table([rule], REPORT, None))
    assert line.startswith(r"| accuracy @ site=&lt;b&gt;\|\[x\](y) | 0.9854 | [0.9752, 0.9915] |")


def test_a_narrow_terminal_cuts_nothing() -> None:
    out = io.StringIO()
    decided = record_of("sms", GATE, EVIDENCE, DECISION)
    print_decision(Console(file=out, width=40), decided)
    assert "…" not in out.getvalue()
    (row,) = (line for line in out.getvalue().splitlines() if line.split()[:1] == ["accuracy"])
    assert row.split() == [
        "accuracy", "0.9854", "[0.9752,", "0.9915]", "892", "≥", "0.97", "0.9798", "pass"
    ]  # fmt: skip
