"""Cheaper forms of a model: how the gate judges them, which one is served, and how that is told."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import GOOD, LABELS, report_of
from rich.console import Console
from students import STUDENT

from configs.errors import GateError
from configs.schema import PipelineConfig
from flows.summary import summary
from flows.terminal import print_ladder
from tasks.gate import judge
from tasks.ladder import Rung, ladder_table, served
from tasks.manifests import (
    Contest,
    DatasetManifest,
    EvaluationReport,
    Evidence,
    FormWeight,
    GateDecision,
    Original,
    ValidationReport,
    Verdict,
)
from tasks.records import record_of
from tasks.reporting import Run

STEP: dict[str, Any] = {"key": "k", "parents": {}, "folder": Path("step"), "files": {}}
CONFIG = PipelineConfig.model_validate(
    {
        "name": "formed",
        "data": {"uri": "rows.csv", "labels": list(LABELS)},
        "gate": {"accuracy": {"min": 0.9}},
    }
)


def form_of(worse: int = 0, better: int = 0) -> EvaluationReport:
    """Return the evaluation of a form that errs on so many more ham than its original, or on fewer."""
    confusion = GOOD.copy()
    confusion[0] += np.array([better - worse, worse - better])
    counts = [
        (0, 0, 0, 760 - worse),
        (0, 1, 1, 10 - better),
        (1, 0, 0, 20),
        (1, 1, 1, 210),
        (0, 1, 0, worse),
        (0, 0, 1, better),
    ]
    cells = tuple(cell for cell in counts if cell[3])
    original = report_of()
    contest = Original(model="m", contest=Contest(counts=cells), figures=original.figures)
    return report_of(confusion).model_copy(update={"original": contest})


def decided(evaluation: EvaluationReport, config: PipelineConfig = CONFIG) -> GateDecision:
    return judge(config.gate, Evidence(evaluation=evaluation))


@pytest.mark.parametrize(
    ("worse", "verdict"), [(0, "pass"), (2, "pass"), (9, "undecided"), (40, "reject")]
)
def test_a_form_must_be_no_worse_than_the_model_as_trained(worse: int, verdict: Verdict) -> None:
    decision = decided(form_of(worse))
    (rule,) = (rule for rule in decision.rules if rule.metric == "accuracy over original")
    assert (rule.limit, rule.verdict) == (-0.01, verdict)
    assert decision.verdict == verdict
    said = {"reject": "the form is worse", "undecided": "not shown that the form is no worse"}
    assert said.get(verdict, "reaches -0.01") in rule.reason


def test_the_model_as_trained_is_asked_nothing_of_forms() -> None:
    assert [rule.metric for rule in decided(report_of()).rules] == ["accuracy"]


def test_a_contest_on_other_rows_is_refused() -> None:
    told = form_of()
    assert told.original is not None
    cells = (*told.original.contest.counts[:-1], (1, 1, 1, 209))
    contest = told.original.model_copy(update={"contest": Contest(counts=cells)})
    other = told.model_copy(update={"original": contest})
    with pytest.raises(GateError, match="on which the original was compared are not those of"):
        decided(other)


def test_forms_of_one_model_are_one_model_and_other_models_are_not() -> None:
    form, alone = form_of(), report_of()
    assert Evidence(evaluation=form).model == form_of(9).model == "m"
    assert Evidence(evaluation=alone).model == alone.digest


def weight(cpu_ms: float) -> FormWeight:
    return FormWeight(**STEP, rows=500, size_mb=90.0, cpu_ms=cpu_ms, memory_mb=1234.0)


def run_of(evaluation: EvaluationReport, cpu_ms: float, forms: tuple[Rung, ...] = ()) -> Run:
    decision = decided(evaluation)
    dataset = DatasetManifest(
        **STEP, source="s", source_digest="d", rows=10, changed_by_cleaning=0, label_counts={}
    )
    validation = ValidationReport(
        **STEP, passed=True, problems=(), rows=10, rows_quarantined=0, rows_valid=10, rules=(),
        label_counts={}, length_histogram={},
    )  # fmt: skip
    evidence = Evidence(evaluation=evaluation)
    return Run(
        CONFIG, dataset, validation, evaluation=evaluation, decision=decision,
        recorded=record_of(CONFIG.name, CONFIG.gate, evidence, decision), weight=weight(cpu_ms),
        forms=forms,
    )  # fmt: skip


INT8, FP32 = run_of(form_of(2), 2.5), run_of(form_of(), 6.5)
WORSE = run_of(form_of(40), 2.5)
NOT_MADE = Rung("int8", None, "distilbert has no packed form")


@pytest.mark.parametrize(
    ("rungs", "form"),
    [
        ((Rung("int8", INT8), Rung("fp32", FP32)), "int8"),
        ((Rung("int8", WORSE), Rung("fp32", FP32)), "fp32"),
        ((Rung("student", WORSE), Rung("int8", INT8)), "int8"),
        ((Rung("student", None, "why"), Rung("int8", INT8)), "int8"),
        ((NOT_MADE, Rung("fp32", FP32)), "fp32"),
        ((Rung("int8", WORSE), Rung("fp32", None, "why")), None),
        ((), None),
    ],
)
def test_the_cheapest_form_that_passes_is_served(rungs: tuple[Rung, ...], form: str | None) -> None:
    run = run_of(report_of(), 22.0, rungs)
    chosen = served(rungs)
    assert (chosen and chosen.form) == form
    assert run.chosen is (run if chosen is None else chosen.run)
    told = [reason for reason in run.reasons if reason.startswith("served as")]
    assert len(told) == (form is not None)
    assert all(f"served as {form}: accuracy over original: " in reason for reason in told)


LADDER = run_of(report_of(), 22.0, (Rung("int8", INT8), Rung("fp32", FP32)))


def test_the_table_has_a_line_a_form_with_what_it_costs_and_loses() -> None:
    trained, fp32, int8 = ladder_table(LADDER)
    assert [line["form"] for line in (trained, fp32, int8)] == ["as trained", "fp32", "int8"]
    assert [line["verdict"] for line in (trained, fp32, int8)] == ["pass", "pass", "pass, served"]
    assert int8["CPU a text"] == "2.50 ms" and int8["size"] == "90.0 MB"
    assert int8["memory"] == "1,234 MB" and int8["accuracy"] == "0.9680"
    assert trained["over original"] == ""
    assert int8["over original"].startswith("accuracy -0.0020 [-0.0")


def test_a_form_that_was_not_made_says_why_in_terminal_and_report() -> None:
    run = run_of(report_of(), 22.0, (NOT_MADE, Rung("fp32", FP32)))
    stream = io.StringIO()
    print_ladder(Console(file=stream, width=60), run)
    shown = stream.getvalue()
    assert "int8 was not made: distilbert has no packed form" in shown
    assert "pass, served" in shown and "not made" in shown
    assert "…" not in shown


def test_a_student_is_told_of_with_its_layers_in_table_terminal_and_reasons() -> None:
    rung = Rung("student", replace(INT8, checkpoint=STUDENT))
    run = run_of(report_of(), 22.0, (rung, Rung("int8", INT8)))
    assert [line["form"] for line in ladder_table(run)] == [
        "as trained",
        "int8",
        "student of 2 layers",
    ]
    assert run.reasons[-1].startswith("served as student of 2 layers: accuracy over original: ")
    stream = io.StringIO()
    print_ladder(Console(file=stream, width=60), run)
    assert "student: 2 layers (numbers 1, 6 of the model's), 11.0 M parameters" in stream.getvalue()


def test_a_run_without_forms_prints_no_ladder() -> None:
    stream = io.StringIO()
    print_ladder(Console(file=stream), run_of(report_of(), 22.0))
    assert stream.getvalue() == ""
    assert ladder_table(run_of(report_of(), 22.0)) == []


def test_what_a_form_weighs_is_told_in_one_line() -> None:
    told = "weigh: 90.0 MB, 2.50 ms of CPU a text, 1,234 MB of memory"
    assert summary(weight(2.5)) == told


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"serving": {"forms": ["int8", "int8"]}}, "a form is listed twice"),
        ({"serving": {"forms": ["int4"]}}, "int4"),
        (
            {"gate": {"accuracy": {"min": 0.9}, "form": {"min_gain": {"speed": 0.0}}}},
            "gate.form.min_gain names 'speed', which is no metric",
        ),
    ],
)
def test_what_is_no_form_or_figure_is_refused(section: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PipelineConfig.model_validate({**CONFIG.model_dump(mode="json"), **section})
