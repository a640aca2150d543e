"""The rows and base models that `benchmarks.training` trains with: real, given, or drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.worker.batches import EncodedRows, write_rows
from tasks.worker.spec import TrainSpec

SHIPPED = {"sms_spam": 5e-5, "tweet_sentiment": 1e-4}
"""Shipped configs, and their learning rates."""
_DRAWN_LENGTHS = (3.3, 0.5)
"""Mean and standard deviation of the logarithm of drawn lengths, as those of SMS and tweets are."""
_BERT: dict[str, dict[str, Any]] = {
    "tiny": {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2},
    "minilm": {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12},
    "bert-base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12},
    "bert-large": {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16},
}
"""Shapes of BERT; feed-forward layers are four times as wide as the others."""
_LLAMA: dict[str, Any] = {
    "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SHAPES = (*_BERT, "llama-1b")
LORA = {"peft_type": "LORA", "target_modules": "all-linear", "r": 16, "lora_alpha": 32}


@dataclass(frozen=True)
class Case:
    """Rows in `train/` and `validation/` of a folder, a base model, and how it is trained on them."""

    rows: Path
    base_model: Path
    origin: str
    learning_rate: float = 1e-4
    adapter: dict[str, Any] | None = None

    def spec(self, output: Path, **settings: Any) -> TrainSpec:
        """Return what the worker is asked to do, with the defaults of the config's section."""
        from transformers import AutoConfig

        labels = int(EncodedRows(self.rows / "train").labels.max()) + 1
        chosen: dict[str, Any] = {
            "num_hidden_layers": None, "freeze_layers": 0, "num_train_epochs": 1,
            "train_batch_size": 32, "max_tokens_per_device": 16_384,
            "gradient_checkpointing": False, "optim": "adamw_torch_fused", "warmup_ratio": 0.1,
            "weight_decay": 0.01, "max_grad_norm": 1.0, "class_weights": "none",
            "metric_for_best_model": "f1", "early_stopping_patience": 1000, "seed": 1,
            "device": "auto", "precision": "auto", "parallel": "ddp", "torch_compile": False,
            "full_determinism": False, "save_steps": 1.0, **settings,
        }  # fmt: skip
        return TrainSpec(
            base_model=str(self.base_model),
            train=str(self.rows / "train"),
            validation=str(self.rows / "validation"),
            output=str(output),
            labels=[str(label) for label in range(max(labels, 2))],
            pad_token_id=AutoConfig.from_pretrained(self.base_model).pad_token_id or 0,
            adapter=self.adapter,
            learning_rate=self.learning_rate,
            **chosen,
        )


def shipped_case(name: str, folder: Path) -> Case:
    """Return a shipped config's case, from cached sources where they are; needs the whole project."""
    from configs.loading import load_config
    from flows.checking import check_data
    from tasks.encoding import encode, load_tokenizer
    from tasks.sources import fetch

    config = load_config(f"configs/{name}.yaml")
    split = check_data(config).split
    if split is None:
        raise SystemExit(f"{name}: the rows were not split; nothing is measured")
    base = fetch(config.training.base_model)
    tokenizer = load_tokenizer(base.path)
    labels, longest = config.data.label_names, config.training.max_length
    for side in ("train", "validation"):
        encode(split.path(f"{side}.parquet"), tokenizer, labels, longest, folder / side)
    return Case(folder, base.path, f"configs/{name}.yaml", config.training.learning_rate)


def given_case(name: str, rows: Path, base_model: Path | None, folder: Path) -> Case:
    """Return the case of rows that are encoded already, in `rows/NAME` or in `rows` itself."""
    found = rows / name if (rows / name).is_dir() else rows
    if base_model is None:
        base_model, origin = write_model("minilm", folder / "model"), "random weights"
    else:
        origin = "given weights"
    return Case(found, base_model, f"given rows, {origin}", SHIPPED.get(name, 1e-4))


def drawn_case(shape: str, folder: Path, count: int, *, full: int | None = None) -> Case:
    """Return a case of so many random rows, all `full` tokens long if that is set.

    Which of two labels a row has can be learnt from its second token.
    """
    model = folder / "model"
    if not model.exists():
        write_model(shape, model)
    rows = folder / ("mixed" if full is None else f"full-{full}")
    generator = np.random.default_rng(0)
    for side, n in (("train", count), ("validation", 64)):
        lengths = np.exp(generator.normal(*_DRAWN_LENGTHS, n)).astype(int).clip(4, 128)
        _write_drawn(rows / side, lengths if full is None else [full] * n, _words(shape), generator)
    lora = LORA if shape == "llama-1b" else None
    return Case(rows, model, "drawn rows, random weights", adapter=lora)


def _write_drawn(
    folder: Path, lengths: Sequence[int] | Any, words: int, generator: np.random.Generator
) -> None:
    """Write rows of random tokens; a token n times another's number is drawn 1 / n times as often."""
    labels = generator.integers(0, 2, len(lengths)).tolist()
    ids = [
        np.exp(generator.uniform(np.log(1000), np.log(words), length)).astype(int).tolist()
        for length in lengths
    ]
    for row, label in zip(ids, labels, strict=True):
        row[:2] = [101, 500 + label]
    write_rows(folder, ids, labels)


def _words(shape: str) -> int:
    """Return the size of a shape's vocabulary."""
    if shape == "llama-1b":
        return int(_LLAMA["vocab_size"])
    return 2000 if shape == "tiny" else 30_522  # BERT's own


def write_model(shape: str, folder: Path) -> Path:
    """Write a model of that shape with random weights; return its folder."""
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForSequenceClassification,
    )

    torch.manual_seed(0)
    if shape == "llama-1b":
        model: Any = LlamaForSequenceClassification  # transformers leaves its making untyped
        model(LlamaConfig(**_LLAMA)).save_pretrained(folder)
    else:
        own = _BERT[shape]
        config = BertConfig(
            vocab_size=_words(shape), intermediate_size=4 * own["hidden_size"], **own
        )
        BertForSequenceClassification(config).save_pretrained(folder)
    return folder
