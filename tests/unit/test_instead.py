"""The baseline in the place of a model that is not released: how such a run ends and is told."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from configs.schema import PipelineConfig
from flows.summary import summary
from flows.terminal import print_decisions
from tasks.estimates import Share
from tasks.figures import estimates_of
from tasks.gate import judge
from tasks.manifests import (
    CheckpointManifest,
    DatasetManifest,
    EvaluationReport,
    Evidence,
    ValidationReport,
)
from tasks.plots import limits
from tasks.questions import figure_of
from tasks.records import record_of
from tasks.reporting import Run

Counts = NDArray[np.int64]
LABELS = ("ham", "spam")
GOOD = np.array([[760, 10], [20, 210]])
BAD = np.array([[500, 270], [100, 130]])
FEW = np.array([[7, 1], [0, 2]])
OF_GOOD = "accuracy: 0.9700 [0.9575, 0.9789] reaches 0.9"
OF_BAD = "accuracy: 0.6300 [0.5996, 0.6594] is below 0.9"
OF_FEW = "accuracy: 10 test rows, below gate.min_test_rows=100"
CONFIG = PipelineConfig.model_validate(
    {
        "name": "tried",
        "data": {"uri": "rows.csv", "labels": list(LABELS)},
        "gate": {"accuracy": {"min": 0.9}, "baseline": {"release_instead": True}},
    }
)
STEP: dict[str, Any] = {"key": "k", "folder": Path("step"), "files": {}}


def evaluation_of(confusion: Counts, parents: dict[str, str]) -> EvaluationReport:
    figures = {
        name: figure_of(estimate)
        for name, estimate in estimates_of(confusion, LABELS, 200, 0).items()
    }
    return EvaluationReport(
        **STEP, parents=parents, rows=int(confusion.sum()), labels=LABELS, figures=figures,
        baseline=figures | {"accuracy": figure_of(Share(950, 1000))}, bootstrap_samples=200,
        confusion=tuple(map(tuple, confusion.tolist())), bootstrap_seed=0,
    )  # fmt: skip


def run_on(confusion: Counts, checkpoint: str, instead: Run | None = None) -> Run:
    evaluation = evaluation_of(confusion, {"checkpoint": checkpoint, "baseline": "linear"})
    evidence = Evidence(evaluation=evaluation)
    decision = judge(CONFIG.gate, evidence)
    dataset = DatasetManifest(
        **STEP, parents={}, source="s", source_digest="d", rows=10, changed_by_cleaning=0,
        label_counts={},
    )  # fmt: skip
    validation = ValidationReport(
        **STEP, parents={}, passed=True, problems=(), rows=10, rows_quarantined=0, rows_valid=10,
        rules=(), label_counts={}, length_histogram={},
    )  # fmt: skip
    return Run(
        CONFIG, dataset, validation, evaluation=evaluation, decision=decision, instead=instead,
        recorded=record_of(CONFIG.name, CONFIG.gate, evidence, decision),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "baseline", "outcome", "reasons"),
    [
        (GOOD, None, "passed", [OF_GOOD]),
        (BAD, None, "rejected", [OF_BAD]),
        (
            BAD, GOOD, "passed",
            [f"the baseline is released instead: {OF_GOOD}",
             f"the model is not: {OF_BAD}"],
        ),
        (
            FEW, BAD, "undecided",
            [OF_FEW,
             f"nor is the baseline released instead: {OF_BAD}"],
        ),
        (
            BAD, FEW, "rejected",
            [OF_BAD,
             f"nor is the baseline released instead: {OF_FEW}"],
        ),
    ],
)  # fmt: skip
def test_a_run_ends_by_the_baseline_only_where_that_is_released(
    model: Counts, baseline: Counts | None, outcome: str, reasons: list[str]
) -> None:
    instead = None if baseline is None else run_on(baseline, "linear")
    run = run_on(model, "tuned", instead)
    assert run.outcome == outcome
    assert list(run.reasons) == reasons
    assert run.chosen is (instead if "baseline is released" in reasons[0] else run)


def printed(run: Run) -> list[list[str]]:
    stream = io.StringIO()
    print_decisions(Console(file=stream, width=120), run)
    return [line.split() for line in stream.getvalue().splitlines() if line.strip(" ─")]


def test_the_terminal_shows_both_decisions_and_the_baselines_figures_once() -> None:
    lines = printed(run_on(BAD, "tuned", run_on(GOOD, "linear")))
    headings = ["rule", "value", "95%", "interval", "n", "limit"]
    low, good = ["[0.5996,", "0.6594]", "1,000"], ["[0.9575,", "0.9789]", "1,000"]
    assert lines == [
        ["tried:", "reject"],
        [*headings, "baseline", "verdict"],
        ["accuracy", "0.6300", *low, "≥", "0.9", "0.9500", "reject"],
        ["tried:", "the", "baseline", "in", "its", "place:", "pass"],
        [*headings, "verdict"],
        ["accuracy", "0.9700", *good, "≥", "0.9", "pass"],
    ]


@pytest.mark.parametrize(("checkpoint", "shown"), [("tuned", True), ("linear", False)])
def test_a_plot_of_the_baseline_has_no_second_mark_of_it(checkpoint: str, shown: bool) -> None:
    run = run_on(GOOD, checkpoint)
    assert run.decision is not None and run.evaluation is not None
    (axes,) = limits(run.decision.rules, "95%", run.evaluation).axes
    assert ("baseline" in [line.get_label() for line in axes.lines]) == shown


def test_the_gate_of_the_baseline_keeps_every_limit_but_those_beside_the_baseline() -> None:
    gate = CONFIG.gate
    assert gate.baseline.release_instead
    alone = gate.of_the_baseline
    assert alone.baseline == type(gate.baseline)()
    assert alone.model_dump(exclude={"baseline"}) == gate.model_dump(exclude={"baseline"})


def test_the_baseline_is_summed_up_without_a_device_or_epochs() -> None:
    made = CheckpointManifest(
        **STEP, parents={}, kind="linear", base_model="none", base_model_digest="none",
        parameters=12_345, device="cpu", precision="fp64", best_epoch=1, stopped_early=False,
        seconds=0.25, rows_per_second=1.0, epochs=(), curve=(), truncated_rows=0,
    )  # fmt: skip
    assert summary(made) == ("baseline: TF-IDF and logistic regression of 12,345 parameters, 0.2 s")
