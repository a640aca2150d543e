"""Scores of a checkpoint on one side of the split, from the worker process."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from configs.errors import TrainingError
from configs.schema import PipelineConfig
from tasks.accelerators import cuda_devices, held
from tasks.calibration import Logits
from tasks.encoding import encode, load_tokenizer
from tasks.linear import read_linear
from tasks.manifests import CheckpointManifest, SplitManifest
from tasks.process import run_worker
from tasks.progress import report_progress
from tasks.words import words
from tasks.worker.spec import ScoreSpec

_TEXTS_A_PART = 1000


def logits_of(
    config: PipelineConfig,
    split: SplitManifest,
    side: str,
    checkpoint: CheckpointManifest,
    folder: Path,
) -> Logits:
    """Return logits [n_rows, n_labels] of one side, in its order; `folder` is left as it was.

    Raises:
        TrainingError: if the worker fails, with the end of its log, or a logit is not finite.
    """
    return score(config, checkpoint, split.path(f"{side}.parquet"), folder, f"{side} rows scored")


def score(
    config: PipelineConfig, checkpoint: CheckpointManifest, parquet: Path, folder: Path, told: str
) -> Logits:
    """Return logits [n_rows, n_labels] of a file of texts and labels; `told` names its rows.

    Raises:
        TrainingError: if the worker fails, with the end of its log, or a logit is not finite.
    """
    if checkpoint.kind == "linear":
        texts = pq.read_table(parquet, columns=["text"])["text"].to_pylist()
        model = read_linear(checkpoint.path("model"), len(config.data.label_names))
        return model.logits(texts, words)
    if checkpoint.kind != "transformer":
        return _of_the_packed_form(config, checkpoint, parquet, told)
    logits = _of_the_worker(config, checkpoint, parquet, folder, told)
    if not np.isfinite(logits).all():
        raise TrainingError(
            f"the checkpoint {checkpoint.path('model')} gives logits that are no finite numbers, so "
            "its training diverged; lower training.learning_rate"
        )
    return logits


def _of_the_packed_form(
    config: PipelineConfig, checkpoint: CheckpointManifest, parquet: Path, told: str
) -> Logits:
    """Return logits as the service will compute them, in float64."""
    from tasks.packed import Packed  # late: openvino takes a second, and most steps need none

    texts = pq.read_table(parquet, columns=["text"])["text"].to_pylist()
    model = Packed(checkpoint.path("model"), config.training.max_length)
    parts = []
    for start in range(0, len(texts), _TEXTS_A_PART):
        parts.append(model.all_logits(texts[start : start + _TEXTS_A_PART]))
        report_progress("score", min(start + _TEXTS_A_PART, len(texts)), len(texts), told)
    return np.concatenate(parts)


def _of_the_worker(
    config: PipelineConfig, checkpoint: CheckpointManifest, parquet: Path, folder: Path, told: str
) -> NDArray[np.float32]:
    tokenizer = load_tokenizer(checkpoint.path("model"))

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "scored":
            report_progress("score", event["done"], event["total"], told)

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        rows, output, asked = (
            Path(scratch) / name for name in ("rows", "logits.npy", "score.json")
        )
        encode(parquet, tokenizer, config.data.label_names, config.training.max_length, rows)
        spec = ScoreSpec(
            model=str(checkpoint.path("model")),
            rows=str(rows),
            output=str(output),
            pad_token_id=int(tokenizer.pad_token_id),
            device=config.training.device,
        )
        spec.write(asked)
        with held(cuda_devices(config.training.device), config.name):
            run_worker("score", asked, tell)
        logits: NDArray[np.float32] = np.load(output)
    return logits


def class_ids(config: PipelineConfig, split: SplitManifest, side: str) -> NDArray[np.int64]:
    """Return the class ids [n_rows] of the labels that the rows of one side have."""
    numbers = {label: number for number, label in enumerate(config.data.label_names)}
    labels = pq.read_table(split.path(f"{side}.parquet"), columns=["label"])["label"]
    return np.array([numbers[label] for label in labels.to_pylist()], dtype=np.int64)
