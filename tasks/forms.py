"""Stage form: a cheaper form of the trained model, to be judged by the same gate as it was."""

import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.errors import FormError
from configs.schema import PipelineConfig
from configs.serving import Form
from tasks.exporting import Packable, export_form
from tasks.fingerprints import fingerprints
from tasks.manifests import CheckpointManifest, SplitManifest
from tasks.steps import require_whole, run_step

log = logging.getLogger("ekiben")
KIND_OF: dict[Form, str] = {
    "baseline": "linear",
    "student": "openvino-student",
    "int8": "openvino-int8",
    "fp32": "openvino-fp32",
}
"""The kind of model that each form is, cheapest first."""
FORM_OF: dict[str, Form] = {kind: form for form, kind in KIND_OF.items()}


def make_form(
    config: PipelineConfig, split: SplitManifest, model: CheckpointManifest, form: Form
) -> CheckpointManifest:
    """Return the model in that form, its folder under `model/`.

    int8 learns the ranges of its numbers from `serving.calibration_rows` rows of the training split.
    A student that was distilled becomes the form `student`, in int8, too.

    Raises:
        FormError: if the model has no such form, with the reason.
        StepError: if the split or the model was changed since it was made.
    """
    require_whole(split, model)
    packable: Packable = "fp32" if form == "fp32" else "int8"
    rows = config.serving.calibration_rows if packable == "int8" else None

    def produce(folder: Path) -> dict[str, Any]:
        if form == "baseline":
            raise FormError("the baseline is fitted, not made of the model; take it as it is")
        if (form == "student") != bool(model.teacher_layers):
            raise FormError(f"{form} is made of another model; a student is what was distilled")
        texts = [] if rows is None else calibration_texts(split, rows)
        source, output = model.path("model"), folder / "model"
        export_form(source, packable, texts, output, config.training.max_length)
        own = model.model_dump(exclude={"key", "parents", "folder", "files", "kind"})
        return {**own, "kind": KIND_OF[form]}

    return run_step(
        "form",
        CheckpointManifest,
        section={
            "form": form,
            "max_length": config.training.max_length,
            "calibration_rows": rows,
        },
        parents={"split": split.digest, "checkpoint": model.digest},
        produce=produce,
    )


def calibration_texts(split: SplitManifest, most: int) -> list[str]:
    """Return up to `most` training texts, those whose content hashes are smallest."""
    texts = pq.read_table(split.path("train.parquet"), columns=["text"])["text"].combine_chunks()
    order = fingerprints(texts).argsort(kind="stable")[:most]
    chosen: list[str] = texts.take(order).to_pylist()
    return chosen


form = task(name="form", task_run_name="form", cache_policy=NO_CACHE)(make_form)
