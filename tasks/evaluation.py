"""Stage evaluate: score the candidate and the baseline on the test split, with intervals."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import GateError
from configs.schema import PipelineConfig
from tasks.abstention import selection_at, selections
from tasks.calibration import Logits, probabilities_of, unscaled
from tasks.contests import contest_of
from tasks.figures import confusion_of, measure
from tasks.manifests import (
    CalibrationManifest,
    CheckpointManifest,
    EvaluationReport,
    Original,
    SplitManifest,
)
from tasks.reliability import reliability_bins
from tasks.scoring import class_ids, logits_of
from tasks.slices import require_own_slices, slices_of
from tasks.steps import require_whole, run_step

PREDICTIONS = "predictions.parquet"


def evaluate_candidate(
    config: PipelineConfig,
    split: SplitManifest,
    checkpoint: CheckpointManifest,
    calibration: CalibrationManifest,
    baseline: CheckpointManifest,
    original: EvaluationReport | None = None,
) -> EvaluationReport:
    """Return figures with intervals of the candidate and of the baseline on the same test rows.

    The candidate may be the baseline itself. Where it is a form of a model, `original` is the
    evaluation of that, and they are compared row by row. `predictions.parquet` has a line a test
    row: row, label, predicted, and one probability a label, calibrated as it will be served.

    Raises:
        TrainingError: if the scoring worker fails, with the end of its log.
        StepError: if split, calibration or a checkpoint was changed since it was made.
        GateError: if the evaluation does not count its own predictions.
    """
    parents = {
        "split": split,
        "checkpoint": checkpoint,
        "calibration": calibration,
        "baseline": baseline,
    } | ({} if original is None else {"original": original})
    require_whole(*parents.values())

    def produce(folder: Path) -> dict[str, Any]:
        own = _evaluate(config, split, checkpoint, calibration, baseline, folder)
        return own | {"original": original and _beside(original, folder / PREDICTIONS)}

    report = run_step(
        "evaluate",
        EvaluationReport,
        section={
            "evaluation": config.evaluation.model_dump(mode="json"),
            "bins": config.calibration.bins,
            "max_length": config.training.max_length,
            "labels": config.data.label_names,
        },
        parents={name: manifest.digest for name, manifest in parents.items()},
        produce=produce,
    )
    require_own_counts(split, report)
    require_own_slices(config, split, report)
    return report


def require_own_counts(split: SplitManifest, report: EvaluationReport) -> None:
    """Count again what the evaluation counted, from the test rows and the predictions on them.

    Raises:
        StepError: if split or evaluation were changed since they were made.
        GateError: if there are no test rows, or the counts differ.
    """
    require_whole(split, report)
    test = pq.read_table(split.path("test.parquet"), columns=["row", "label"])
    said = pq.read_table(report.path(PREDICTIONS))
    if len(test) == 0 or not test["row"].equals(said["row"]):
        raise GateError(
            f"{report.folder}: predictions on {len(said)} rows, expected one on each of the "
            f"{len(test)} test rows of {split.folder}; evaluate anew"
        )
    numbers = {label: number for number, label in enumerate(report.labels)}
    counted = np.zeros((len(numbers), len(numbers)), dtype=np.int64)
    pairs = zip(test["label"].to_pylist(), said["predicted"].to_pylist(), strict=True)
    for (actual, predicted), rows in Counter(pairs).items():
        counted[numbers[actual], numbers[predicted]] = rows
    if counted.tolist() != [list(row) for row in report.confusion]:
        raise GateError(
            f"{report.folder}: its predictions on the test rows are not what its confusion "
            "matrix counts; evaluate anew"
        )
    ids = np.array([numbers[label] for label in test["label"].to_pylist()])
    _require_own_confidences(report, np.array(said["probabilities"].to_pylist()), ids)


def _require_own_confidences(
    report: EvaluationReport, probabilities: NDArray[np.float64], actual: NDArray[np.int64]
) -> None:
    bins = reliability_bins(probabilities, actual, max(1, len(report.reliability)))
    right = probabilities.argmax(axis=1) == actual
    told = report.abstention
    sure = told and selection_at(told.threshold, probabilities.max(axis=1), right)
    if (bins, sure) != (report.reliability, told):
        raise GateError(
            f"{report.folder}: its probabilities on the test rows are not what its bins and its "
            "abstention count; evaluate anew"
        )


def _evaluate(
    config: PipelineConfig,
    split: SplitManifest,
    checkpoint: CheckpointManifest,
    calibration: CalibrationManifest,
    baseline: CheckpointManifest,
    folder: Path,
) -> dict[str, Any]:
    labels = config.data.label_names
    test = pq.read_table(split.path("test.parquet"))
    actual = class_ids(config, split, "test")
    logits = logits_of(config, split, "test", checkpoint, folder)
    probabilities = probabilities_of(logits, calibration.scaling)
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    _write_predictions(test, labels, predicted, probabilities, folder / PREDICTIONS)
    samples, seed = config.evaluation.bootstrap_samples, config.evaluation.seed
    other = predicted
    if checkpoint.digest != baseline.digest:
        scores = logits_of(config, split, "test", baseline, folder)
        other = scores.argmax(axis=1).astype(np.int64)
    return {
        "rows": len(actual),
        "labels": labels,
        "figures": measure(predicted, actual, labels, samples, seed),
        "baseline": measure(other, actual, labels, samples, seed),
        "against_baseline": contest_of(actual, predicted, other),
        "confusion": confusion_of(predicted, actual, len(labels)).tolist(),
        "bootstrap_samples": samples,
        "bootstrap_seed": seed,
        "scaling": calibration.scaling,
        **_confidence(config, calibration, logits, probabilities, actual),
        "slices": slices_of(config, test, predicted, actual),
    }


def _beside(original: EvaluationReport, predictions: Path) -> Original:
    """Return how a form's predictions compare with those of the model as it was trained."""
    numbers = {label: number for number, label in enumerate(original.labels)}
    own, other = (
        pq.read_table(file, columns=["row", "label", "predicted"])
        for file in (predictions, original.path(PREDICTIONS))
    )
    actual, given, trained = (
        np.array([numbers[label] for label in column.to_pylist()], dtype=np.int64)
        for column in (own["label"], own["predicted"], other["predicted"])
    )
    return Original(
        model=original.model,
        contest=contest_of(actual, given, trained),
        figures=original.figures,
    )


def _confidence(
    config: PipelineConfig,
    calibration: CalibrationManifest,
    logits: Logits,
    probabilities: NDArray[np.float64],
    actual: NDArray[np.int64],
) -> dict[str, Any]:
    """Return what the report holds of the confidences on the test rows."""
    bins = config.calibration.bins
    own = probabilities_of(logits, unscaled(logits.shape[1]))
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == actual
    chosen = calibration.abstention
    return {
        "reliability_before": reliability_bins(own, actual, bins),
        "reliability": reliability_bins(probabilities, actual, bins),
        "selections": selections(confidence, right),
        "abstention": chosen and selection_at(chosen.threshold, confidence, right),
    }


def _write_predictions(
    test: pa.Table,
    labels: tuple[str, ...],
    predicted: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    file: Path,
) -> None:
    columns = {
        "row": test["row"],
        "label": test["label"],
        "predicted": pa.array([labels[number] for number in predicted]),
        "probabilities": pa.array(probabilities.tolist(), pa.list_(pa.float64(), len(labels))),
    }
    pq.write_table(pa.table(columns), file)


evaluate = task(name="evaluate", task_run_name="evaluate", cache_policy=NO_CACHE)(
    evaluate_candidate
)
