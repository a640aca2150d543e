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
from tasks.contests import contest_of
from tasks.encoding import encode, load_tokenizer
from tasks.figures import confusion_of, measure
from tasks.linear import read_linear
from tasks.manifests import CheckpointManifest, EvaluationReport, SplitManifest
from tasks.process import run_worker
from tasks.progress import report_progress
from tasks.steps import require_whole, run_step
from tasks.words import words
from tasks.worker.spec import ScoreSpec


def evaluate_candidate(
    config: PipelineConfig,
    split: SplitManifest,
    checkpoint: CheckpointManifest,
    baseline: CheckpointManifest,
) -> EvaluationReport:
    """Return figures with intervals of the candidate and of the baseline on the same test rows.

    The candidate may be the baseline itself. `predictions.parquet` has a line a test row: row, label,
    predicted, and one probability a label.

    Raises:
        TrainingError: if the scoring worker fails, with the end of its log.
        StepError: if the split or a checkpoint was changed since it was made.
        GateError: if the evaluation does not count its own predictions.
    """
    require_whole(split, checkpoint, baseline)

    def produce(folder: Path) -> dict[str, Any]:
        return _evaluate(config, split, checkpoint, baseline, folder)

    report = run_step(
        "evaluate",
        EvaluationReport,
        section={
            "evaluation": config.evaluation.model_dump(mode="json"),
            "max_length": config.training.max_length,
            "labels": config.data.label_names,
        },
        parents={
            "split": split.digest,
            "checkpoint": checkpoint.digest,
            "baseline": baseline.digest,
        },
        produce=produce,
    )
    require_own_counts(split, report)
    return report


def require_own_counts(split: SplitManifest, report: EvaluationReport) -> None:
    """Count again what the evaluation counted, from the test rows and the predictions on them.

    Raises:
        StepError: if split or evaluation were changed since they were made.
        GateError: if there are no test rows, or the counts differ.
    """
    require_whole(split, report)
    test = pq.read_table(split.path("test.parquet"), columns=["row", "label"])
    said = pq.read_table(report.path("predictions.parquet"), columns=["row", "predicted"])
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


def _evaluate(
    config: PipelineConfig,
    split: SplitManifest,
    checkpoint: CheckpointManifest,
    baseline: CheckpointManifest,
    folder: Path,
) -> dict[str, Any]:
    labels = config.data.label_names
    test = pq.read_table(split.path("test.parquet"))
    numbers = {label: number for number, label in enumerate(labels)}
    actual = np.array([numbers[label] for label in test["label"].to_pylist()], dtype=np.int64)
    probabilities = _softmax(_logits(config, split, checkpoint, folder))
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    _write_predictions(test, labels, predicted, probabilities, folder / "predictions.parquet")
    samples, seed = config.evaluation.bootstrap_samples, config.evaluation.seed
    other = predicted
    if checkpoint.digest != baseline.digest:
        other = _logits(config, split, baseline, folder).argmax(axis=1).astype(np.int64)
    return {
        "rows": len(actual),
        "labels": labels,
        "figures": measure(predicted, actual, labels, samples, seed),
        "baseline": measure(other, actual, labels, samples, seed),
        "against_baseline": contest_of(actual, predicted, other),
        "confusion": confusion_of(predicted, actual, len(labels)).tolist(),
        "bootstrap_samples": samples,
        "bootstrap_seed": seed,
    }


def _logits(
    config: PipelineConfig, split: SplitManifest, checkpoint: CheckpointManifest, folder: Path
) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return a model's logits [n_test_rows, n_labels]."""
    if checkpoint.kind == "transformer":
        return _worker_logits(config, split, checkpoint, folder)
    texts = pq.read_table(split.path("test.parquet"), columns=["text"])["text"].to_pylist()
    model = read_linear(checkpoint.path("model"), len(config.data.label_names))
    return model.logits(texts, words)


def _worker_logits(
    config: PipelineConfig, split: SplitManifest, checkpoint: CheckpointManifest, folder: Path
) -> NDArray[np.float32]:
    """Return a transformer's logits [n_test_rows, n_labels], from the worker process."""
    tokenizer = load_tokenizer(checkpoint.path("model"))
    rows, output = folder / "encoded", folder / "logits.npy"
    encode(
        split.path("test.parquet"),
        tokenizer,
        config.data.label_names,
        config.training.max_length,
        rows,
    )
    spec = ScoreSpec(
        model=str(checkpoint.path("model")),
        rows=str(rows),
        output=str(output),
        pad_token_id=int(tokenizer.pad_token_id),
        device=config.training.device,
    )
    spec.write(folder / "score.json")
    run_worker("score", folder / "score.json", _tell)
    logits: NDArray[np.float32] = np.load(output)
    for file in [*rows.iterdir(), output, folder / "score.json"]:
        file.unlink()
    rows.rmdir()
    return logits


def _softmax(logits: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities of logits, both [n_rows, n_labels]."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    total: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return total


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


def _tell(event: dict[str, Any]) -> None:
    if event["event"] == "scored":
        report_progress("evaluate", event["done"], event["total"], "test rows scored")


evaluate = task(name="evaluate", task_run_name="evaluate", cache_policy=NO_CACHE)(
    evaluate_candidate
)
