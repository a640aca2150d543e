"""Stage distil: a student of fewer layers, cut out of the trained model and taught by it."""

import json
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from safetensors.numpy import save_file

from configs.errors import FormError
from configs.schema import PipelineConfig
from configs.training import Tracking
from tasks.encoding import load_tokenizer
from tasks.exporting import packable_config, read_weights
from tasks.finetuning import train_in
from tasks.manifests import CheckpointManifest, SplitManifest
from tasks.scoring import logits_of
from tasks.steps import require_whole, run_step, write_json

log = logging.getLogger("ekiben")
_LAYER = re.compile(r"(.+\.encoder\.layer\.)(\d+)(\..+)")


def distil_student(
    config: PipelineConfig, split: SplitManifest, model: CheckpointManifest
) -> CheckpointManifest:
    """Return the student that `serving.student` describes of the model, its folder under `model/`.

    It begins as some of the model's layers and is trained on the same rows, whole, by the settings
    of `training` but for its own, to come to the model's logits. An interrupted run goes on from its
    last whole checkpoint. What `tracking` asks for is the model's training alone.

    Raises:
        FormError: if the student could not be served, or the model has no layers to leave out; told
            before anything is trained.
        StepError: if the split or the model was changed since it was made.
        TrainingError: if the worker fails, with the end of its log.
    """
    require_whole(split, model)
    asked = config.serving.student
    described = packable_config(model.path("model"), config.training.max_length)
    layers = described["num_hidden_layers"]
    if layers <= asked.num_hidden_layers:
        raise FormError(
            f"the model has {layers} layers, and serving.student.num_hidden_layers is "
            f"{asked.num_hidden_layers}; set it to fewer than the model has"
        )
    kept = evenly_spaced(layers, asked.num_hidden_layers)

    def produce(folder: Path) -> dict[str, Any]:
        log.info("distil: layers %s of %d", ", ".join(str(number + 1) for number in kept), layers)
        own = model.model_dump(exclude={"key", "parents", "folder", "files"})
        if not asked.num_train_epochs:
            return {**own, **_untrained(model.path("model"), kept, folder / "model")}
        return {**own, "teacher_layers": kept, **_taught(config, split, model, kept, folder)}

    return run_step(
        "distil",
        CheckpointManifest,
        section={
            "student": asked.model_dump(mode="json"),
            "training": config.training.model_dump(mode="json"),
            "labels": config.data.label_names,
        },
        parents={"split": split.digest, "teacher": model.digest},
        produce=produce,
        resumable=True,
    )


def evenly_spaced(layers: int, count: int) -> tuple[int, ...]:
    """Return which of so many layers are kept, evenly spaced from the first to the last, from 0 on.

    Of twelve, six are [0, 2, 4, 7, 9, 11], which the training of DistilBERT begins with
    (Sanh et al. 2019, `extract_distilbert.py`). A single one is the first, which knows embeddings.
    """
    return tuple(round(place * (layers - 1) / max(count - 1, 1)) for place in range(count))


def cut(source: Path, kept: Sequence[int], output: Path) -> int:
    """Write the model with the layers `kept` alone, numbered anew; return its parameters.

    Raises:
        FormError: if the weights cannot be read.
    """
    places = {str(number): str(place) for place, number in enumerate(kept)}
    weights = {}
    for name, tensor in read_weights(source).items():
        layer = _LAYER.fullmatch(name)
        if layer is None:
            weights[name] = tensor
        elif layer[2] in places:
            weights[f"{layer[1]}{places[layer[2]]}{layer[3]}"] = tensor
    output.mkdir(exist_ok=True)
    save_file(weights, output / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    write_json(output / "config.json", {**config, "num_hidden_layers": len(kept)})
    return sum(tensor.size for tensor in weights.values())


def _untrained(source: Path, kept: Sequence[int], output: Path) -> dict[str, Any]:
    parameters = cut(source, kept, output)
    load_tokenizer(source).save_pretrained(output)
    return {
        "teacher_layers": kept,
        "parameters": parameters,
        "best_epoch": 0,
        "stopped_early": False,
        "seconds": 0.0,
        "rows_per_second": 0.0,
        "epochs": (),
        "curve": (),
        "hardware": None,
    }


def _taught(
    config: PipelineConfig,
    split: SplitManifest,
    model: CheckpointManifest,
    kept: Sequence[int],
    folder: Path,
) -> dict[str, Any]:
    asked, source = config.serving.student, model.path("model")
    teacher = folder / "teacher" / "logits.npy"
    if not teacher.exists():  # else of a run that was interrupted
        teacher.parent.mkdir(exist_ok=True)
        partial = teacher.with_name("partial.npy")
        np.save(partial, logits_of(config, split, "train", model, teacher.parent))
        partial.rename(teacher)
    cut(source, kept, folder / "base")
    settings = {
        "num_hidden_layers": None,
        "freeze_layers": 0,
        "adapter": None,
        "learning_rate": asked.learning_rate,
        "num_train_epochs": asked.num_train_epochs,
        "teacher_logits": str(teacher),
        "temperature": asked.temperature,
        "label_weight": asked.label_weight,
    }
    quiet = config.model_copy(update={"tracking": Tracking()})
    tokenizer = load_tokenizer(source)
    made = train_in(folder, quiet, split, tokenizer, folder / "base", settings, stage="distil")
    shutil.rmtree(teacher.parent)
    return made


distil = task(name="distil", task_run_name="distil", cache_policy=NO_CACHE)(distil_student)
