"""A toy task for the training worker: texts that a glance at any word tells apart."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from tasks.worker.batches import write_rows
from tasks.worker.spec import TrainSpec
from tasks.worker.training import train

LABELS = ["ham", "spam"]
WORDS = {
    "ham": ["are", "we", "still", "on", "for", "lunch", "at", "home", "later", "friend", "meeting"],
    "spam": ["win", "a", "free", "prize", "claim", "your", "cash", "now", "urgent", "offer", "txt"],
}
SMALL: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
    "initializer_range": 0.3,  # so that the rows' logits do differ
}
Weights = dict[str, torch.Tensor]


def toy_bert(**changes: Any) -> Any:
    """Return a BERT of two narrow layers with random weights."""
    return BertForSequenceClassification(BertConfig(**{**SMALL, **changes}))


def toy_llama() -> Any:
    """Return a Llama of two narrow layers with random weights, a decoder."""
    config = LlamaConfig(**{**SMALL, "initializer_range": 0.1}, num_key_value_heads=1)
    made: Any = LlamaForSequenceClassification
    return made(config)


def toy_texts(count: int, seed: int, spam_share: float = 0.5) -> list[tuple[str, str]]:
    """Return (text, label) pairs that a glance at any word tells apart."""
    draw = np.random.default_rng(seed)
    pairs = []
    for number in range(count):
        label = LABELS[int(number < spam_share * count)]
        words = draw.choice(WORDS[label], size=draw.integers(3, 9))
        pairs.append((" ".join(words), label))
    return [pairs[i] for i in draw.permutation(count)]


def encode(folder: Path, base: Path, pairs: list[tuple[str, str]]) -> Path:
    """Write the pairs as the worker's encoded rows."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids: list[list[int]] = tokenizer([text for text, _ in pairs])["input_ids"]
    write_rows(folder, ids, [LABELS.index(label) for _, label in pairs])
    return folder


def toy_spec(folder: Path, base: Path) -> TrainSpec:
    """Return a spec that trains a model on 48 rows on the CPU; `output` is there and empty."""
    (folder / "out").mkdir()
    return TrainSpec(
        base_model=str(base),
        train=str(encode(folder / "train", base, toy_texts(48, 1))),
        validation=str(encode(folder / "validation", base, toy_texts(16, 2))),
        output=str(folder / "out"),
        labels=LABELS,
        pad_token_id=0,
        num_hidden_layers=None,
        freeze_layers=0,
        adapter=None,
        learning_rate=2e-3,
        num_train_epochs=4,
        train_batch_size=8,
        max_tokens_per_device=16_384,
        gradient_checkpointing=False,
        optim="adamw_torch_fused",
        warmup_ratio=0.1,
        weight_decay=0.01,
        max_grad_norm=1.0,
        class_weights="none",
        metric_for_best_model="loss",
        early_stopping_patience=100,
        seed=5,
        device="cpu",
        precision="fp32",
        parallel="ddp",
        torch_compile=False,
        full_determinism=False,
        save_steps=1.0,
    )


def elsewhere(spec: TrainSpec, name: str, **changes: Any) -> TrainSpec:
    """Return the spec with a fresh output folder and the changes."""
    output = Path(spec.output).with_name(name)
    output.mkdir()
    return replace(spec, output=str(output), **changes)


def with_base(spec: TrainSpec, model: Any) -> TrainSpec:
    """Return the spec with a model, saved beside its output, as its base model."""
    base = Path(spec.output).with_name("another-base")
    model.save_pretrained(base)
    return replace(spec, base_model=str(base))


def without_dropout(spec: TrainSpec) -> TrainSpec:
    """Return the spec with a copy of its base model that has no dropout."""
    base = Path(spec.output).with_name("base-without-dropout")
    base.mkdir()
    for file in Path(spec.base_model).iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    config = json.loads((base / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (base / "config.json").write_text(json.dumps(config))
    return replace(spec, base_model=str(base))


def trained(spec: TrainSpec) -> tuple[Weights, dict[str, Any]]:
    """Train in this process, with one thread; return the weights kept and the result."""
    torch.set_num_threads(1)  # a tiny model gains nothing from more, and waits for them
    train(spec)
    return weights_of(Path(spec.output)), result_of(spec)


class _ClosedAt(io.StringIO):
    """Standard output whose reader is gone once an epoch, or an update, is told of."""

    def __init__(self, last: str) -> None:
        super().__init__()
        self.last = last

    def write(self, text: str) -> int:
        if self.last in text:
            raise BrokenPipeError
        return super().write(text)


def train_cut_off(spec: TrainSpec, epoch: int) -> None:
    """Train until an epoch is done that is not yet in a checkpoint."""
    _train_cut_off(spec, f'"event": "epoch", "epoch": {epoch},')


def train_cut_off_at_update(spec: TrainSpec, update: int) -> None:
    """Train until an update is done that is not yet in a checkpoint."""
    _train_cut_off(spec, f'"event": "step", "done": {update},')


def _train_cut_off(spec: TrainSpec, last: str) -> None:
    torch.set_num_threads(1)
    with redirect_stdout(_ClosedAt(last)), pytest.raises(BrokenPipeError):
        train(spec)


def weights_of(output: Path) -> Weights:
    """Return the weights of the model in an output folder."""
    return load_file(output / "model" / "model.safetensors")


def result_of(spec: TrainSpec) -> dict[str, Any]:
    """Return what the worker wrote of a training."""
    result: dict[str, Any] = json.loads((Path(spec.output) / "result.json").read_text())
    return result


def largest_difference(one: Weights, other: Weights) -> float:
    """Return the largest difference between weights of the same names."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def moved(before: Weights, after: Weights) -> set[str]:
    """Return the names of the weights that are not the same to the bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}
