"""What the worker is asked to do: a JSON file written by the stage that starts it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class _Spec:
    def write(self, file: Path) -> None:
        """Write the spec as JSON."""
        file.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return the spec in a JSON file."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class TrainSpec(_Spec):
    """Fine-tune `base_model` on `train`, keep the epoch that is best on `validation`.

    `train` and `validation` are folders of encoded rows (see `batches.EncodedRows`). Everything is
    written under `output`: `model/`, `result.json`, and `checkpoint-*/` on the way. The fields
    from `num_hidden_layers` on are those of the config's `training` section, but for `save_steps`:
    the share of all updates after which a checkpoint is written, which is of its `launch`; and the
    last three: a file of a teacher's logits [n_rows, n_labels] on the rows of `train`, float32, and
    how they take part in the loss (see `optimizing.row_losses`).
    """

    base_model: str
    train: str
    validation: str
    output: str
    labels: list[str]
    pad_token_id: int
    num_hidden_layers: int | None
    freeze_layers: int
    adapter: dict[str, Any] | None
    learning_rate: float
    num_train_epochs: int
    train_batch_size: int
    max_tokens_per_device: int
    gradient_checkpointing: bool
    optim: str
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    class_weights: str
    metric_for_best_model: str
    early_stopping_patience: int
    seed: int
    device: str
    precision: str
    parallel: str
    torch_compile: bool
    full_determinism: bool
    save_steps: float
    teacher_logits: str | None = None
    temperature: float = 1.0
    label_weight: float = 1.0


@dataclass(frozen=True)
class ScoreSpec(_Spec):
    """Write the logits [n_rows, n_labels], float32, of `rows` under `model` to the file `output`."""

    model: str
    rows: str
    output: str
    pad_token_id: int
    device: str
