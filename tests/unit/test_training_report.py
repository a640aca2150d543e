"""What a report and the terminal tell of a training: its pace, its hardware, what a rerun gives."""

from pathlib import Path
from typing import Any

import pytest

from configs.schema import PipelineConfig
from flows.summary import summary
from tasks.manifests import (
    CheckpointManifest,
    DatasetManifest,
    EpochFigures,
    HardwareUse,
    StepFigures,
    ValidationReport,
)
from tasks.plots import as_svg, training_curve, training_pace
from tasks.reporting import Run, determinism

STEP: dict[str, Any] = {"key": "k", "parents": {}, "folder": Path("step"), "files": {}}
USED = HardwareUse(
    trained_parameters=1_000, forward="packed BERT", threads=2, cores=1.8, memory_mb=500.0,
    tokens_per_second=12_345.6,
)  # fmt: skip


def made_on(device: str, hardware: HardwareUse | None = USED) -> CheckpointManifest:
    return CheckpointManifest(
        **STEP, base_model="m", base_model_digest="m", parameters=2_500_000, device=device,
        precision="fp32", best_epoch=1, stopped_early=False, seconds=3.0, rows_per_second=40.0,
        truncated_rows=0, hardware=hardware,
        epochs=(EpochFigures(epoch=1, step=2, train_loss=0.6, loss=0.5, accuracy=0.8, f1=0.7),),
        curve=tuple(
            StepFigures(
                step=step, loss=0.7, learning_rate=1e-4, tokens_per_second=9_000.0, memory_mb=500.0
            )
            for step in (1, 2)
        ),
    )  # fmt: skip


def run_on(device: str, hardware: HardwareUse | None = USED, **training: Any) -> Run:
    config = PipelineConfig.model_validate(
        {
            "name": "told",
            "data": {"uri": "rows.csv", "labels": ["ham", "spam"]},
            "training": training,
            "gate": {"accuracy": {"min": 0.9}},
        }
    )
    dataset = DatasetManifest(
        **STEP, source="s", source_digest="d", rows=10, changed_by_cleaning=0, label_counts={},
    )  # fmt: skip
    validation = ValidationReport(
        **STEP, passed=True, problems=(), rows=10, rows_quarantined=0, rows_valid=10, rules=(),
        label_counts={}, length_histogram={},
    )  # fmt: skip
    return Run(config, dataset, validation, checkpoint=made_on(device, hardware))


@pytest.mark.parametrize(
    ("device", "training", "told"),
    [
        ("cpu", {}, "Deterministic: on this kind of processor, 1 process(es) of 2 thread(s)"),
        ("4 x cpu", {}, "Deterministic: on this kind of processor, 4 process(es) of 2 thread(s)"),
        ("NVIDIA H200", {}, "Not deterministic to the bit: on NVIDIA H200, kernels add up"),
        ("2 x NVIDIA H200", {}, "Not deterministic to the bit: on 2 x NVIDIA H200"),
        (
            "NVIDIA H200",
            {"full_determinism": True},
            "Deterministic: kernels that are not were refused. NVIDIA H200 and these versions",
        ),
    ],
)
def test_the_report_says_what_a_rerun_gives_again(
    device: str, training: dict[str, Any], told: str
) -> None:
    assert determinism(run_on(device, **training)).startswith(told)


def test_nothing_is_said_of_a_training_whose_hardware_is_unknown() -> None:
    assert determinism(run_on("cpu", None)) == ""


def test_the_summary_tells_the_tokens_a_second_where_they_are_known() -> None:
    told = "finetune: 2.5 M parameters on cpu (fp32), best of 1 epochs is 1, 3 s, 40 rows/s"
    assert summary(made_on("cpu")) == f"{told}, 12,346 tokens/s"
    assert summary(made_on("cpu", None)) == told


def test_pace_and_curve_are_drawn_with_what_they_show() -> None:
    pace = as_svg(training_pace(made_on("cpu")))
    assert ">tokens a second<" in pace
    assert ">learning rate (right)<" in pace
    curve = as_svg(training_curve(made_on("cpu")))
    assert all(f">{name}<" in curve for name in ("training loss", "validation loss"))
