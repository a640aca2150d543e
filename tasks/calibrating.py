"""Stage calibrate: from the validation rows, how logits are scaled and what confidence is sure."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import Calibration, PipelineConfig
from tasks.abstention import choose
from tasks.calibration import (
    COLDEST,
    HOTTEST,
    Logits,
    fit,
    is_at_bound,
    loss_of,
    probabilities_of,
    unscaled,
)
from tasks.manifests import CalibrationManifest, CheckpointManifest, SplitManifest
from tasks.scoring import class_ids, logits_of
from tasks.steps import require_whole, run_step


def calibrate_candidate(
    config: PipelineConfig, split: SplitManifest, checkpoint: CheckpointManifest
) -> CalibrationManifest:
    """Return the scaling fitted on the validation rows, and the threshold of confidence.

    Raises:
        TrainingError: if the scoring worker fails, with the end of its log.
        StepError: if the split or the checkpoint was changed since it was made.
    """
    require_whole(split, checkpoint)

    def produce(folder: Path) -> dict[str, Any]:
        logits = logits_of(config, split, "validation", checkpoint, folder)
        return calibrated(config.calibration, logits, class_ids(config, split, "validation"))

    return run_step(
        "calibrate",
        CalibrationManifest,
        section={
            "calibration": config.calibration.model_dump(mode="json", exclude={"bins"}),
            "max_length": config.training.max_length,
            "labels": config.data.label_names,
        },
        parents={"split": split.digest, "checkpoint": checkpoint.digest},
        produce=produce,
    )


def calibrated(settings: Calibration, logits: Logits, actual: NDArray[np.int64]) -> dict[str, Any]:
    """Return the manifest's own fields from logits [n_rows, n_labels] and class ids [n_rows]."""
    scaling = fit(logits, actual, settings.method)
    probabilities = probabilities_of(logits, scaling)
    abstention = None
    if settings.abstain.target != "none":
        right = probabilities.argmax(axis=1) == actual
        abstention = choose(settings.abstain, probabilities.max(axis=1), right)
    told = []
    if is_at_bound(scaling):
        told.append(
            f"the scaling stopped at its bound, a temperature of {COLDEST:g} or {HOTTEST:g}: the "
            "logits are far too small or too large"
        )
    if abstention is not None and abstention.threshold is None:
        told.append(
            f"no confidence shows a precision of {settings.abstain.value:g} on {len(actual):,} "
            "validation rows, so the service is unsure of every answer"
        )
    return {
        "rows": len(actual),
        "scaling": scaling,
        "loss_before": loss_of(logits, actual, unscaled(logits.shape[1])),
        "loss": loss_of(logits, actual, scaling),
        "abstention": abstention,
        "told": tuple(told),
    }


calibrate = task(name="calibrate", task_run_name="calibrate", cache_policy=NO_CACHE)(
    calibrate_candidate
)
