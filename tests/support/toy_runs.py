"""Runs of the worker on a tiny model and toy rows, by one process or by several."""

import io
import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from configs.training import Training
from tasks.worker.batches import write_rows
from tasks.worker.spec import TrainSpec

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(  # what each rank would import for itself
    ["tasks.worker.training", "toy_runs", "transformers.models.bert.modeling_bert", "torch._dynamo"]
)


def toy_rows(folder: Path, count: int, seed: int) -> Path:
    """Write rows of 3 to 20 token ids, of a part of the vocabulary that their label decides."""
    draw = np.random.default_rng(seed)
    labels = [int(draw.random() < 0.3) for _ in range(count)]
    ids = [
        [1, *draw.integers(4 + 60 * label, 100 + 60 * label, draw.integers(1, 19)).tolist(), 2]
        for label in labels
    ]
    write_rows(folder, ids, labels)
    return folder


def without_dropout(base: Path, copy: Path) -> Path:
    """Copy a model's folder; the copy has no dropout."""
    copy.mkdir()
    for file in base.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return copy


def toy_spec(folder: Path, base: Path, *, save_steps: float = 0.05, **settings: Any) -> TrainSpec:
    """Return a spec that trains `base` on toy rows on the CPU; its output folder is made."""
    output = folder / "out"
    output.mkdir(parents=True)
    section = Training(
        **{
            "learning_rate": 2e-3,
            "num_train_epochs": 3,
            "metric_for_best_model": "loss",
            "early_stopping_patience": 100,
            "device": "cpu",
            **settings,
        }
    ).model_dump(exclude={"base_model", "max_length"})
    return TrainSpec(
        base_model=str(base),
        train=str(toy_rows(folder / "train", 49, 1)),
        validation=str(toy_rows(folder / "validation", 32, 2)),
        output=str(output),
        labels=["ham", "spam"],
        pad_token_id=0,
        save_steps=save_steps,
        **section,
    )


@dataclass(frozen=True)
class Outcome:
    """What a run left: its result and the weights that it kept."""

    result: dict[str, Any]
    weights: dict[str, torch.Tensor]

    @classmethod
    def of(cls, output: Path) -> "Outcome":
        """Read it from a run's output folder."""
        result = json.loads((output / "result.json").read_text(encoding="utf-8"))
        return cls(result, load_file(output / "model" / "model.safetensors"))


class _DiesTelling(io.StringIO):
    """A standard output that kills its process when the given epoch is told of."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.sign = f'"event": "epoch", "epoch": {epoch},'

    def write(self, text: str) -> int:
        if self.sign in text:
            os.kill(os.getpid(), signal.SIGKILL)
        return len(text)


def _rank(rank: int, world: int, port: int, spec: TrainSpec, dies: int) -> None:
    from tasks.worker.training import train

    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), **where}
    sys.stdout = _DiesTelling(dies)
    torch.set_num_threads(1)
    train(spec)


def start(spec: TrainSpec, world: int, dies: int = 0) -> list[ForkServerProcess]:
    """Start the ranks as torchrun would; the first is killed when it has judged epoch `dies`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ranks = [_fork.Process(target=_rank, args=(r, world, port, spec, dies)) for r in range(world)]
    for rank in ranks:
        rank.start()
    return ranks


def codes(ranks: list[ForkServerProcess]) -> list[int | None]:
    """Wait for the ranks; return what they ended with."""
    for rank in ranks:
        rank.join(300)
    return [rank.exitcode for rank in ranks]


def run(spec: TrainSpec, world: int) -> Outcome:
    """Train to the end by so many processes."""
    assert codes(start(spec, world)) == [0] * world
    return Outcome.of(Path(spec.output))


def gone_on_with(spec: TrainSpec, name: str, world: int, **changes: Any) -> Outcome:
    """Train on to the end in a copy of the output folder that an interrupted run left."""
    output = Path(spec.output).with_name(name)
    shutil.copytree(spec.output, output)
    return run(replace(spec, output=str(output), **changes), world)


def differences(one: Outcome, other: Outcome) -> dict[str, float]:
    """Return the largest differences of the loss curves, the epochs' figures and the weights.

    A key's bias is left out: softmax takes no notice of it, so that its gradient is rounding alone,
    which Adam scales up.
    """
    curves = [
        np.array([point["loss"] for point in outcome.result["curve"]]) for outcome in (one, other)
    ]
    epochs = [
        np.array([list(epoch.values()) for epoch in outcome.result["epochs"]])
        for outcome in (one, other)
    ]
    assert one.weights.keys() == other.weights.keys()
    return {
        "curve": float(np.abs(curves[0] - curves[1]).max()),
        "epochs": float(np.abs(epochs[0] - epochs[1]).max()),
        "weights": max(
            float((one.weights[name] - other.weights[name]).abs().max())
            for name in one.weights
            if not name.endswith("key.bias")
        ),
    }
