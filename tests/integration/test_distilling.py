"""A student by the real worker: from whom it learns, what it survives, and when there is none."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from toy_training import LABELS, toy_texts

from configs.errors import FormError, TrainingError
from configs.schema import PipelineConfig
from flows import pipeline
from tasks.digests import file_digests
from tasks.distilling import distil_student
from tasks.finetuning import fine_tune
from tasks.forms import make_form
from tasks.manifests import (
    CheckpointManifest,
    DatasetManifest,
    SplitManifest,
    ValidationReport,
)
from tasks.progress import listening
from tasks.reporting import Run
from tasks.scoring import class_ids, logits_of
from tasks.steps import MANIFEST, write_json

ROWS = {"train": 96, "validation": 32, "test": 64}
Taught = tuple[SplitManifest, CheckpointManifest]
STEP: dict[str, Any] = {"key": "k", "parents": {}, "folder": Path("step"), "files": {}}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute with one thread in worker processes, too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def split_in(folder: Path, swapped: tuple[str, ...] = ()) -> SplitManifest:
    """Return toy rows on disk; those of sides `swapped` have each other's labels."""
    folder.mkdir()
    label_counts = {}
    for seed, (side, count) in enumerate(ROWS.items()):
        pairs = toy_texts(count, seed)
        texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
        if side in swapped:
            labels = [LABELS[1 - LABELS.index(label)] for label in labels]
        table = pa.table({"row": list(range(count)), "text": texts, "label": labels})
        pq.write_table(table, folder / f"{side}.parquet")
        label_counts[side] = {label: labels.count(label) for label in LABELS}
    manifest = SplitManifest(
        key="0" * 64, parents={}, folder=folder, files=file_digests(folder), rows=ROWS,
        label_counts=label_counts,
    )  # fmt: skip
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def config_for(base: Path, student: dict[str, Any], **training: Any) -> PipelineConfig:
    settings = {
        "base_model": str(base), "max_length": 32, "learning_rate": 2e-3, "num_train_epochs": 5,
        "train_batch_size": 8, "device": "cpu", "early_stopping_patience": 100,
        "metric_for_best_model": "loss",  # else the first epoch is, of a model that is hardly sure
    }  # fmt: skip
    own = {"num_hidden_layers": 1, "learning_rate": 2e-3, "num_train_epochs": 4}
    return PipelineConfig.model_validate(
        {
            "name": "toy",
            "data": {"uri": "toy.csv", "labels": LABELS},
            "training": settings | training,
            "gate": {"accuracy": {"min": 0.5}},
            "serving": {"forms": ["student"], "student": own | student, "calibration_rows": 40},
        }
    )


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Taught:
    """Return toy rows and a model trained on them, both in a folder of this module's."""
    folder = tmp_path_factory.mktemp("taught")
    split = split_in(folder / "split")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("EKIBEN_HOME", str(folder / "home"))
        return split, fine_tune(config_for(tiny_model, {}), split)


def accuracy(config: PipelineConfig, split: SplitManifest, model: CheckpointManifest) -> float:
    """Return the share of the test rows that the model is right about."""
    logits = logits_of(config, split, "test", model, split.folder)
    return float((logits.argmax(axis=1) == class_ids(config, split, "test")).mean())


def weights_of(model: CheckpointManifest) -> dict[str, NDArray[Any]]:
    return load_file(model.path("model") / "model.safetensors")


def test_a_student_has_fewer_layers_and_comes_to_the_model_s_answers_in_its_form(
    homes: Path, taught: Taught, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ekiben")
    config, (split, teacher) = config_for(tiny_model, {}), taught
    told: list[str] = []
    with listening(lambda stage, *_: told.append(stage)):
        student = distil_student(config, split, teacher)
    assert {"score", "distil", "validation"} <= set(told) and "finetune" not in told
    assert student.parents == {"split": split.digest, "teacher": teacher.digest}
    assert (student.kind, student.teacher_layers) == ("transformer", (0,))
    assert (len(student.epochs), student.epochs[-1].step) == (4, 48) and student.curve
    assert (student.base_model, student.base_model_digest) == (
        teacher.base_model, teacher.base_model_digest,
    )  # fmt: skip
    names = {path.relative_to(student.folder).parts[0] for path in student.folder.rglob("*")}
    assert names == {"model", "result.json", "manifest.json"}
    kept = {name for name in weights_of(teacher) if ".layer.1." not in name}
    assert weights_of(student).keys() == kept
    assert student.parameters == sum(tensor.size for tensor in weights_of(student).values())
    form = make_form(config, split, student, "student")
    assert (form.kind, form.teacher_layers) == ("openvino-student", (0,))
    assert (form.epochs, form.parameters) == (student.epochs, student.parameters)
    assert min(accuracy(config, split, model) for model in (teacher, student, form)) > 0.9
    assert distil_student(config, split, teacher) == student
    assert f"distil: reused {student.key[:16]}, nothing changed" in caplog.text


def test_a_student_learns_from_the_model_as_far_as_the_labels_have_no_weight(
    homes: Path, tmp_path: Path, taught: Taught, tiny_model: Path
) -> None:
    right = {}
    for weight, sides in ((0.0, ("train",)), (1.0, ("train", "validation"))):
        swapped = split_in(tmp_path / f"swapped-{weight}", swapped=sides)
        config = config_for(tiny_model, {"label_weight": weight, "num_train_epochs": 6})
        student = distil_student(config, swapped, taught[1])
        right[weight] = accuracy(config, swapped, student)
    assert right[0.0] > 0.9 and right[1.0] < 0.1


def worker_of(parent: int) -> psutil.Process:
    children = psutil.Process(parent).children()
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    (worker,) = [child for child in alive if "tasks.worker" in child.cmdline()]
    return worker


def test_a_killed_distillation_goes_on_from_its_checkpoint_to_the_same_weights(
    homes: Path, taught: Taught, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, (split, teacher) = config_for(tiny_model, {"num_train_epochs": 10}), taught
    killed_at: list[int] = []

    def kill_the_worker(stage: str, done: int, *_: object) -> None:
        if stage == "distil" and done > 40 and not killed_at:
            worker_of(os.getpid()).send_signal(signal.SIGKILL)
            killed_at.append(done)

    with listening(kill_the_worker), pytest.raises(TrainingError, match="was killed by SIGKILL"):
        distil_student(config, split, teacher)
    (staging,) = (homes / "ekiben_home/steps/distil").glob(".*.staging")
    assert list(staging.glob("checkpoint-*")) and not (staging / "result.json").exists()
    told: list[tuple[str, int]] = []
    with listening(lambda stage, done, *_: told.append((stage, done))):
        resumed = distil_student(config, split, teacher)
    steps = [done for stage, done in told if stage == "distil"]
    assert killed_at[0] - 6 <= steps[0] and steps[-1] == 120  # no more than 6 are done again
    assert "score" not in {stage for stage, _ in told}  # the teacher is not asked again
    monkeypatch.setenv("EKIBEN_HOME", str(homes / "another"))
    whole = distil_student(config, split, teacher)
    assert resumed.files["model/model.safetensors"] == whole.files["model/model.safetensors"]
    assert resumed.epochs == whole.epochs


def test_a_student_without_epochs_is_the_layers_as_they_were(
    homes: Path, taught: Taught, tiny_model: Path
) -> None:
    config, (split, teacher) = config_for(tiny_model, {"num_train_epochs": 0}), taught
    student = distil_student(config, split, teacher)
    own, kept = weights_of(teacher), weights_of(student)
    assert len(kept) < len(own)
    assert all(np.array_equal(tensor, own[name]) for name, tensor in kept.items())
    assert (student.epochs, student.seconds, student.hardware) == ((), 0.0, None)
    assert student.parameters == sum(tensor.size for tensor in kept.values())
    assert make_form(config, split, student, "student").kind == "openvino-student"


@pytest.mark.parametrize(
    "training",
    [{"adapter": {"r": 4}, "learning_rate": 2e-2}, {"freeze_layers": 1, "learning_rate": 2e-2}],
    ids=["LoRA", "frozen layers"],
)
def test_a_model_that_was_trained_in_part_has_a_student_that_is_trained_whole(
    homes: Path, tmp_path: Path, tiny_model: Path, training: dict[str, Any]
) -> None:
    config, split = config_for(tiny_model, {}, **training), split_in(tmp_path / "split")
    teacher = fine_tune(config, split)
    student = distil_student(config, split, teacher)
    own, kept = weights_of(teacher), weights_of(student)
    moved = {name for name, tensor in kept.items() if not np.array_equal(tensor, own[name])}
    assert {"bert.embeddings.word_embeddings.weight", "classifier.weight"} < moved
    assert teacher.hardware is not None and student.hardware is not None
    assert student.hardware.trained_parameters > teacher.hardware.trained_parameters
    logits = [logits_of(config, split, "test", model, tmp_path) for model in (teacher, student)]
    assert (logits[0].argmax(axis=1) == logits[1].argmax(axis=1)).mean() > 0.9


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        (model / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    ("student", "change", "told"),
    [
        ({"num_hidden_layers": 2}, configured(), "has 2 layers, and serving.student.num_hidden_la"),
        ({"num_hidden_layers": 9}, configured(), "is 9; set it to fewer than the model has"),
        ({}, configured(model_type="distilbert"), "of type 'distilbert' has no packed form"),
        ({}, configured(is_decoder=True), "a decoder has no packed form"),
    ],
)
def test_a_model_that_has_no_student_is_told_of_before_anything_is_trained(
    homes: Path,
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    student: dict[str, Any],
    change: Callable[[Path], None],
    told: str,
) -> None:
    config, split = config_for(tiny_model, student), split_in(tmp_path / "split")
    folder = tmp_path / "checkpoint"
    (folder / "model").mkdir(parents=True)
    for file in tiny_model.iterdir():
        (folder / "model" / file.name).write_bytes(file.read_bytes())
    change(folder / "model")
    model = CheckpointManifest(
        key="k", parents={}, folder=folder, files=file_digests(folder), base_model="m",
        base_model_digest="d", parameters=1, device="cpu", precision="fp32", best_epoch=1,
        stopped_early=False, seconds=1.0, rows_per_second=1.0, epochs=(), curve=(),
        truncated_rows=0,
    )  # fmt: skip
    write_json(folder / MANIFEST, model.model_dump(mode="json"))
    dataset = DatasetManifest(
        **STEP, source="s", source_digest="d", rows=1, changed_by_cleaning=0, label_counts={}
    )
    validation = ValidationReport(
        **STEP, passed=True, problems=(), rows=1, rows_quarantined=0, rows_valid=1, rules=(),
        label_counts={}, length_histogram={},
    )  # fmt: skip
    run = Run(config, dataset, validation, split=split, checkpoint=model, baseline=model)
    with pytest.raises(FormError, match=told):
        distil_student(config, split, model)
    monkeypatch.setattr(pipeline, "distil", distil_student)  # without Prefect's engine
    rung = pipeline.rung_of(run, "student", None)
    assert (rung.form, rung.run, rung.passes) == ("student", None, False)
    assert rung.told is not None and told in rung.told
    assert not (homes / "ekiben_home/steps/distil").exists()
