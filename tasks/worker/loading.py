"""Load the base model as a classifier of the labels."""

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from tasks.worker.spec import TrainSpec


def load_model(spec: TrainSpec) -> Any:
    """Return the base model with a head for the labels, in float32, on the CPU."""
    depth = {} if spec.num_hidden_layers is None else {"num_hidden_layers": spec.num_hidden_layers}
    model = AutoModelForSequenceClassification.from_pretrained(
        spec.base_model,
        num_labels=len(spec.labels),
        id2label=dict(enumerate(spec.labels)),
        label2id={label: number for number, label in enumerate(spec.labels)},
        ignore_mismatched_sizes=True,  # a base model's own head for other labels is drawn anew
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        **depth,
    )
    model.config.pad_token_id = spec.pad_token_id
    return model
